"""What a case was measured under: its settings, its models and its machine."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from ..common.limits import MOST_BATCH, MOST_DEPTH, MOST_K
from .ranges import NewTokens, NotNegative, Share, Temperature, TokenId


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What must be the same for two records to be compared at all. Numbers are None where a test
    hands over counts and states no models.
    """

    k: Annotated[int, Meta(ge=1, le=MOST_K)]
    depth: Annotated[int, Meta(ge=0, le=MOST_DEPTH)] | None
    drafter: str
    engine: str
    rule: str
    temperature: Temperature | None
    top_k: TokenId | None
    top_p: Share | None
    new_tokens: NewTokens | None
    tokenizer: str
    template: str | None
    judged: str | None = None
    """The token ids that were judged, where not all were: `FIRST:END:EVERY`."""
    processors: str | None = None
    """The logits processors by name, where there were any."""
    drafting: str | None = None
    """How drafts are drawn, where that is not as the target's tokens are."""
    tree: str | None = None
    """The tree of drafts of each round, where rounds do not draft chains."""
    target_name: str | None = None
    """The target's folder, where a test measures several targets."""
    template_flags: str | None = None
    """What the chat template is rendered with, by name, where that is not its default."""
    batch: Annotated[int, Meta(ge=1, le=MOST_BATCH)] | None = None
    """Texts decoded at once, where the case says it."""


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
    states: str = ""
    """Hash of the stored hidden states that were read; empty where the target itself ran."""

    def differences(self, other: Environment) -> tuple[str, ...]:
        """`name: other -> self` for each field that differs."""
        pairs = (
            (name, getattr(other, name), getattr(self, name)) for name in self.__struct_fields__
        )
        return tuple(f"{name}: {before} -> {now}" for name, before, now in pairs if before != now)
