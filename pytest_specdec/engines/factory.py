"""The session's engine by its name: one of ours, or an external one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..cases.case import Case, TextKey
from ..common.errors import RequestError, naming_extras
from ..config.engines import HIDDEN_STATES, LOGPROBS, OWN
from ..records.text_set import TextSet
from .adapter_api import Progress, no_progress
from .executor import Executor
from .external import ExternalEngine
from .models import ModelPool
from .protocol import Engine

_NOT_HERE = (
    "both models run on servers and none in this process; leave out the fixtures that need a model "
    "here, and name a file of costs that were measured where the models run: --specdec-costs=FILE"
)
"""Why a session with this engine loads no models."""


def make_models(
    engine: str,
    *,
    device: str,
    dtype: str,
    offload: bool = False,
    asks_again: bool = False,
    report: Progress = no_progress,
) -> ModelPool:
    """The models of a session that measures with an engine; none is loaded yet."""
    unavailable = _NOT_HERE if engine == LOGPROBS else None
    return ModelPool(
        device,
        dtype,
        report=report,
        unavailable=unavailable,
        outer_targets=engine == HIDDEN_STATES,
        offload=offload,
        asks_again=asks_again,
    )


def make_engine(
    name: str,
    plan: Sequence[Case],
    models: ModelPool,
    *,
    url: str | None,
    draft_url: str | None = None,
    stored_texts: Callable[[TextKey], TextSet | None],
    kept: Path | None,
    executor: Executor | None = None,
) -> Engine:
    """An engine for the cases of `plan`, whose work is done in `executor` where it can be divided;
    what it needs is imported here. Raises RequestError where that is missing.
    """
    if name not in OWN:
        engine = ExternalEngine(name, models, url=url, kept=kept)
        _ = engine.adapter  # what is missing is reported at once
        return engine
    if name == LOGPROBS:
        with naming_extras():
            from .logprobs.engine import ServedReplay, own_encoder
        return ServedReplay(
            plan,
            models,
            url=url,
            draft_url=draft_url,
            folder=kept,
            encode=own_encoder,
            stored_texts=stored_texts,
        )
    if name == HIDDEN_STATES:
        with naming_extras():
            from .own.hidden_states import HiddenStatesEngine
        return HiddenStatesEngine(
            plan, models, folder=url, stored_texts=stored_texts, executor=executor
        )
    if url is not None:
        raise RequestError(
            f"--specdec-engine={name} runs in this process; leave --specdec-url out, or name "
            "another engine"
        )
    with naming_extras():
        from .own.decode_engine import DecodeEngine
        from .own.replay_engine import ReplayEngine
    if name == DecodeEngine.name:
        return DecodeEngine(models)
    return ReplayEngine(plan, models, stored_texts=stored_texts, kept=kept, executor=executor)
