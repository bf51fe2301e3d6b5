"""The lines of a trace: one header and one line a text (docs/trace.md)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ...cases.prompts import key_of
from ...common.limits import (
    HIGHEST_TEMPERATURE,
    MOST_DEPTH,
    MOST_K,
    MOST_NEW_TOKENS,
    MOST_SEED,
    MOST_TOKEN_ID,
)
from ..adapter_api import CountingConvention, DrafterKind, Totals

SCHEMA: Literal[1] = 1

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
    """The limit of the request."""
    drafter: DrafterKind = "model"
    seed: Annotated[int, Meta(ge=0, le=MOST_SEED)] = 0
    prefill_drafts: bool = False
    end: Literal["clipped", "full"] = "clipped"
    undelivered: bool = False
    counts_empty: bool = False
    argmax_drafts: bool = False
    rule: str | None = None
    """The verification rule; None for the temperature's default."""
    ngrams: tuple[int, int] | None = None
    """Of prompt lookup: the shortest and the longest that are looked up."""
    eos: tuple[_TokenId, ...] | None = None
    """Token ids that end a text; None for the target's own."""
    stop: tuple[int | str, ...] = ()
    """Further token ids and strings that end one."""
    altered: _Name | None = None
    masked_drafts: bool = True
    """Of recorded masks: whether they were applied to the drafter's logits, too."""

    @property
    def convention(self) -> CountingConvention:
        return CountingConvention(
            prefill_drafts=self.prefill_drafts,
            end=self.end,
            undelivered=self.undelivered,
            counts_empty=self.counts_empty,
            argmax_drafts=self.argmax_drafts,
            ngrams=self.ngrams,
        )


class Sums(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An engine's sums, where it does not report its rounds."""

    drafted: _Count
    accepted: _Count
    rounds: _Count | None = None
    per_position: tuple[_Count, ...] | None = None

    @property
    def totals(self) -> Totals:
        return Totals(
            rounds=self.rounds,
            drafted=self.drafted,
            accepted=self.accepted,
            per_position=self.per_position,
        )


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
    masks: tuple[tuple[tuple[_TokenId, _TokenId], ...] | None, ...] | None = None
    """Allowed ids of each new token: `[first, last]` of each range, null where all are."""
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
