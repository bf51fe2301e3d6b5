"""What an engine's own numbers must satisfy with any models; numbers that do not are refused.

Every round emits the tokens that it accepted and one more, so rounds and accepted tokens add up to
the text. No other check finds a counter that leaves rounds out: its rate looks as plausible as the
right one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ...common.errors import MeasurementError
from ..adapter_api import (
    CountingConvention,
    GenerationRequest,
    PooledCounters,
    Reported,
    ReportedRound,
    Totals,
)

_CURE = (
    "the engine's counters cannot be used as they are; check its version against docs/engines.md, "
    "or report it"
)


def check_reported(text: Reported, request: GenerationRequest) -> None:
    """Check one text's numbers. Raises MeasurementError naming the engine's counter and what to
    do.
    """
    if text.tokens < 1:
        raise MeasurementError(f"{_where(text)} emitted no token; look into the engine's log")
    if text.tokens > request.new_tokens:
        raise MeasurementError(
            f"{_where(text)} emitted {text.tokens} tokens where {request.new_tokens} were asked "
            "for; set the engine's limit"
        )
    if text.rounds is not None:
        _check_rounds(text, text.rounds, request)
    if text.totals is not None:
        _check_sums(_where(text), text.totals, text.convention, request.k)
        _check_emitted(_where(text), text.totals, text.convention, request, [text.tokens])
        if text.rounds is not None:
            _check_agreement(text, text.rounds, text.totals)


def check_pooled(
    pooled: PooledCounters, texts: Sequence[Reported], request: GenerationRequest
) -> None:
    """Check a run's sums against its texts. Raises MeasurementError naming the engine's counter and
    what to do.
    """
    where = pooled.where or "the run"
    _check_sums(where, pooled.totals, pooled.convention, request.k)
    _check_emitted(
        where, pooled.totals, pooled.convention, request, [text.tokens for text in texts]
    )


def rounds_of(totals: Totals, convention: CountingConvention, k: int, tokens: Sequence[int]) -> int:
    """The number of rounds in sums: as counted, or as implied by the sums and the texts' new
    tokens.
    """
    if totals.rounds is not None:
        return totals.rounds
    if convention.end == "full":
        return -(-totals.drafted // k)
    return sum(tokens) - _prefilled(convention, len(tokens)) - totals.accepted


def _check_rounds(
    text: Reported, rounds: Sequence[ReportedRound], request: GenerationRequest
) -> None:
    names, k = text.convention.counters, request.k
    for number, (drafted, accepted) in enumerate(rounds):
        if not 0 <= drafted <= k:
            raise MeasurementError(
                f"{_where(text)}, round {number}: {names.drafted} is {drafted} and k is {k}; start "
                f"the engine with k={k}"
            )
        if not 0 <= accepted <= drafted:
            raise MeasurementError(
                f"{_where(text)}, round {number}: {names.accepted} is {accepted} of {drafted} "
                f"drafted tokens; {_CURE}"
            )
    sums = Totals(
        rounds=len(rounds),
        drafted=sum(one_round.drafted for one_round in rounds),
        accepted=sum(one_round.accepted for one_round in rounds),
    )
    # A list of rounds includes those that drafted nothing, unless the engine leaves them out: then
    # the rounds' places are lost.
    _check_emitted(
        _where(text),
        sums,
        text.convention,
        request,
        [text.tokens],
        last=rounds[-1].accepted if rounds else 0,
    )


def _check_sums(where: str, totals: Totals, convention: CountingConvention, k: int) -> None:
    """0 <= accepted <= drafted <= k rounds, and positions that add up and never rise."""
    names = convention.counters
    named = {
        names.rounds: totals.rounds or 0,
        names.drafted: totals.drafted,
        names.accepted: totals.accepted,
    }
    for name, value in named.items():
        if value < 0:
            raise MeasurementError(
                f"{where}: {name} is {value}, which no counter can be; look into the engine's log"
            )
    if totals.accepted > totals.drafted:
        raise MeasurementError(
            f"{where}: {names.accepted} is {totals.accepted}, more than the {totals.drafted} of "
            f"{names.drafted}; {_CURE}"
        )
    if totals.rounds is not None and totals.drafted > totals.rounds * k:
        raise MeasurementError(
            f"{where}: {names.drafted} is {totals.drafted}, more than k={k} in each of "
            f"{totals.rounds} {names.rounds}; "
            f"start the engine with k={k}"
        )
    if totals.rounds is None and convention.end == "full" and totals.drafted % k:
        raise MeasurementError(
            f"{where}: {names.drafted} is {totals.drafted}, not a multiple of k={k}, although "
            f"every round drafts k; start the engine with k={k}"
        )
    if totals.per_position is not None:
        _check_positions(where, totals, totals.per_position, convention, k)


def _check_positions(
    where: str, totals: Totals, positions: Sequence[int], convention: CountingConvention, k: int
) -> None:
    name = convention.counters.per_position
    if len(positions) > k:
        raise MeasurementError(
            f"{where}: {name} has {len(positions)} positions and k is {k}; start the engine with "
            f"k={k}"
        )
    ladder = [*([] if totals.rounds is None else [totals.rounds]), *positions]
    if min(positions, default=0) < 0 or any(
        after > before for before, after in itertools.pairwise(ladder)
    ):
        raise MeasurementError(
            f"{where}: {name} rises or is negative ({_listed(positions)} of {totals.rounds} "
            f"rounds); {_CURE}"
        )
    if sum(positions) != totals.accepted:
        raise MeasurementError(
            f"{where}: {name} adds up to {sum(positions)} ({_listed(positions)}) and "
            f"{convention.counters.accepted} is "
            f"{totals.accepted}; {_CURE}"
        )


def _check_emitted(
    where: str,
    totals: Totals,
    convention: CountingConvention,
    request: GenerationRequest,
    tokens: Sequence[int],
    last: int | None = None,
) -> None:
    """Rounds and accepted tokens make the text.

    `tokens` are the new tokens of each text, `last` the accepted tokens of the last round where
    they are known.
    """
    if (
        totals.rounds is None
        and convention.end == "full"
        and request.drafter_kind == "prompt-lookup"
    ):
        raise MeasurementError(
            f"{where}: {convention.counters.rounds} is missing, and prompt lookup drafts in some "
            "rounds only; "
            "let the engine count its rounds, or list them"
        )
    rounds, texts = rounds_of(totals, convention, request.k, tokens), len(tokens)
    due = sum(tokens) - _prefilled(convention, texts)
    excess = rounds + totals.accepted - due
    most = (request.k if last is None else last) * texts if convention.undelivered else 0
    if totals.rounds is None and totals.drafted > rounds * request.k:
        raise MeasurementError(
            f"{where}: {convention.counters.drafted} is {totals.drafted}, more than k={request.k} "
            f"in each of the {rounds} "
            f"rounds that the texts leave room for; {_CURE}"
        )
    if -_empty_rounds(convention, request, tokens) <= excess <= most:
        return
    names = convention.counters
    how = "all tokens but the prompt pass's" if not convention.prefill_drafts else "all tokens"
    claim = (
        f"{names.rounds} ({rounds}) and {names.accepted} ({totals.accepted}) make "
        f"{rounds + totals.accepted} tokens"
    )
    what = "leave rounds out" if excess < 0 else "count more than was emitted"
    raise MeasurementError(
        f"{where}: {claim} and {due} were emitted ({how}), so they {what}; {_CURE}"
    )


def _check_agreement(text: Reported, rounds: Sequence[ReportedRound], totals: Totals) -> None:
    """A request's own sums are those of its rounds."""
    names = text.convention.counters
    pairs = (
        (names.drafted, totals.drafted, sum(one_round.drafted for one_round in rounds)),
        (names.accepted, totals.accepted, sum(one_round.accepted for one_round in rounds)),
    )
    for name, total, added in pairs:
        if total != added:
            raise MeasurementError(
                f"{_where(text)}: {name} is {total} and its rounds add up to {added}; {_CURE}"
            )


def _empty_rounds(
    convention: CountingConvention, request: GenerationRequest, tokens: Sequence[int]
) -> int:
    """How many rounds may be missing because they drafted nothing: any with prompt lookup, else the
    last one at the limit.
    """
    if convention.counts_empty:
        return 0
    if request.drafter_kind == "prompt-lookup":
        return sum(tokens)
    return (
        sum(length == request.new_tokens for length in tokens) if convention.end == "clipped" else 0
    )


def _prefilled(convention: CountingConvention, texts: int) -> int:
    """Tokens that the prompt passes of so many texts emit without a round."""
    return 0 if convention.prefill_drafts else texts


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _where(text: Reported) -> str:
    return text.where or f"prompt {text.key}"
