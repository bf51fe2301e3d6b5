"""The stored forms: one `Record` per case, one `TextSet` per target, prompt set and sampling settings.

JSON with sorted keys and no timestamps, one prompt a line, so that a change of one prompt is a diff of one line.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ..acceptance.counts import Counts
from ..speedup.model import theoretical_speedup

SCHEMA = 1
_DECIMALS = 6
"""Counts are stored to 1e-6 of a token: below any effect, above the last bits that differ between machines."""
_LAST_DIGITS = 1e-3
"""What another machine or number of threads may move a prompt's counts by; seen are 2e-5 of 30 rounds."""


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What must be the same for two records to be compared at all."""

    k: int
    depth: int
    drafter: str
    engine: str
    rule: str
    temperature: float
    top_k: int
    top_p: float
    new_tokens: int
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
    threads: int
    engine: str = ""
    """Version of somebody else's engine; empty for our own."""

    def differences(self, other: Environment) -> tuple[str, ...]:
        """`name: other -> self` for each field that differs."""
        pairs = ((name, getattr(other, name), getattr(self, name)) for name in self.__struct_fields__)
        return tuple(f"{name}: {before} -> {now}" for name, before, now in pairs if before != now)


class CaseCosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a round of one case takes, in milliseconds, from a cost profile."""

    target_ms: float | None
    verify_ms: float
    draft_ms: float
    relative_error: float = 0.0
    """Standard error of each time."""
    samples: int = 0
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
        times = {"target_ms": self.target_ms, "verify_ms": self.verify_ms, "draft_ms": self.draft_ms}
        return theoretical_speedup(acceptance_length, **times)

    def tokens_per_second(self, acceptance_length: float) -> float:
        """Theoretical throughput of one batch's row: tokens a round over the time of drafting and verifying it."""
        return 1000 * acceptance_length / (self.verify_ms + self.draft_ms)


class PromptCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts of one prompt; `drafted` is left out where every round drafted k tokens."""

    category: str
    text: str
    """Fingerprint of the text Y that was replayed; empty where a sampled one's tokens are not known."""
    rounds: float
    accepted: tuple[float, ...]
    drafted: tuple[float, ...] | None = None


PromptRows = dict[str, PromptCounts]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measured case, and at the same time a stored baseline.

    `acceptance_length`, `acceptance_rate`, `expected_accepted` and `speedup` are those of all its runs together; `as_counts()`
    gives every other metric and the counts of each prompt as arrays. `counts` is the stored form of the first run.
    """

    schema: int
    definition: str
    conditions: Conditions
    fingerprints: Fingerprints
    environment: Environment
    repeats: int
    counts: PromptRows
    """The first run's, by prompt key."""
    again: tuple[PromptRows, ...] = ()
    """Further runs of the same prompts, each with a seed of its own."""
    costs: CaseCosts | None = None
    """The costs that its speed-up was computed from."""

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
        first, *again = [{key: row for key, row in rows.items() if key in prompts} for rows in self.runs]
        return msgspec.structs.replace(self, counts=first, again=tuple(again))

    def as_counts(self) -> Counts:
        """All runs' counts added up, prompts in stored order."""
        return functools.reduce(Counts.merge, self.runs_as_counts())

    def runs_as_counts(self) -> tuple[Counts, ...]:
        """Each run's counts, prompts in stored order."""
        return tuple(counts_of_rows(rows, self.conditions.k) for rows in self.runs)

    def twins_of(self, now: Record) -> Record | None:
        """The runs that replayed the very texts of `now`'s runs; None unless each of these has one."""
        twins = [next((own for own in self.runs if _same_texts(own, theirs)), None) for theirs in now.runs]
        found = [twin for twin in twins if twin is not None]
        if len(found) < len(twins):
            return None
        return msgspec.structs.replace(self, repeats=len(found), counts=found[0], again=tuple(found[1:]))

    def repeated_by(self, now: Record) -> bool:
        """Whether `now` is the same measurement again: at most the environment and its last digits differ."""
        blank = {"environment": now.environment, "counts": {}, "again": ()}
        if msgspec.structs.replace(self, **blank) != msgspec.structs.replace(now, **blank):
            return False
        return len(self.runs) == len(now.runs) and all(
            _same_rows(own, theirs, self.conditions.k) for own, theirs in zip(self.runs, now.runs, strict=True)
        )

    def problems(self) -> list[str]:
        """What the types alone cannot say is wrong with a stored record."""
        found = [] if self.repeats == len(self.runs) else [f"it announces {self.repeats} runs and holds {len(self.runs)}"]
        if self.costs is not None and not all(0 < ms < float("inf") for ms in self.costs.times):
            found.append("its costs are not positive times")
        if any(rows.keys() != self.counts.keys() for rows in self.again):
            found.append("its runs hold different prompts")
        for key, row in (item for rows in self.runs for item in rows.items()):
            values = (row.rounds, *row.accepted, *(row.drafted or ()))
            drafted = row.accepted if row.drafted is None else row.drafted
            lengths = {len(row.accepted), len(drafted), self.conditions.k}
            if len(lengths) > 1:
                found.append(f"prompt {key} has not {self.conditions.k} positions")
            elif not all(0 <= value < float("inf") for value in values):
                found.append(f"prompt {key} has a negative or infinite count")
            elif any(after > before + 1e-5 for before, after in zip((row.rounds, *row.accepted), row.accepted, strict=False)):
                found.append(f"prompt {key} accepts more at a later position than at an earlier one")
        if not any(row.rounds > 0 for row in self.counts.values()):
            found.append("no prompt has a round")
        return found


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
    )


