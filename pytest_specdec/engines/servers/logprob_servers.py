"""Which model a server serves, and the scorer for its dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ...common.errors import RequestError
from .client import Client
from .llama_cpp_scorer import LlamaCppScorer
from .scorer import Scorer, ServedModel
from .sglang_scorer import SglangScorer
from .vllm_scorer import EchoScorer, VllmScorer


class Card(msgspec.Struct, frozen=True):
    """A model that a server serves."""

    id: str
    owned_by: str = ""
    root: str | None = None
    parent: str | None = None
    """The model that an adapter belongs to; vLLM lists both."""
    max_model_len: int | None = None
    meta: dict[str, Any] | None = None

    @property
    def identity(self) -> str:
        """All that distinguishes weights, in words."""
        facts = {"id": self.id, "root": self.root, "max_model_len": self.max_model_len} | (
            self.meta or {}
        )
        return ", ".join(
            f"{name}={value}" for name, value in sorted(facts.items()) if value is not None
        )


class _Models(msgspec.Struct, frozen=True):
    data: list[Card]


SCORERS: Mapping[str, type[Scorer]] = {
    "vllm": VllmScorer,
    "sglang": SglangScorer,
    "llamacpp": LlamaCppScorer,
}
"""By the owner that a server's /v1/models names; `echo` is for every other server."""


def scorer_at(client: Client, top: int = 1) -> Scorer:
    """The scorer of the one model that a server serves; its dialect is read from
    /v1/models.

    Raises RequestError for a server of several models.
    """
    card = served_model(client)
    return SCORERS.get(card.owned_by, EchoScorer)(client, ServedModel(card.id, card.identity), top)


def served_model(client: Client) -> Card:
    """The one model that a server serves. Raises RequestError for a server of several."""
    cards = client.get_json("/v1/models", _Models).data
    owners = [card for card in cards if card.parent is None]
    if len(owners) != 1:
        names = ", ".join(card.id for card in cards) or "none"
        raise RequestError(
            f"{client.url} serves {len(cards)} models ({names}); name a server of one model"
        )
    return owners[0]
