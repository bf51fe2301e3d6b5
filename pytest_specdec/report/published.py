"""Acceptance that others published, beside ours, with the definitions reconciled as far as they can
be.

Two forms are read. A *table* that a reader writes from a paper names the metric of each number. The
*answers* of Spec-Bench (`model_answer/*.jsonl`) hold the tokens of every round, and some methods
count the bonus token and others do not; which, follows from the tokens of the answers. Both are
pooled over all rounds, those at the end of a text included, so ours is the request length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..common.bounded_files import read_text
from ..common.errors import RequestError
from ..common.limits import MOST_K
from ..common.strict_json import JsonError, parse_json

SCHEMA = 1
MOST_RUNS = 1000
_SLACK = 2
"""Tokens that a turn's rounds may miss or have too many: its first token, and the end of text."""
_Value = Annotated[float, Meta(ge=0, le=MOST_K + 1)]
_Name = Annotated[str, Meta(min_length=1, max_length=300)]


class PublishedRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run of a table."""

    name: _Name
    metric: Literal["acceptance_length", "accepted_tokens", "acceptance_rate"]
    """With the bonus token, without it, or accepted over drafted tokens."""
    value: _Value | None = None
    categories: dict[_Name, _Value] = {}
    k: Annotated[int, Meta(ge=1, le=MOST_K)] | None = None
    """Drafts of every round; needed for a rate."""
    average: Literal["pooled", "macro"] = "pooled"
    """Over rounds, or the mean over prompts."""
    drafts: Literal["chain", "tree"] = "chain"
    source: str = ""
    target: str = ""
    temperature: float | None = None


class PublishedTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table as a reader writes it."""

    schema: Literal[1]
    runs: Annotated[list[PublishedRun], Meta(min_length=1, max_length=MOST_RUNS)]


class BenchmarkChoice(msgspec.Struct):
    """What was counted of one answer."""

    accept_lengths: list[Annotated[int, Meta(ge=0, le=MOST_K + 1)]]
    new_tokens: list[Annotated[int, Meta(ge=0)]]


class BenchmarkAnswer(msgspec.Struct):
    """A line of Spec-Bench's answers."""

    category: _Name
    choices: Annotated[list[BenchmarkChoice], Meta(min_length=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconciledRun:
    """A published run, its numbers as acceptance lengths with the bonus token."""

    name: str
    length: float | None
    """None where the run has none over all categories."""
    categories: Mapping[str, float]
    notes: Sequence[str]
    """What was converted, and what cannot be."""


def read_published(path: Path) -> list[ReconciledRun]:
    """The runs of a file. Raises RequestError for one that cannot be read or reconciled at all."""
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise RequestError(f"{path} cannot be read ({reason}); check the path") from None
    if path.suffix == ".jsonl":
        return [_of_answers(path, text)]
    try:
        table = msgspec.convert(parse_json(text), PublishedTable)
    except (JsonError, msgspec.ValidationError) as error:
        raise RequestError(
            f"{path} is no table of published runs of schema {SCHEMA} ({str(error)[:200]}); see "
            "docs/published.md"
        ) from None
    return [_of_table(run, path) for run in table.runs]


def _of_table(run: PublishedRun, path: Path) -> ReconciledRun:
    notes = []
    if run.value is None and not run.categories:
        raise RequestError(f"{path}: {run.name} has neither a value nor categories; give one")
    if run.metric == "acceptance_rate":
        if run.k is None:
            raise RequestError(
                f"{path}: {run.name} is a rate, and its k is missing; a rate is a length only "
                "where every round drafts the same number of tokens"
            )
        if any(value > 1 for value in _values(run)):
            raise RequestError(f"{path}: {run.name} has a rate above 1; write a share, not percent")
        notes.append(f"1 + k x rate, with k = {run.k} drafts in every round")
    if run.metric == "accepted_tokens":
        notes.append("1 was added for the bonus token")
    if run.metric == "acceptance_length" and any(value < 1 for value in _values(run)):
        raise RequestError(
            f"{path}: {run.name} has an acceptance length below 1, which counts the bonus token; "
            "name accepted_tokens if it does not"
        )
    if (
        run.k is not None
        and run.drafts == "chain"
        and any(_length(run, value) > run.k + 1 for value in _values(run))
    ):
        raise RequestError(
            f"{path}: {run.name} is longer than k + 1 = {run.k + 1}, which no chain of drafts can "
            "be; correct k or the value"
        )
    if run.average == "macro":
        notes.append("a mean over prompts, not over rounds: not reconciled")
    if run.drafts == "tree":
        notes.append("trees of drafts: not reconciled with chains")
    notes += [f"{name} {value}" for name, value in _stated(run).items()]
    return ReconciledRun(
        name=run.name,
        length=None if run.value is None else _length(run, run.value),
        categories={name: _length(run, value) for name, value in run.categories.items()},
        notes=notes,
    )


def _stated(run: PublishedRun) -> dict[str, Any]:
    stated = {"source": run.source, "target": run.target, "temperature": run.temperature}
    return {name: value for name, value in stated.items() if value not in ("", None)}


def _values(run: PublishedRun) -> list[float]:
    return [*([] if run.value is None else [run.value]), *run.categories.values()]


def _length(run: PublishedRun, value: float) -> float:
    if run.metric == "acceptance_rate":
        return 1 + (run.k or 0) * value
    return value + (run.metric == "accepted_tokens")


def _of_answers(path: Path, text: str) -> ReconciledRun:
    """A run of Spec-Bench: the first choice of each answer."""
    rows: dict[str, list[BenchmarkChoice]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            answer = msgspec.convert(parse_json(line), BenchmarkAnswer)
        except (JsonError, msgspec.ValidationError) as error:
            raise RequestError(
                f"{path}:{number} is no answer of Spec-Bench ({str(error)[:200]}); name a file of "
                "model_answer/ with accept_lengths"
            ) from None
        rows.setdefault(answer.category, []).append(answer.choices[0])
    choices = [choice for of_category in rows.values() for choice in of_category]
    bonus = _counts_the_bonus(path, choices)
    categories = {
        name: mean + (not bonus)
        for name, of_category in rows.items()
        if (mean := _mean(of_category)) is not None
    }
    mean = _mean(choices)
    assert mean is not None
    added = "" if bonus else "1 was added for the bonus token, which these do not count; "
    notes = [
        f"{added}{len(choices)} answers, all turns; whether drafts were trees is not in the file"
    ]
    return ReconciledRun(
        name=path.stem, length=mean + (not bonus), categories=categories, notes=notes
    )


def _mean(choices: Sequence[BenchmarkChoice]) -> float | None:
    lengths = [length for choice in choices for length in choice.accept_lengths]
    return sum(lengths) / len(lengths) if lengths else None


def _counts_the_bonus(path: Path, choices: Sequence[BenchmarkChoice]) -> bool:
    """Whether the tokens of a round include the bonus token: the rounds emit the new tokens, save
    the first of a turn and what the end of a text cuts off.
    """
    lengths = [length for choice in choices for length in choice.accept_lengths]
    emitted = sum(sum(choice.new_tokens) for choice in choices)
    turns = sum(len(choice.new_tokens) for choice in choices)
    slack = turns * (_SLACK + max(lengths, default=0))
    fits = [abs(sum(lengths) + added - emitted) <= slack for added in (0, len(lengths))]
    if not lengths or fits[0] == fits[1]:
        raise RequestError(
            f"{path}: {len(lengths)} rounds with {sum(lengths)} tokens and {emitted} new tokens do "
            "not tell whether the bonus token is counted; write the run as a table, see "
            "docs/published.md"
        )
    return fits[0]
