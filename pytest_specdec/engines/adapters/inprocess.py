"""What the adapters of engines in this process share: threads, the pair, and ids that never end a
text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...checkpoints.checkpoint import check_pair
from ...common.errors import RequestError
from ...decoding.loading import LoadedModel, load_model
from ...decoding.sampling import eos_ids
from ..adapter_api import (
    EngineSetup,
    GenerationRequest,
    Progress,
    PromptRequest,
    ReportedRound,
)

_NUL = ("\u0100", "<0x00>")
"""The byte 0 in vocabularies of bytes: in no text."""


class LoadedPair(NamedTuple):
    """Target and draft model as this project loads them."""

    target: LoadedModel
    drafter: LoadedModel


def pair_of(request: GenerationRequest, setup: EngineSetup) -> LoadedPair:
    """The request's models. Raises RequestError where they do not go together."""
    load = setup.model or (lambda name: load_model(name, setup.device, setup.dtype))
    pair = LoadedPair(load(request.target), load(request.drafter))
    check_pair(pair.target.checkpoint, pair.drafter.checkpoint, 0)
    return pair


def in_turn(
    name: str, prompts: Sequence[PromptRequest], report: Progress
) -> Iterator[PromptRequest]:
    """The prompts of a request one after the other, with the progress of an engine by name."""
    for done, prompt in enumerate(prompts):
        report(f"{name}: decode", done, len(prompts))
        yield prompt
    report(f"{name}: decode", len(prompts), len(prompts))


def threads() -> int:
    """Threads for an engine in this process: OMP_NUM_THREADS, else one for each core."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return int(limit) if limit.isdigit() and int(limit) else os.cpu_count() or 1


def unused_id(target: LoadedModel) -> int:
    """A token that no text holds: the EOS token of an engine that is not to stop.

    Raises RequestError where every id of the vocabulary may occur.
    """
    vocabulary, known = target.checkpoint.vocabulary or 0, target.tokenizer.get_vocab()
    if unnamed := set(range(vocabulary)) - set(known.values()):
        return max(unnamed)
    for name in _NUL:
        if name in known:
            return int(known[name])
    raise RequestError(
        f"{target.checkpoint.folder}: its vocabulary has no unused id, and this engine needs one "
        "that never ends a text; use another engine"
    )


def until_eos(
    new: Sequence[int], rounds: Sequence[ReportedRound], target: LoadedModel, first: int
) -> tuple[int, int]:
    """Tokens and rounds up to the first EOS token, for an engine that was kept from stopping there.

    `first` tokens are emitted before the first round.
    """
    stops = eos_ids(target)
    length = next((at + 1 for at, token in enumerate(new) if token in stops), len(new))
    emitted, played = first, 0
    while emitted < length and played < len(rounds):
        emitted += rounds[played].accepted + 1
        played += 1
    return length, played
