"""The stored forms: one `Record` per case, one `TextSet` per target, prompt set and sampling
settings.

How they are written is in `writing`, which numbers they may hold in the types here and in
`identities`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from ..acceptance.counts import Array, Counts
from ..common.limits import MOST_DEPTH, MOST_K, MOST_NEW_TOKENS, MOST_SEED, MOST_TOKEN_ID
from ..speedup.formulas import theoretical_speedup

SCHEMA = 2
READABLE = (1, 2)
"""Schemas that are read. Files of schema 1 have no digest, and their records name neither case nor
seed.
"""
POOLED = "all prompts"
"""Stands for a prompt's key where an engine counts for all prompts together."""
_DECIMALS = 6
"""Counts are stored to 1e-6 of a token: below any effect, above the last bits that differ between
machines.
"""
_LAST_DIGITS = 1e-3
"""What another machine or number of threads may move a prompt's counts by; seen are 2e-5 of 30
rounds.
"""

Positive = Annotated[int, Meta(ge=1, le=2**53)]
NotNegative = Annotated[int, Meta(ge=0, le=2**53)]
TokenId = Annotated[int, Meta(ge=0, le=MOST_TOKEN_ID)]
Seed = Annotated[int, Meta(ge=0, le=MOST_SEED)]
NewTokens = Annotated[int, Meta(ge=1, le=MOST_NEW_TOKENS)]
Count = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]
Milliseconds = Annotated[float, Meta(gt=0, le=1e9)]
RelativeError = Annotated[float, Meta(ge=0, le=1e6)]


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What must be the same for two records to be compared at all."""

    k: Annotated[int, Meta(ge=1, le=MOST_K)]
    depth: Annotated[int, Meta(ge=0, le=MOST_DEPTH)]
    drafter: str
    engine: str
    rule: str
    temperature: Count
    top_k: TokenId
    top_p: Share
    new_tokens: NewTokens
    tokenizer: str
    template: str | None
    judged: str | None = None
    """The token ids that were judged, where not all were: `FIRST:END:EVERY`."""


class Fingerprints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is under test: hashes of the target's and the drafter's tensors and configurations."""

    target: str
    drafter: str


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where numbers come from; acceptance may move in its last digits between two of these."""

    torch: str
    transformers: str
    device: str
    dtype: str
    threads: NotNegative
    """Of torch; 0 where a server or a recorded run does not say."""
    engine: str = ""
    """Version of somebody else's engine; empty for our own."""

    def differences(self, other: Environment) -> tuple[str, ...]:
        """`name: other -> self` for each field that differs."""
        pairs = (
            (name, getattr(other, name), getattr(self, name)) for name in self.__struct_fields__
        )
        return tuple(f"{name}: {before} -> {now}" for name, before, now in pairs if before != now)


class CaseCosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a round of one case takes, in milliseconds, from a cost profile."""

    target_ms: Milliseconds | None
    verify_ms: Milliseconds
    draft_ms: Milliseconds
    relative_error: RelativeError = 0.0
    """Standard error of each time."""
    samples: NotNegative = 0
    machine: str = "unknown"
    software: str = ""

    @property
    def times(self) -> tuple[float, ...]:
        """Those that are known."""
        return tuple(ms for ms in (self.target_ms, self.verify_ms, self.draft_ms) if ms is not None)

    def speedup(self, acceptance_length: float) -> float:
        """Theoretical speed-up at an acceptance length; nan without the target's step."""
        if self.target_ms is None:
            return float("nan")
        times = {
            "target_ms": self.target_ms,
            "verify_ms": self.verify_ms,
            "draft_ms": self.draft_ms,
        }
        return theoretical_speedup(acceptance_length, **times)

    def tokens_per_second(self, acceptance_length: float) -> float:
        """Theoretical throughput of one batch's row: tokens a round over the time of drafting and
        verifying it.
        """
        return 1000 * acceptance_length / (self.verify_ms + self.draft_ms)


class SmoothedCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts of one prompt's renewal walk at temperature 0 with the draft's distribution at a small
    temperature.
    """

    rounds: Count
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
    tokens: NewTokens | None = None
    """New tokens of the text, of the judged ones where not all are; None where the engine does not
    give them.
    """
    passes: Count | None = None
    """Passes of the target that emit them after the first, those with nothing left to draft
    included.
    """


PromptRows = dict[str, PromptCounts]


class ReplacedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a record replaced: enough to see how far acceptance has eroded over several updates."""

    acceptance_length: Annotated[float, Meta(ge=1)]
    commit: str | None = None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measured case, and at the same time a stored baseline.

    `acceptance_length`, `acceptance_rate`, `expected_accepted` and `speedup` are those of all its
    runs together; `as_counts()` gives every other metric and the counts of each prompt as arrays.
    `counts` is the stored form of the first run.
    """

    schema: int
    definition: str
    conditions: Conditions
    fingerprints: Fingerprints
    environment: Environment
    repeats: Positive
    counts: PromptRows
    """The first run's, by prompt key."""
    again: tuple[PromptRows, ...] = ()
    """Further runs of the same prompts, each with a seed of its own."""
    costs: CaseCosts | None = None
    """The costs that its speed-up was computed from."""
    case: str = ""
    """The case's name, which is the file's, too; empty in files of schema 1."""
    seed: Seed | None = None
    """Seed of the first run's texts; those of further runs follow it. None in files of schema 1."""
    smoothing: Annotated[float, Meta(gt=0)] | None = None
    """Temperature of the draft in the smoothed counts of a greedy case."""
    replaced: tuple[ReplacedRecord, ...] = ()
    """The records before this one, oldest first."""

    @property
    def runs(self) -> tuple[PromptRows, ...]:
        """All runs, by prompt key."""
        return (self.counts, *self.again)

    @property
    def acceptance_length(self) -> float:
        """Tokens per round, pooled over prompts."""
        return self.as_counts().acceptance_length

    @property
    def acceptance_rate(self) -> float:
        """Accepted over drafted tokens, pooled over prompts."""
        return self.as_counts().acceptance_rate

    @property
    def expected_accepted(self) -> float:
        """Drafts accepted per round, pooled over prompts."""
        return self.as_counts().expected_accepted

    @property
    def speedup(self) -> float:
        """Theoretical speed-up under its own costs; nan where it holds none."""
        return float("nan") if self.costs is None else self.costs.speedup(self.acceptance_length)

    def only(self, prompts: Collection[str]) -> Record:
        """The record of those of its prompts that are among others."""
        first, *again = [
            {key: row for key, row in rows.items() if key in prompts} for rows in self.runs
        ]
        return msgspec.structs.replace(self, counts=first, again=tuple(again))

    def as_counts(self) -> Counts:
        """All runs' counts added up, prompts in stored order."""
        return functools.reduce(Counts.merge, self.runs_as_counts())

    def runs_as_counts(self) -> tuple[Counts, ...]:
        """Each run's counts, prompts in stored order."""
        return tuple(counts_of_rows(rows, self.conditions.k) for rows in self.runs)

    def runs_on_same_texts(self, now: Record) -> Record | None:
        """The runs that replayed the very texts of `now`'s runs; None unless each of these has
        one.
        """
        twins = [
            next((own for own in self.runs if _same_texts(own, theirs)), None)
            for theirs in now.runs
        ]
        found = [twin for twin in twins if twin is not None]
        if len(found) < len(twins):
            return None
        return msgspec.structs.replace(
            self, repeats=len(found), counts=found[0], again=tuple(found[1:])
        )

    def repeated_by(self, now: Record) -> bool:
        """Whether `now` is the same measurement again: at most the environment and its last digits
        differ.
        """
        blank = {"environment": now.environment, "counts": {}, "again": (), "replaced": ()}
        if self.schema < now.schema:  # it is rewritten by `baseline migrate`, not by the way
            blank |= {"schema": now.schema, "case": now.case, "seed": now.seed}
        if msgspec.structs.replace(self, **blank) != msgspec.structs.replace(now, **blank):
            return False
        return len(self.runs) == len(now.runs) and all(
            _same_rows(own, theirs, self.conditions.k)
            for own, theirs in zip(self.runs, now.runs, strict=True)
        )


