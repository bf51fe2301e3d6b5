"""Identities between the numbers of a stored file, beyond the range of each: a file that breaks one
was edited.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ..acceptance.token_acceptance import is_encoded
from ..records.prompt_counts import POOLED, PromptCounts, PromptRows, SmoothedCounts
from ..records.record import Record
from ..records.text_set import TextSet
from .evidence_and_tokens import EvidenceFile, TokenMap

_ROUNDING = 1e-5
"""Counts are stored to 1e-6 each."""

Problem = tuple[str, str]
"""The key of its line, which is a prompt's or a field's, and what is wrong."""


def problems_of(stored: Record | TextSet | EvidenceFile | TokenMap) -> list[Problem]:
    """Every identity that a stored file breaks; empty for a file that breaks none."""
    if isinstance(stored, Record):
        return list(_of_record(stored))
    if isinstance(stored, EvidenceFile):
        return [problem for run in stored.runs for problem in _of_rows(run.counts, None, None)]
    return list(_of_texts(stored) if isinstance(stored, TextSet) else _of_tokens(stored))


def _of_record(record: Record) -> Iterator[Problem]:
    k = record.conditions.k
    if record.repeats != len(record.runs):
        yield "repeats", f"it states {record.repeats} runs and holds {len(record.runs)}"
    if any(rows.keys() != record.counts.keys() for rows in record.again):
        yield "again", "its runs hold different prompts"
    if not any(row.rounds > 0 for row in record.counts.values()):
        yield "counts", "no prompt has a round"
    smoothed = [row.smoothed for row in record.counts.values() if row.smoothed is not None]
    if smoothed and record.smoothing is None:
        yield "counts", "it holds smoothed counts and no smoothing temperature"
    if any(length > k + 1 for before in record.replaced for length in before.lengths):
        yield "replaced", f"it replaced a length above {k + 1}, the most that {k} drafts can reach"
    for rows in record.runs:
        yield from _of_rows(rows, k, record.conditions.new_tokens)


def _of_rows(rows: PromptRows, k: int | None, new_tokens: int | None) -> Iterator[Problem]:
    """`k` and `new_tokens` are those of the record, where it is known."""
    for key, row in rows.items():
        positions = len(row.accepted) if k is None else k
        if problem := _of_counts(row, positions) or _of_request(row, positions, new_tokens):
            yield key, f"prompt {key} {problem}"
        elif (
            new_tokens is not None
            and key != POOLED
            and row.rounds + sum(row.accepted) > new_tokens + positions + 1
        ):
            yield key, f"prompt {key} emits more than the {new_tokens} new tokens of its text"
        elif (
            new_tokens is not None
            and (smoothed := row.smoothed) is not None
            and smoothed.rounds + sum(smoothed.accepted) > new_tokens + positions + 1
        ):
            yield key, f"prompt {key} has smoothed counts of more than {new_tokens} new tokens"


def _of_counts(row: PromptCounts, k: int) -> str | None:
    drafted = (row.rounds,) * k if row.drafted is None else row.drafted
    if {len(row.accepted), len(drafted)} != {k}:
        return f"does not have {k} positions"
    if _rises((row.rounds, *row.accepted)):
        return "accepts more at a later position than at an earlier one"
    if _rises((row.rounds, *drafted)):
        return "drafts more tokens at a position than it has rounds, or than at an earlier position"
    if _exceeds(row.accepted, drafted):
        return "accepts more tokens than it drafts"
    if row.smoothed is not None and (problem := _of_smoothed(row.smoothed, k)):
        return problem
    if row.contexts is not None and len(row.contexts.accepted) != k:
        return f"has contexts that are not {k} positions"
    if row.contexts is not None and max(row.contexts.accepted) > row.contexts.starts + _ROUNDING:
        return "accepts in more contexts than its text has"
    if row.rounds > 0 and (
        (row.contexts is not None and not row.contexts.starts > 0)
        or (row.smoothed is not None and not row.smoothed.rounds > 0)
    ):
        return "has rounds, but none among its smoothed counts or contexts"
    return None


def _of_smoothed(counts: SmoothedCounts, k: int) -> str | None:
    drafted = (counts.rounds,) * k if counts.drafted is None else counts.drafted
    if {len(counts.accepted), len(drafted)} != {k} or any(
        map(_rises, ((counts.rounds, *counts.accepted), (counts.rounds, *drafted)))
    ):
        return f"has smoothed counts that are not {k} falling positions"
    if _exceeds(counts.accepted, drafted):
        return "accepts more tokens than it drafts in its smoothed counts"
    return None


def _of_request(row: PromptCounts, k: int, new_tokens: int | None) -> str | None:
    """Each pass emits at least one token and at most k + 1; rounds are passes."""
    if row.tokens is None and row.passes is None:
        return None
    if row.tokens is None or row.passes is None:
        return "has tokens without passes, or passes without tokens"
    if new_tokens is not None and row.tokens > new_tokens:
        return f"has {row.tokens} tokens, more than the {new_tokens} it may have"
    emitted, least = row.tokens - 1, max((row.tokens - 1) / (k + 1), row.rounds)
    if not least - _ROUNDING <= row.passes <= emitted + _ROUNDING:
        return (
            f"has {row.passes:g} passes, which cannot emit {emitted} tokens in {row.rounds:g} "
            f"rounds of {k} drafts"
        )
    return None


def _exceeds(accepted: tuple[float, ...], drafted: tuple[float, ...]) -> bool:
    return any(
        tokens > proposed + _ROUNDING for tokens, proposed in zip(accepted, drafted, strict=True)
    )


def _rises(values: tuple[float, ...]) -> bool:
    return any(after > before + _ROUNDING for before, after in pairwise(values))


def _of_texts(stored: TextSet) -> Iterator[Problem]:
    for key, new in stored.texts.items():
        if not new:
            yield key, f"the text of prompt {key} has no token"
        elif len(new) > stored.new_tokens:
            yield (
                key,
                f"the text of prompt {key} has {len(new)} tokens, more than the "
                f"{stored.new_tokens} it may have",
            )
    for key, values in (stored.logprobs or {}).items():
        if len(values) != len(stored.texts.get(key, ())):
            yield (
                key,
                f"prompt {key} has {len(values)} log-probabilities for "
                f"{len(stored.texts.get(key, ()))} tokens",
            )


def _of_tokens(stored: TokenMap) -> Iterator[Problem]:
    for key, row in stored.tokens.items():
        if not is_encoded(row.accept):
            yield key, f"prompt {key} holds a character that is not an acceptance level"
