"""A trace's lines, read and checked by themselves, before any case is compared with them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ...cases.case import Sampling, default_rule
from ...common.bounded_files import read_text
from ...common.errors import RequestError
from ...common.strict_json import JsonError, parse_json
from ..adapter_api import (
    GenerationRequest,
    PooledCounters,
    Reported,
    ReportedRound,
    TextEnds,
    Timings,
)
from ..counting.checks import check_pooled, check_reported
from .trace_format import Header, Line, Sums

_CURE = "see docs/trace.md for the schema"


def read_trace(path: Path) -> tuple[Header, list[tuple[int, Line]]]:
    """A trace's header and its lines with their numbers.

    Raises RequestError, with the line, for anything else, and MeasurementError for counts that
    contradict each other or the text that they are of.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise RequestError(
            f"trace {path} cannot be read ({reason}); name a file: --specdec-url=FILE.jsonl"
        ) from None
    # Not splitlines(): JSON may hold other line separators unescaped.
    rows = [(number, row) for number, row in enumerate(text.split("\n"), 1) if row.strip()]
    if not rows:
        raise RequestError(f"trace {path} is empty; {_CURE}")
    header: Header = _decoded(path, *rows[0], Header, whole=True)
    last = len(rows) - 1
    lines: list[tuple[int, Line]] = [
        (number, _decoded(path, number, row, Line, whole=at < last or text.endswith("\n")))
        for at, (number, row) in enumerate(rows[1:], 1)
    ]
    for number, line in lines:
        _check_line(line, header.k, f"{path}:{number}")
    _check_counts(path, header, lines)
    return header, lines


def _check_line(line: Line, k: int, where: str) -> None:
    """Raises RequestError for numbers that no run can have; `counting.checks` compares the rest
    with the texts.
    """
    if line.pooled is not None and line != Line(pooled=line.pooled):
        raise RequestError(
            f"{where}: pooled beside fields of a text; write the run's sums on a separate line"
        )
    if line.masks is not None:
        _check_masks(line, where)
    for number, (drafted, accepted) in enumerate(line.rounds or ()):
        if not 0 <= drafted <= k:
            raise RequestError(
                f"{where}, round {number}: drafted is {drafted} and k is {k}; {_CURE}"
            )
        if not 0 <= accepted <= drafted:
            raise RequestError(
                f"{where}, round {number}: accepted is {accepted} of {drafted} drafted tokens; "
                f"{_CURE}"
            )
    for sums in (line.totals, line.pooled):
        if sums is not None and (problem := _contradiction(sums, k)):
            raise RequestError(f"{where}: {problem}; {_CURE}")


def _check_masks(line: Line, where: str) -> None:
    """Raises RequestError for masks that are not those of the line's tokens."""
    masks = line.masks or ()
    if len(masks) != len(line.new_ids):
        raise RequestError(
            f"{where}: {len(masks)} masks and {len(line.new_ids)} new_ids; record one for each "
            "new token, null where all are allowed"
        )
    for number, mask in enumerate(masks):
        if mask is not None and (not mask or any(first > last for first, last in mask)):
            raise RequestError(
                f"{where}: mask {number} allows no token, or a range ends before it begins; {_CURE}"
            )


def _contradiction(sums: Sums, k: int) -> str | None:
    if sums.accepted > sums.drafted:
        return f"accepted is {sums.accepted}, more than the {sums.drafted} drafted"
    if sums.rounds is not None and sums.drafted > sums.rounds * k:
        return f"drafted is {sums.drafted}, more than k={k} in each of {sums.rounds} rounds"
    positions = sums.per_position
    if positions is None:
        return None
    ladder = [*([] if sums.rounds is None else [sums.rounds]), *positions]
    if len(positions) > k or any(after > before for before, after in itertools.pairwise(ladder)):
        return f"per_position has more than k={k} positions, or rises"
    return (
        None
        if sum(positions) == sums.accepted
        else f"per_position adds up to {sum(positions)} and accepted is {sums.accepted}"
    )


def _check_counts(path: Path, header: Header, lines: Sequence[tuple[int, Line]]) -> None:
    """Rounds and sums fit each other and their texts, whichever case the suite measures."""
    sampling = Sampling(header.temperature, header.top_k, header.top_p)
    rule = header.rule or default_rule(header.temperature)
    request = GenerationRequest(
        prompts=(),
        k=header.k,
        depth=header.depth,
        target="",
        drafter=header.drafter,
        sampling=sampling,
        new_tokens=header.new_tokens,
        seed=header.seed,
        rule=rule,
    )
    texts: list[Reported] = []
    pooled: PooledCounters | None = None
    for number, line in lines:
        where = f"{path}:{number}"
        if line.pooled is None:
            texts.append(reported_of(header, line, where))
            check_reported(texts[-1], request)
        elif pooled is not None:
            raise RequestError(f"{where}: pooled occurs twice; write the run's sums once")
        else:
            pooled = PooledCounters(line.pooled.totals, header.convention, where)
    if pooled is None:
        return
    if counting_text := next(
        (text for text in texts if text.rounds is not None or text.totals is not None), None
    ):
        raise RequestError(
            f"{counting_text.where}: rounds or totals of a text beside the sums of the run; "
            "write one of them"
        )
    check_pooled(pooled, texts, request)


def reported_of(header: Header, line: Line, where: str) -> Reported:
    """What a line reports of a text. Raises RequestError where prompt or tokens are missing."""
    key = line.prompt_key
    if key is None:
        raise RequestError(f"{where}: name the prompt by one of prompt, messages and key; {_CURE}")
    if not line.new_ids and line.emitted is None:
        raise RequestError(f"{where}: neither new_ids nor emitted; {_CURE}")
    if line.new_ids and line.emitted not in (None, len(line.new_ids)):
        raise RequestError(
            f"{where}: {len(line.new_ids)} new_ids and emitted is {line.emitted}; leave emitted out"
        )
    return Reported(
        key=key,
        prompt_ids=line.prompt_ids,
        new_ids=line.new_ids,
        convention=header.convention,
        rounds=None if line.rounds is None else tuple(ReportedRound(*pair) for pair in line.rounds),
        totals=None if line.totals is None else line.totals.totals,
        emitted=None if line.new_ids else line.emitted,
        timings=None
        if line.seconds is None
        else Timings(seconds=line.seconds, draft_ms=line.draft_ms, verify_ms=line.verify_ms),
        altered=header.altered,
        where=where,
        finish=line.finish_reason,
        ends=TextEnds(header.eos, header.stop),
        masks=line.masks,
        masked_drafts=header.masked_drafts,
    )


def _decoded(path: Path, number: int, row: str, shape: type[Any], *, whole: bool) -> Any:
    try:
        return msgspec.convert(parse_json(row), type=shape)
    except msgspec.ValidationError as error:
        raise RequestError(f"{path}:{number}: {str(error)[:200]}; {_CURE}") from None
    except JsonError as error:
        if not whole:
            raise RequestError(
                f"{path}:{number}: the file is cut off in this line; record it to the end"
            ) from None
        raise RequestError(f"{path}:{number}: not JSON ({error.problem}); {_CURE}") from None
