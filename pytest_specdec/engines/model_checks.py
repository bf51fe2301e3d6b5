"""What an engine emitted and counted, judged by its own models: conformance and the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..acceptance.lookup import NGRAM
from ..acceptance.rounds import Round
from ..cases.case import Case
from ..checkpoints.checkpoint import case_checkpoint
from ..common.errors import RequestError
from .counting.normalise import starts_of
from .encoding import decoder
from .protocol import Engine
from .text_endings import ending_faults, target_ends

if TYPE_CHECKING:
    from ..lossless.texts.conformance import Conformance
    from .counting.oracle import Agreement
    from .counting.possible_rounds import CountedRun


def conformance(engine: Engine, case: Case, alpha: float) -> Conformance:
    """Whether the texts that were emitted for a case follow its target; a lossless engine fails
    with probability alpha.

    Raises RequestError for a lossy rule or mode, and without the target's weights.
    """
    if case.lossy:
        raise RequestError(
            f"rule {case.rule!r} is lossy by design, so its texts cannot conform; leave "
            "specdec_conformance out"
        )
    engine.check_target(case)
    run = engine.counted(case)
    if run is not None:
        _refuse_altered(engine, run, "specdec_conformance")
    processors = case.texts.processors if run is None else run.processors
    return engine.conformance(case, alpha, _rejection_rounds(run), processors)


def ending_fault(engine: Engine, case: Case) -> tuple[str | None, int]:
    """The first thing that is wrong with the ends of the texts that were emitted for a case, in a
    sentence, None where nothing is; and the number of texts.

    Raises RequestError for an engine without texts of its own, and where a declared stop needs the
    target's tokenizer.
    """
    run = engine.counted(case)
    if run is None:
        raise RequestError(
            f"engine {engine.name!r} replays texts and emits none; name the engine that decodes"
        )
    checkpoint = case_checkpoint(case.target)
    target = None if checkpoint is None else target_ends(checkpoint)
    for text in run.reported:
        faults = ending_faults(text, case.texts.new_tokens, target, decoder(checkpoint))
        if faults:
            return faults[0].sentence, len(run.reported)
    return None, len(run.reported)


def oracle(engine: Engine, case: Case, alpha: float) -> Agreement:
    """Whether the rounds counted for a case are those that its models imply; a right engine fails
    with probability alpha.

    Raises RequestError for a lossy rule or mode, for an engine that does not count rounds,
    and without token ids.
    """
    if case.lossy:
        raise RequestError(
            f"rule {case.rule!r} is lossy by design, so its rounds do not follow from its models; "
            "leave specdec_oracle out"
        )
    target, run = engine.models.model(case.target), engine.counted(case)
    if run is None:
        raise RequestError(
            f"engine {engine.name!r} does not count rounds, so there is nothing to check; leave "
            "specdec_oracle out"
        )
    _refuse_altered(engine, run, "specdec_oracle")
    _check_lookup(engine, run)
    drafter = engine.models.drafting(case)
    from ..decoding.replay import check_drafter
    from .counting.oracle import agreement

    check_drafter(target, drafter, case.depth)
    return agreement(run, target, drafter, alpha)


def _rejection_rounds(run: CountedRun | None) -> list[list[Round]] | None:
    """The rounds of the emitted texts; None where they are not known, or end by another rule than
    rejection sampling.
    """
    if run is None or run.case.rule != "rejection" or run.definition.end != "inside":
        return None
    return [starts_of(reported) for reported in run.reported]


def _refuse_altered(engine: Engine, run: CountedRun, fixture: str) -> None:
    if run.altered is not None:
        raise RequestError(
            f"{engine.name} runs {run.altered}, so its texts and counts do not follow from its "
            f"models; turn that off, or leave {fixture} out"
        )


def _check_lookup(engine: Engine, run: CountedRun) -> None:
    """Only the n-grams that replay looks up can be replayed."""
    ngrams = run.reported[0].convention.ngrams
    if not run.case.uses_lookup or ngrams == (1, NGRAM):
        return
    lookup = (
        "does not say which n-grams it looks up"
        if ngrams is None
        else f"looks up n-grams of {_span(ngrams)} tokens"
    )
    raise RequestError(
        f"{engine.name} {lookup}, and only those of {_span((1, NGRAM))} tokens can be replayed; "
        "leave the oracle out"
    )


def _span(ngrams: tuple[int, int]) -> str:
    return f"{ngrams[0]} to {ngrams[1]}"
