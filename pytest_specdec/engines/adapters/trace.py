"""A recorded run of any engine: JSON lines, one header and one line a text (docs/trace.md).

What a foreign adapter had measured before a fault is kept in the same form, so that it can be read
again.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ...baselines.store import write_all
from ...cases.case import RULES as ALL_RULES
from ...cases.case import Sampling, default_rule
from ...cases.prompts import key_of
from ...common.errors import MeasurementError, RequestError
from ...common.limits import (
    HIGHEST_TEMPERATURE,
    MOST_DEPTH,
    MOST_K,
    MOST_NEW_TOKENS,
    MOST_SEED,
    MOST_TOKEN_ID,
)
from ...common.strict_json import JsonError, parse_json
from ..adapter_api import (
    Capabilities,
    CountingConvention,
    EngineSetup,
    GenerationRequest,
    PooledCounters,
    Reported,
    ReportedRound,
    TextEnds,
    Timings,
    Totals,
)
from ..counting.checks import check_pooled, check_reported
from .capabilities import drafter_kind

SCHEMA: Literal[1] = 1
_CURE = "see docs/trace.md for the schema"

_Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""Words for messages and records: no control characters."""
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_TokenId = Annotated[int, Meta(ge=0, le=MOST_TOKEN_ID)]
_Time = Annotated[float, Meta(ge=0, le=1e12)]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first line: what was run, and how the engine counts (`CountingConvention`)."""

    schema: Literal[1]
    engine: _Name
    """Name and version, for messages and records."""
    k: Annotated[int, Meta(ge=1, le=MOST_K)]
    depth: Annotated[int, Meta(ge=0, le=MOST_DEPTH)] = 0
    temperature: Annotated[float, Meta(ge=0, le=HIGHEST_TEMPERATURE)] = 0.0
    top_k: Annotated[int, Meta(ge=0, le=MOST_TOKEN_ID)] = 0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    new_tokens: Annotated[int, Meta(ge=1, le=MOST_NEW_TOKENS)] = 128
    """The limit that was asked for."""
    drafter: Literal["model", "mtp", "prompt-lookup"] = "model"
    seed: Annotated[int, Meta(ge=0, le=MOST_SEED)] = 0
    prefill_drafts: bool = False
    end: Literal["clipped", "full"] = "clipped"
    undelivered: bool = False
    counts_empty: bool = False
    argmax_drafts: bool = False
    rule: str | None = None
    """The verification rule; None for the temperature's own."""
    ngrams: tuple[int, int] | None = None
    """Of prompt lookup: the shortest and the longest that are looked up."""
    eos: tuple[_TokenId, ...] | None = None
    """Token ids that end a text; None for the target's own."""
    stop: tuple[int | str, ...] = ()
    """Further token ids and strings that end one."""
    altered: _Name | None = None

    @property
    def convention(self) -> CountingConvention:
        return CountingConvention(
            self.prefill_drafts,
            self.end,
            self.undelivered,
            self.counts_empty,
            self.argmax_drafts,
            self.ngrams,
        )


