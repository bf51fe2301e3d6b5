"""The stored forms: one `Record` per case, one `TextSet` per target, prompt set and sampling settings.

JSON with sorted keys and no timestamps, one prompt a line, so that a change of one prompt is a diff of one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from ..acceptance.counts import Counts

SCHEMA = 1
_DECIMALS = 6
"""Counts are stored to 1e-6 of a token: below any effect, above the last bits that differ between machines."""


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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


class Fingerprints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is under test: hashes of the target's and the drafter's tensors and configurations."""

    target: str
    drafter: str


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where numbers come from; acceptance may move in its last digits between two of these."""

    torch: str
    transformers: str
    device: str
    dtype: str
    threads: int

    def differences(self, other: Environment) -> tuple[str, ...]:
        """`name: other -> self` for each field that differs."""
        pairs = ((name, getattr(other, name), getattr(self, name)) for name in self.__struct_fields__)
        return tuple(f"{name}: {before} -> {now}" for name, before, now in pairs if before != now)


class PromptCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts of one prompt; `drafted` is left out where every round drafted k tokens."""

    category: str
    text: str
    """Fingerprint of the text Y that was replayed."""
    rounds: float
    accepted: tuple[float, ...]
    drafted: tuple[float, ...] | None = None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measured case, and at the same time a stored baseline."""

    schema: int
    definition: str
    conditions: Conditions
    fingerprints: Fingerprints
    environment: Environment
    repeats: int
    counts: dict[str, PromptCounts]

    def as_counts(self) -> Counts:
        """The counts as arrays, prompts in stored order."""
        rows, k = list(self.counts.values()), self.conditions.k
        drafted = [(row.rounds,) * k if row.drafted is None else row.drafted for row in rows]
        return Counts(
            tuple(self.counts),
            tuple(row.category for row in rows),
            np.array([row.rounds for row in rows], dtype=float),
            np.array(drafted, dtype=float).reshape(len(rows), k),
            np.array([row.accepted for row in rows], dtype=float).reshape(len(rows), k),
        )

    def problems(self) -> list[str]:
        """What the types alone cannot say is wrong with a stored record."""
        found = []
        for key, row in self.counts.items():
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


class TextSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
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


def prompt_counts(counts: Counts, texts: Mapping[str, str]) -> dict[str, PromptCounts]:
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


def dumps(stored: Record | TextSet) -> str:
    """Canonical JSON: sorted keys, and one line for each prompt."""
    body: dict[str, Any] = msgspec.to_builtins(stored)
    field = "counts" if isinstance(stored, Record) else "texts"
    rows = body.pop(field)
    lines = json.dumps(body, indent=2, sort_keys=True).splitlines()[1:-1]
    inner = [f"    {json.dumps(key)}: {json.dumps(_compact(rows[key]), sort_keys=True)}" for key in sorted(rows)]
    lines[-1] += ","
    return "\n".join(["{", *lines, f'  "{field}": {{', ",\n".join(inner), "  }", "}", ""])


def _compact(value: Any) -> Any:
    """Without absent fields, and whole counts as integers, so that greedy baselines read as counts."""
    if isinstance(value, dict):
        return {name: _compact(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_compact(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