def counts_of_rows(rows: PromptRows, k: int) -> Counts:
    """Stored rows as arrays, prompts in stored order."""
    own = list(rows.values())
    drafted = [(row.rounds,) * k if row.drafted is None else row.drafted for row in own]
    return Counts(
        tuple(rows),
        tuple(row.category for row in own),
        np.array([row.rounds for row in own], dtype=float),
        np.array(drafted, dtype=float).reshape(len(own), k),
        np.array([row.accepted for row in own], dtype=float).reshape(len(own), k),
        **_requests_of(own),
    )


def _requests_of(rows: Collection[PromptCounts]) -> dict[str, Array]:
    """What whole requests took, where every row says it."""
    known = [
        (row.tokens - 1, row.passes)
        for row in rows
        if row.tokens is not None and row.passes is not None
    ]
    if len(known) < len(rows):
        return {}
    emitted, passes = np.array(known, dtype=float).reshape(-1, 2).T
    return {"emitted": emitted, "passes": passes}


def _same_texts(stored: PromptRows, now: PromptRows) -> bool:
    return all(
        key in stored and row.text and stored[key].text == row.text for key, row in now.items()
    )


def _same_rows(stored: PromptRows, now: PromptRows, k: int) -> bool:
    if {key: (row.category, row.text) for key, row in stored.items()} != {
        key: (row.category, row.text) for key, row in now.items()
    }:
        return False
    before, after = counts_of_rows(stored, k), counts_of_rows({key: now[key] for key in stored}, k)
    pairs = [
        (getattr(before, name), getattr(after, name)) for name in ("rounds", "drafted", "accepted")
    ]
    if before.passes is not None and after.passes is not None:  # files of before this field lack it
        pairs.append((before.passes, after.passes))
    return all(np.allclose(old, new, rtol=0, atol=_LAST_DIGITS) for old, new in pairs)


class AccumulatedRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One accumulated run: its counts and its p-value against all runs before it."""

    p_value: Share
    fingerprints: Fingerprints
    counts: PromptRows


class EvidenceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `--specdec-accumulate` has gathered against one baseline."""

    schema: int
    baseline: str
    """Hash of the baseline: another one starts anew."""
    nights: tuple[AccumulatedRun, ...]


class TextSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Texts Y sampled from a target: the new tokens of each prompt, by the prompt's key."""

    schema: int
    target: str
    tokenizer: str
    template: str | None
    new_tokens: NewTokens
    temperature: Count
    seed: Seed
    texts: dict[str, tuple[TokenId, ...]]
    top_k: TokenId = 0
    top_p: Share = 1.0
    logprobs: dict[str, tuple[Annotated[float, Meta(le=0)], ...]] | None = None
    """The target's log-probability of each new token, by the prompt's key, where they were
    stored.
    """

    def fits(self, other: TextSet) -> bool:
        """Whether both come from the same target, tokenizer and settings."""
        names = [
            name for name in self.__struct_fields__ if name not in ("schema", "texts", "logprobs")
        ]
        return all(getattr(self, name) == getattr(other, name) for name in names)


class TokenRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Acceptance of each new token of one text, as `acceptance.tokens` encodes it."""

    text: str
    accept: str


class TokenMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One head's acceptance token by token: only explains failures, never decides them."""

    schema: int
    drafter: str
    """Fingerprint of the drafter that it was measured on."""
    tokens: dict[str, TokenRow]


def prompt_counts(counts: Counts, texts: Mapping[str, str]) -> PromptRows:
    """Counts in stored form, sorted by prompt; `texts` gives each prompt's text fingerprint."""
    rounded = {
        name: np.round(getattr(counts, name), _DECIMALS)
        for name in ("rounds", "drafted", "accepted")
    }
    rows = {}
    for row in sorted(range(len(counts.prompts)), key=counts.prompts.__getitem__):
        rounds, drafted, accepted = (
            rounded[name][row] for name in ("rounds", "drafted", "accepted")
        )
        rows[counts.prompts[row]] = PromptCounts(
            category=counts.categories[row],
            text=texts[counts.prompts[row]],
            rounds=float(rounds),
            accepted=tuple(map(float, accepted)),
            drafted=None if (drafted == rounds).all() else tuple(map(float, drafted)),
            tokens=None if counts.emitted is None else 1 + int(counts.emitted[row]),
            passes=None if counts.passes is None else round(float(counts.passes[row]), _DECIMALS),
        )
    return rows
