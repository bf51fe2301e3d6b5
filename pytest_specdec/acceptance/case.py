"""What is measured: one frozen `Case`, and the names that everything else derives from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

DEFINITION = "acceptance/1"
"""Id of the counting rules below; it is stored in every baseline and never compared across.

A round proposes k draft tokens; m of them, a prefix, are accepted; m + 1 are emitted. The prompt pass emits the
first new token without drafts. Only rounds whose k draft positions all lie inside the text are counted.
Averages over prompts are pooled: sums are divided, never means averaged.
"""

OWN_HEADS = "mtp"
"""The drafter's name when the target's own MTP heads draft."""

RULES = ("rejection", "greedy")


@dataclasses.dataclass(frozen=True)
class TextKey:
    """Which texts Y a case is replayed on; cases that agree here share texts and the target's pass."""

    suite: str
    target: str
    prompts: Path
    prompt_limit: int | None
    new_tokens: int
    temperature: float
    seed: int

    @property
    def name(self) -> str:
        """File stem of the stored texts, for example `t1-n128-s0`."""
        return f"t{self.temperature:g}-n{self.new_tokens}-s{self.seed}"


@dataclasses.dataclass(frozen=True)
class Case:
    """One cell of a suite: a pair of models, k, depth, rule and temperature on a set of prompts."""

    texts: TextKey
    drafter: str
    """Checkpoint folder or hub id of the draft model, or `mtp`."""
    label: str
    """The drafter's name in ids and file names; stable when `--specdec-draft` points elsewhere."""
    k: int
    depth: int
    rule: str
    margin: float
    costs: Path | None = None

    @property
    def suite(self) -> str:
        return self.texts.suite

    @property
    def target(self) -> str:
        return self.texts.target

    @property
    def temperature(self) -> float:
        return self.texts.temperature

    @property
    def uses_own_heads(self) -> bool:
        return self.drafter == OWN_HEADS

    @property
    def name(self) -> str:
        """File stem of the baseline, for example `text-draft-k8-depth3-t1`."""
        return f"{self.label}-k{self.k}-depth{self.depth}-t{self.temperature:g}"

    @property
    def id(self) -> str:
        """Unique in a session: suite and name."""
        return f"{self.suite}/{self.name}"

    @property
    def passes(self) -> int:
        """Drafter passes for k tokens; own heads draft in one chain."""
        return 1 if self.uses_own_heads else draft_passes(self.k, self.depth)


def draft_passes(k: int, depth: int) -> int:
    """Passes of a draft model with MTP layers for k tokens, each pass yielding 1 + depth: ceil(k / (1 + depth))."""
    return -(-k // (1 + depth))
