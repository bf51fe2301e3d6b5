"""Parts of answers that several servers share: those of the OpenAI API, and token ids."""

from __future__ import annotations

import msgspec


class PromptUsage(msgspec.Struct, frozen=True):
    """How many tokens of a prompt the server counts."""

    prompt_tokens: int


class Usage(PromptUsage, frozen=True):
    """How many tokens of a prompt and of its completion the server counts."""

    completion_tokens: int


class Choice(msgspec.Struct, frozen=True):
    """One completion."""

    token_ids: list[int] | None = None
    finish_reason: str | None = None


class Completion(msgspec.Struct, frozen=True):
    """An answer of /v1/completions."""

    choices: list[Choice]
    usage: Usage


class Version(msgspec.Struct, frozen=True):
    """An answer of /version."""

    version: str


class Tokenized(msgspec.Struct, frozen=True):
    """An answer of /tokenize."""

    tokens: list[int]