class Sums(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An engine's sums, where it does not tell its rounds."""

    drafted: _Count
    accepted: _Count
    rounds: _Count | None = None
    per_position: tuple[_Count, ...] | None = None

    @property
    def totals(self) -> Totals:
        return Totals(self.rounds, self.drafted, self.accepted, self.per_position)


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One text: its prompt by text, messages or key, and its rounds (`[drafted, accepted]`) or
    sums. Or the whole run's sums.
    """

    prompt: str | None = None
    messages: list[dict[str, str]] | None = None
    key: str | None = None
    prompt_ids: tuple[_TokenId, ...] = ()
    new_ids: tuple[_TokenId, ...] = ()
    emitted: Annotated[int, Meta(ge=0, le=MOST_NEW_TOKENS)] | None = None
    finish_reason: Literal["stop", "length"] | None = None
    """Why the text ends: `stop` for EOS and declared stops."""
    rounds: tuple[tuple[int, int], ...] | None = None
    totals: Sums | None = None
    seconds: _Time | None = None
    draft_ms: tuple[_Time, ...] | None = None
    verify_ms: tuple[_Time, ...] | None = None
    pooled: Sums | None = None

    @property
    def prompt_key(self) -> str | None:
        """None where the line names no prompt, or more than one way."""
        named = [name for name in (self.prompt, self.messages, self.key) if name is not None]
        return None if len(named) != 1 else self.key or key_of(self.prompt, self.messages)


class TraceAdapter:
    """A file in place of an engine: `--specdec-engine=trace --specdec-url=FILE`."""

    name = "trace"
    capabilities = Capabilities(
        drafters=("model", "mtp", "prompt-lookup"),
        rules=ALL_RULES,
        draft_depth=True,
        all_heads=False,
        samples=True,
        filters=True,
        per_round=True,
        per_request=True,
        pooled=True,
        per_position=True,
        timings=True,
        url="needed",
        wants_ids=False,
    )

    def __init__(self, setup: EngineSetup) -> None:
        self._path = Path(setup.url or "").expanduser()

    def version(self) -> str:
        header, _ = read_trace(self._path)
        return header.engine

    def run(self, request: GenerationRequest) -> Iterator[Reported | PooledCounters]:
        header, lines = read_trace(self._path)
        _check_header(self._path, header, request)
        found: dict[str, Reported] = {}
        pooled = []
        known = {asked.key for asked in request.prompts}
        for number, line in lines:
            where = f"{self._path}:{number}"
            if line.pooled is not None:
                pooled.append(PooledCounters(line.pooled.totals, header.convention, where))
                continue
            one = _reported(header, line, where)
            if one.key not in known:
                raise RequestError(
                    f"{where}: a prompt that the suite does not ask; record the suite's own "
                    "prompts, all of them"
                )
            if one.key in found:
                raise RequestError(
                    f"{where}: a prompt for the second time; record each prompt once"
                )
            found[one.key] = one
        if missing := [asked for asked in request.prompts if asked.key not in found]:
            raise MeasurementError(
                f"{self._path} holds {len(found)} of the suite's {len(request.prompts)} prompts "
                "and not "
                f"{_short(missing[0].prompt.text or missing[0].key)}; record them all"
            )
        yield from (found[asked.key] for asked in request.prompts)
        yield from pooled

    def close(self) -> None:
        """Nothing is held."""


def read_trace(path: Path) -> tuple[Header, list[tuple[int, Line]]]:
    """A trace's header and its lines with their numbers.

    Raises RequestError, with the line, for anything else, and MeasurementError for counts that
    contradict each other or the text that they are of.
    """
    try:
        text = path.read_text(encoding="utf-8")
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
    """Raises RequestError for numbers that no run can have: `identities` holds what is left against
    the texts.
    """
    if line.pooled is not None and line != Line(pooled=line.pooled):
        raise RequestError(
            f"{where}: pooled beside fields of a text; give the run's sums a line of their own"
        )
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
    """Rounds and sums fit each other and their texts, whatever the suite asks for."""
    sampling = Sampling(header.temperature, header.top_k, header.top_p)
    rule = header.rule or default_rule(header.temperature)
    request = GenerationRequest(
        (),
        header.k,
        header.depth,
        "",
        header.drafter,
        sampling,
        header.new_tokens,
        header.seed,
        rule,
    )
    texts: list[Reported] = []
    pooled: PooledCounters | None = None
    for number, line in lines:
        where = f"{path}:{number}"
        if line.pooled is None:
            texts.append(_reported(header, line, where))
            check_reported(texts[-1], request)
        elif pooled is not None:
            raise RequestError(f"{where}: pooled for the second time; write the run's sums once")
        else:
            pooled = PooledCounters(line.pooled.totals, header.convention, where)
    if pooled is None:
        return
    if own := next(
        (one for one in texts if one.rounds is not None or one.totals is not None), None
    ):
        raise RequestError(
            f"{own.where}: rounds or totals of a text beside the sums of the run; write one of them"
        )
    check_pooled(pooled, texts, request)


def write_trace(
    path: Path, request: GenerationRequest, engine: str, reported: Sequence[Reported]
) -> None:
    """Keep texts of one run. Raises BaselineError where the file cannot be written."""
    convention, sampling = reported[0].convention, request.sampling
    header = Header(
        SCHEMA,
        engine,
        request.k,
        request.depth,
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        request.new_tokens,
        drafter_kind(request.drafter),
        request.seed,
        convention.prefill_drafts,
        convention.end,
        convention.undelivered,
        convention.counts_empty,
        convention.argmax_drafts,
        request.rule,
        convention.ngrams,
        reported[0].ends.eos,
        reported[0].ends.stop,
        reported[0].altered,
    )
    lines = [msgspec.json.encode(one) for one in (header, *map(_line, reported))]
    write_all({path: b"\n".join(lines) + b"\n"})


def _line(one: Reported) -> Line:
    totals, timings = one.totals, one.timings
    return Line(
        key=one.key,
        prompt_ids=one.prompt_ids,
        new_ids=one.new_ids,
        emitted=one.emitted,
        finish_reason="stop"
        if one.finish == "stop"
        else "length"
        if one.finish == "length"
        else None,
        rounds=one.rounds,
        totals=None
        if totals is None
        else Sums(totals.drafted, totals.accepted, totals.rounds, totals.per_position),
        **({} if timings is None else dataclasses.asdict(timings)),
    )


def _reported(header: Header, line: Line, where: str) -> Reported:
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
        key,
        line.prompt_ids,
        line.new_ids,
        header.convention,
        None if line.rounds is None else tuple(ReportedRound(*own) for own in line.rounds),
        None if line.totals is None else line.totals.totals,
        None if line.new_ids else line.emitted,
        None if line.seconds is None else Timings(line.seconds, line.draft_ms, line.verify_ms),
        header.altered,
        where,
        line.finish_reason,
        TextEnds(header.eos, header.stop),
    )


def _check_header(path: Path, header: Header, request: GenerationRequest) -> None:
    """Raises RequestError where the trace is of another case."""
    asked = {
        "k": request.k,
        "depth": request.depth,
        "temperature": request.sampling.temperature,
        "top-k": request.sampling.top_k,
        "top-p": request.sampling.top_p,
        "new-tokens": request.new_tokens,
        "seed": request.seed,
    }
    for name, wanted in asked.items():
        if (recorded := getattr(header, name.replace("-", "_"))) != wanted:
            raise RequestError(
                f"{path}:1: recorded with {name} {recorded:g} and {wanted:g} is asked for; use "
                f"--specdec-{name}={recorded:g}"
            )
    named = {
        "drafter": (header.drafter, drafter_kind(request.drafter)),
        "rule": (header.rule or default_rule(header.temperature), request.rule),
    }
    for name, (own, wanted_name) in named.items():
        if own != wanted_name:
            raise RequestError(
                f"{path}:1: recorded with {name} {own!r} and {wanted_name!r} is asked for; set the "
                "marker's"
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


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
