"""The session's engine by its name: ours, or somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..cases.case import Case, TextKey
from ..common.errors import RequestError, naming_extras
from ..config.options import FOREIGN_ENGINES
from ..records.text_set import TextSet
from .external import ForeignEngine
from .logprobs.engine import ServedReplay, own_encoder

if TYPE_CHECKING:
    from .own.local import LocalEngine

Report = Callable[[str, int, int], None]


def make_engine(
    name: str,
    plan: Sequence[Case],
    *,
    url: str | None,
    draft_url: str | None = None,
    device: str,
    dtype: str,
    stored_texts: Callable[[TextKey], TextSet | None],
    kept: Path,
    report: Report,
) -> LocalEngine | ForeignEngine | ServedReplay:
    """An engine for the cases of `plan`; ours imports torch here. Raises RequestError where torch
    or the engine is missing.
    """
    if name in FOREIGN_ENGINES:
        made = ForeignEngine(name, url=url, device=device, dtype=dtype, kept=kept, report=report)
        _ = made.adapter  # what is missing is said at once
        return made
    if name == ServedReplay.name:
        return ServedReplay(
            plan,
            url=url,
            draft_url=draft_url,
            folder=kept,
            encode=own_encoder,
            stored_texts=stored_texts,
            report=report,
        )
    if url is not None:
        raise RequestError(
            f"--specdec-engine={name} runs in this process; leave --specdec-url out, or name "
            "another engine"
        )
    with naming_extras():
        from .own.decode_engine import DecodeEngine
        from .own.replay_engine import ReplayEngine
    kind = {ReplayEngine.name: ReplayEngine, DecodeEngine.name: DecodeEngine}[name]
    return kind(
        plan, device=device, dtype=dtype, stored_texts=stored_texts, kept=kept, report=report
    )


def models_of(engine: LocalEngine | ForeignEngine | ServedReplay) -> LocalEngine:
    """The models of a session in this process. Raises RequestError without torch, or where both
    models are served.
    """
    return engine.local if isinstance(engine, ForeignEngine | ServedReplay) else engine
