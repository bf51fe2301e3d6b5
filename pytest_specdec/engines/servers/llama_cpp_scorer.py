"""Log-probabilities of given tokens from llama.cpp."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec

from .payloads import Tokenized
from .scorer import Position, Scorer, number

_FORCE = 1e4
"""Added to a token's logit so that llama.cpp emits it; the log-probabilities are served without
it.
"""


class _Top(msgspec.Struct, frozen=True):
    id: int
    logprob: float | None


class _Forced(msgspec.Struct, frozen=True):
    id: int
    logprob: float | None
    top_logprobs: list[_Top]


class _Completion(msgspec.Struct, frozen=True):
    tokens_evaluated: int
    completion_probabilities: list[_Forced] = []


class LlamaCppScorer(Scorer):
    """llama.cpp serves no prompt's log-probabilities: each position is one request that emits the
    text's own token.

    A bias on that token's logit makes it the one emitted; `logprob` and `top_logprobs` come from
    the logits without the bias (`post_sampling_probs` off). The server's prompt cache makes each
    request one token's work. A server that drafts serves probabilities of a request's first token
    only, which is all that is requested here. A token that ends inside a character comes without
    probabilities: there a plain letter is emitted and the token found in the whole vocabulary.
    """

    dialect = "llama.cpp"
    again = 16

    def _positions(self, ids: Sequence[int], first: int, fresh: bool) -> list[Position]:
        return [
            self._position(ids[:position], ids[position], fresh)
            for position in range(first, len(ids))
        ]

    def _position(self, before: Sequence[int], token: int, fresh: bool) -> Position:
        """The token's log-probability after `before`, and the largest ones there."""
        forced = self._forced(before, token, self.top, fresh)
        if forced is not None:
            return Position(
                token,
                forced.logprob,
                [(entry.id, number(entry.logprob)) for entry in forced.top_logprobs],
            )
        forced = self._forced(before, self._letter, 1 << 24, fresh)
        everything = (
            []
            if forced is None
            else [(entry.id, number(entry.logprob)) for entry in forced.top_logprobs]
        )
        return Position(
            token, next((value for name, value in everything if name == token), None), everything
        )

    def _forced(
        self, before: Sequence[int], token: int, largest: int, fresh: bool
    ) -> _Forced | None:
        """What comes with a token that is forced to be emitted after `before`; None where it comes
        without probabilities.
        """
        body = {
            "prompt": list(before),
            "n_predict": 1,
            "n_probs": largest,
            "logit_bias": [[token, _FORCE]],
            "top_k": 1,
            "temperature": 1.0,
            "post_sampling_probs": False,
            "cache_prompt": not fresh,
            "samplers": ["top_k"],
        }
        answer = self.client.post_json("/completion", body, _Completion)
        if answer.tokens_evaluated != len(before):
            self.refuse(
                f"{len(before)} tokens were sent and it evaluated {answer.tokens_evaluated}"
            )
        if not answer.completion_probabilities:
            return None
        if (
            len(answer.completion_probabilities) != 1
            or answer.completion_probabilities[0].id != token
        ):
            names = [entry.id for entry in answer.completion_probabilities]
            self.refuse(
                f"token {token} was forced at position {len(before)}, but it emitted {names}"
            )
        return answer.completion_probabilities[0]

    @functools.cached_property
    def _letter(self) -> int:
        """A token that is whole characters."""
        return self.client.post_json(
            "/tokenize", {"content": "a", "add_special": False}, Tokenized
        ).tokens[-1]
