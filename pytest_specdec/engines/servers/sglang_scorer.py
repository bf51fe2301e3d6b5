"""Log-probabilities of given tokens from SGLang."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .scorer import Position, Scorer, number


class _MetaInfo(msgspec.Struct, frozen=True):
    prompt_tokens: int
    input_token_logprobs: list[list[Any]] | None = None
    input_top_logprobs: list[list[list[Any]] | None] | None = None


class _GenerateAnswer(msgspec.Struct, frozen=True):
    meta_info: _MetaInfo


class SglangScorer(Scorer):
    """SGLang's `return_logprob` on /generate: one request a text."""

    dialect = "sglang"

    def _positions(self, ids: Sequence[int], first: int, fresh: bool) -> list[Position]:
        # From position 0 on everything is computed again, without the prefix cache.
        body = {
            "input_ids": list(ids),
            "sampling_params": {"temperature": 0, "max_new_tokens": 1, "ignore_eos": True},
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": self.top,
        }
        meta = self.client.post_json("/generate", body, _GenerateAnswer).meta_info
        served, lists = meta.input_token_logprobs, meta.input_top_logprobs
        if (
            meta.prompt_tokens != len(ids)
            or served is None
            or lists is None
            or not len(served) == len(lists) == len(ids)
        ):
            self.refuse(
                f"{len(ids)} tokens were sent and {len(served) if served else 'none'} scored"
            )
        positions = []
        for position in range(first, len(ids)):
            value, token = self._pair(served[position])
            if token != ids[position]:
                self.refuse(
                    f"token {ids[position]} was sent at position {position} and {token} scored"
                )
            entries = sorted(
                (
                    (number(logprob), name)
                    for logprob, name in map(self._pair, lists[position] or ())
                ),
                reverse=True,
            )
            positions.append(Position(token, value, [(name, logprob) for logprob, name in entries]))
        return positions

    def _pair(self, triple: list[Any]) -> tuple[float | None, int]:
        """(log-probability, token) of SGLang's [log-probability, token, text]."""
        if (
            len(triple) < 2
            or not isinstance(triple[1], int)
            or not isinstance(triple[0], float | int | None)
        ):
            self.refuse(f"{triple!r} is not a pair of a log-probability and a token")
        return (None if triple[0] is None else float(triple[0])), triple[1]