def _same_texts(stored: PromptRows, now: PromptRows) -> bool:
    return all(key in stored and row.text and stored[key].text == row.text for key, row in now.items())


def _same_rows(stored: PromptRows, now: PromptRows, k: int) -> bool:
    if {key: (row.category, row.text) for key, row in stored.items()} != {
        key: (row.category, row.text) for key, row in now.items()
    }:
        return False
    before, after = counts_of_rows(stored, k), counts_of_rows({key: now[key] for key in stored}, k)
    pairs = [(getattr(before, name), getattr(after, name)) for name in ("rounds", "drafted", "accepted")]
    return all(np.allclose(old, new, rtol=0, atol=_LAST_DIGITS) for old, new in pairs)


class Night(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One accumulated run: its counts and its p-value against all runs before it."""

    p_value: float
    fingerprints: Fingerprints
    counts: PromptRows


class EvidenceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `--specdec-accumulate` has gathered against one baseline."""

    schema: int
    baseline: str
    """Hash of the baseline: another one starts anew."""
    nights: tuple[Night, ...]


class TextSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Texts Y sampled from a target: the new tokens of each prompt, by the prompt's key."""

    schema: int
    target: str
    tokenizer: str
    template: str | None
    new_tokens: int
    temperature: float
    seed: int
    texts: dict[str, tuple[int, ...]]
    top_k: int = 0
    top_p: float = 1.0

    def fits(self, other: TextSet) -> bool:
        """Whether both come from the same target, tokenizer and settings."""
        names = [name for name in self.__struct_fields__ if name != "texts"]
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
    rounded = {name: np.round(getattr(counts, name), _DECIMALS) for name in ("rounds", "drafted", "accepted")}
    rows = {}
    for row in sorted(range(len(counts.prompts)), key=counts.prompts.__getitem__):
        rounds, drafted, accepted = (rounded[name][row] for name in ("rounds", "drafted", "accepted"))
        rows[counts.prompts[row]] = PromptCounts(
            category=counts.categories[row],
            text=texts[counts.prompts[row]],
            rounds=float(rounds),
            accepted=tuple(map(float, accepted)),
            drafted=None if (drafted == rounds).all() else tuple(map(float, drafted)),
        )
    return rows


def dumps(stored: Record | TextSet | EvidenceFile | TokenMap) -> str:
    """Canonical JSON: sorted keys, and one line for each prompt."""
    body: dict[str, Any] = msgspec.to_builtins(stored)
    for field in msgspec.structs.fields(stored):
        if field.name in body and body[field.name] in (field.default, []):
            del body[field.name]
    written = {name: _WRITERS[name](body.pop(name), "  ") for name in _WRITERS if name in body}
    parts = [json.dumps(body, indent=2, sort_keys=True)[2:-2]]
    parts += [f'  "{name}": {text}' for name, text in written.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _rows(rows: Mapping[str, Any], indent: str) -> str:
    """Prompts one a line."""
    return _wrapped(
        [f"{json.dumps(key)}: {json.dumps(_compact(rows[key]), sort_keys=True)}" for key in sorted(rows)], "{}", indent
    )


def _runs(runs: Sequence[Mapping[str, Any]], indent: str) -> str:
    return _wrapped([_rows(rows, indent + "  ") for rows in runs], "[]", indent)


def _nights(nights: Sequence[Mapping[str, Any]], indent: str) -> str:
    return _wrapped([_night(night, indent + "  ") for night in nights], "[]", indent)


def _night(night: Mapping[str, Any], indent: str) -> str:
    own = {name: json.dumps(item, sort_keys=True) for name, item in night.items() if name != "counts"}
    own["counts"] = _rows(night["counts"], indent + "  ")
    return _wrapped([f'"{name}": {own[name]}' for name in sorted(own)], "{}", indent)


_WRITERS: dict[str, Callable[[Any, str], str]] = {
    "counts": _rows,
    "again": _runs,
    "texts": _rows,
    "tokens": _rows,
    "nights": _nights,
}
"""The fields that hold prompts, in the order in which they end a file, and how each is written."""


def _wrapped(items: list[str], brackets: str, indent: str) -> str:
    body = ",\n".join(f"{indent}  {item}" for item in items)
    return f"{brackets[0]}\n{body}\n{indent}{brackets[1]}" if items else brackets


def _compact(value: Any) -> Any:
    """Without absent fields, and whole counts as integers, so that greedy baselines read as counts."""
    if isinstance(value, dict):
        return {name: _compact(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_compact(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
