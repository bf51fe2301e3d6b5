"""Counts as a record stores them: one row per prompt."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from ..acceptance.counts import Array, Counts
from .measured import MeasuredRun
from .ranges import Count, NewTokens

POOLED = "all prompts"
"""Stands for a prompt's key where an engine counts for all prompts together."""


class SmoothedCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts of one prompt's renewal walk at temperature 0 with the draft's distribution at a small
    temperature; `drafted` is left out where every round drafted k tokens.
    """

    rounds: Count
    accepted: tuple[Count, ...]
    drafted: tuple[Count, ...] | None = None


class StoredContexts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Acceptance of one round from every start of a prompt's text, summed over the starts."""

    starts: Count
    accepted: tuple[Count, ...]


class PromptCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts of one prompt; `drafted` is left out where every round drafted k tokens."""

    category: str
    text: str
    """Fingerprint of the text Y that was replayed; empty where a sampled one's tokens are not
    known.
    """
    rounds: Count
    accepted: tuple[Count, ...]
    drafted: tuple[Count, ...] | None = None
    smoothed: SmoothedCounts | None = None
    contexts: StoredContexts | None = None
    """What a changed target is compared with; None where the drafter has no overlaps."""
    tokens: NewTokens | None = None
    """New tokens of the text, of the judged ones where not all are; None where the engine does not
    give them.
    """
    passes: Count | None = None
    """Passes of the target that emit them after the first, those with nothing left to draft
    included.
    """


PromptRows = dict[str, PromptCounts]


def counts_of_rows(rows: PromptRows, k: int) -> Counts:
    """Stored rows as arrays, prompts in stored order."""
    values = list(rows.values())
    drafted = [(row.rounds,) * k if row.drafted is None else row.drafted for row in values]
    return Counts(
        prompts=tuple(rows),
        categories=tuple(row.category for row in values),
        rounds=np.array([row.rounds for row in values], dtype=float),
        drafted=np.array(drafted, dtype=float).reshape(len(rows), k),
        accepted=np.array([row.accepted for row in values], dtype=float).reshape(len(rows), k),
        **_requests_of(values),
    )


def run_of_rows(rows: PromptRows, k: int) -> MeasuredRun:
    """A stored run as the gate judges it."""
    counts = counts_of_rows(rows, k)
    return MeasuredRun(
        counts=counts,
        text_fingerprints={key: row.text for key, row in rows.items()},
        smoothed=_others(counts, [_smoothed_of(row) for row in rows.values()]),
        contexts=_others(counts, [row.contexts for row in rows.values()]),
    )


def _smoothed_of(row: PromptCounts) -> SmoothedCounts | None:
    """A row's smoothed counts. Earlier versions left their drafted tokens out; of drafts that are
    certain, as those of prompt lookup, both walks are one.
    """
    smoothed = row.smoothed
    if smoothed is None or smoothed.drafted is not None:
        return smoothed
    certain = (smoothed.rounds, smoothed.accepted) == (row.rounds, row.accepted)
    return msgspec.structs.replace(smoothed, drafted=row.drafted) if certain else smoothed


def _others(
    counts: Counts, rows: Sequence[SmoothedCounts | StoredContexts | None]
) -> Counts | None:
    """Other counts of the same prompts; None where a row is missing. A round from a context drafts
    k tokens.
    """
    known = [row for row in rows if row is not None]
    if len(known) < len(rows) or not known:
        return None
    rounds = np.array(
        [row.rounds if isinstance(row, SmoothedCounts) else row.starts for row in known],
        dtype=float,
    )
    drafted = [
        row.drafted
        if isinstance(row, SmoothedCounts) and row.drafted is not None
        else (number,) * counts.k
        for row, number in zip(known, rounds.tolist(), strict=True)
    ]
    return Counts(
        prompts=counts.prompts,
        categories=counts.categories,
        rounds=rounds,
        drafted=np.array(drafted, dtype=float).reshape(-1, counts.k),
        accepted=np.array([row.accepted for row in known], dtype=float).reshape(-1, counts.k),
    )


def _requests_of(rows: Collection[PromptCounts]) -> dict[str, Array]:
    """Tokens and passes of whole requests, where every row holds them."""
    known = [
        (row.tokens - 1, row.passes)
        for row in rows
        if row.tokens is not None and row.passes is not None
    ]
    if len(known) < len(rows):
        return {}
    emitted, passes = np.array(known, dtype=float).reshape(-1, 2).T
    return {"emitted": emitted, "passes": passes}


def rows_of_run(run: MeasuredRun) -> PromptRows:
    """A run in stored form, one row per prompt."""
    counts, rows = run.counts, {}
    for row, prompt in enumerate(counts.prompts):
        rows[prompt] = PromptCounts(
            category=counts.categories[row],
            text=run.text_fingerprints[prompt],
            rounds=float(counts.rounds[row]),
            accepted=tuple(counts.accepted[row].tolist()),
            drafted=_drafted(counts, row),
            smoothed=None
            if run.smoothed is None
            else SmoothedCounts(
                rounds=float(run.smoothed.rounds[row]),
                accepted=tuple(run.smoothed.accepted[row].tolist()),
                drafted=_drafted(run.smoothed, row),
            ),
            contexts=None
            if run.contexts is None
            else StoredContexts(
                starts=float(run.contexts.rounds[row]),
                accepted=tuple(run.contexts.accepted[row].tolist()),
            ),
            tokens=None if counts.emitted is None else 1 + int(counts.emitted[row]),
            passes=None if counts.passes is None else float(counts.passes[row]),
        )
    return rows


def _drafted(counts: Counts, row: int) -> tuple[float, ...] | None:
    """Drafted tokens of a prompt by position; None where every round drafted k."""
    drafted = counts.drafted[row]
    return None if (drafted == counts.rounds[row]).all() else tuple(drafted.tolist())
