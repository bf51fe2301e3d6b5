"""The texts on which acceptance is replayed."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from .ranges import NewTokens, Seed, Share, Temperature, TokenId


class TextSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Texts Y sampled from a target: the new tokens of each prompt, by the prompt's key."""

    schema: int
    target: str
    tokenizer: str
    template: str | None
    new_tokens: NewTokens
    temperature: Temperature
    seed: Seed
    texts: dict[str, tuple[TokenId, ...]]
    top_k: TokenId = 0
    top_p: Share = 1.0
    processors: str | None = None
    """The logits processors that the target decoded under, by name."""
    logprobs: dict[str, tuple[Annotated[float, Meta(le=0)], ...]] | None = None
    """The target's log-probability of each new token, by the prompt's key, where they were
    stored.
    """

    def repeats(self, other: TextSet) -> bool:
        """Whether both hold the same texts, though their log-probabilities may differ."""
        known = (self.logprobs is None) == (other.logprobs is None)
        return known and self.fits(other) and self.texts == other.texts

    def fits(self, other: TextSet) -> bool:
        """Whether both come from the same target, tokenizer and settings."""
        names = [
            name for name in self.__struct_fields__ if name not in ("schema", "texts", "logprobs")
        ]
        return all(getattr(self, name) == getattr(other, name) for name in names)
