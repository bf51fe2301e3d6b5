"""TensorRT-LLM's HTTP server: one entry an iteration at /metrics, drained on read.

Requests run one at a time, so an iteration with a request that drafted is one round of it. The
server keeps the last 1,000 entries and forgets those read: they are read before the first request
and after every one. It needs `enable_iter_perf_stats: true` in its options file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ...cases.case import Sampling
from ..adapter_api import (
    RULES,
    Capabilities,
    Counters,
    CountingConvention,
    EngineSetup,
    ReportedRound,
    Totals,
)
from ..servers.client import Client
from ..servers.payloads import Completion, Version
from .server import ServedAdapter, ServerReply

_SETTLE, _LOOKS = 0.05, 20
"""Seconds between looks, and how many: the entries of the last iterations come a little after the
answer.
"""


class SpecStats(msgspec.Struct, frozen=True, rename="camel"):
    """Drafts of one iteration."""

    num_draft_tokens: int
    num_accepted_tokens: int
    num_requests_with_draft_tokens: int


class Iteration(msgspec.Struct, frozen=True):
    """One entry of /metrics."""

    iter: int
    stats: SpecStats | None = msgspec.field(default=None, name="specDecodingStats")


class TensorRtLlmServerAdapter(ServedAdapter):
    """`trtllm-serve` with a draft model, MTP heads or EAGLE heads."""

    name = "tensorrt-llm"
    capabilities = Capabilities(
        drafters=("model", "mtp", "eagle3"),
        rules=RULES,
        draft_depth=False,
        samples=True,
        filters=True,
        per_round=True,
        per_request=True,
        per_position=True,
        url="needed",
    )
    convention = CountingConvention(
        end="full",
        undelivered=True,
        argmax_drafts=True,
        counters=Counters(
            rounds="numRequestsWithDraftTokens",
            drafted="numDraftTokens",
            accepted="numAcceptedTokens",
            per_position="specDecodingStats",
        ),
    )

    def __init__(
        self,
        setup: EngineSetup,
        client: Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(setup, client)
        self._sleep = sleep
        self._last: int | None = None

    def version(self) -> str:
        return self.client.get_json("/version", Version).version

    def answer(
        self, ids: Sequence[int], sampling: Sampling, new_tokens: int, seed: int, k: int
    ) -> ServerReply:
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": list(ids),
            "max_tokens": new_tokens,
            "seed": seed,
            "detokenize": False,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "include_stop_str_in_output": True,
        }
        lost = self.client.lost
        answer = self.client.post_json("/v1/completions", body, Completion)
        tokens = self.completed_tokens(answer, ids, outdated="token_ids; update it")
        if self.client.lost != lost:
            raise self.refuse(
                "a request was sent again, so /metrics holds rounds of a lost answer; run again"
            )
        rounds = self._rounds(len(tokens))
        return ServerReply(
            new_ids=tokens,
            rounds=tuple(rounds),
            totals=None,
            finish=answer.choices[0].finish_reason,
        )

    def begin(self) -> None:
        """Forget what others did before."""
        self._last = None
        self._read()

    def growth(self) -> Totals | None:
        """None: /metrics reports everything request by request. Raises ServerError where somebody
        else's iterations are left.
        """
        if any(
            entry.stats and entry.stats.num_requests_with_draft_tokens for entry in self._read()
        ):
            raise self.refuse(
                "/metrics reports rounds that belong to no answer; run again on a server that "
                "nobody else uses"
            )
        return None

    def encode(self, text: str) -> list[int]:
        raise self.refuse(
            "it encodes no prompts for clients; name the target's folder by --specdec-target"
        )

    def _rounds(self, tokens: int) -> list[ReportedRound]:
        """The rounds of the request just answered; waits until they make its text."""
        rounds: list[ReportedRound] = []
        for _ in range(_LOOKS):
            for entry in self._read():
                stats = entry.stats
                if stats is None or not stats.num_requests_with_draft_tokens:
                    continue
                if stats.num_requests_with_draft_tokens > 1:
                    raise self.refuse(
                        "two requests drafted in one iteration: somebody else uses the server; run "
                        "again alone"
                    )
                rounds.append(ReportedRound(stats.num_draft_tokens, stats.num_accepted_tokens))
            if sum(one_round.accepted + 1 for one_round in rounds) >= tokens - 1:
                return rounds
            self._sleep(_SETTLE)
        if not rounds:
            raise self.refuse(
                "/metrics has no specDecodingStats for a request that was answered; start it with "
                "enable_iter_perf_stats: true"
            )
        return rounds

    def _read(self) -> list[Iteration]:
        """Entries not read before. Raises ServerError where they run backwards."""
        entries = self.client.get_json("/metrics", list[Iteration])
        for entry in entries:
            if self._last is not None and entry.iter <= self._last:
                raise self.refuse(
                    f"/metrics went backwards ({self._last}, then {entry.iter}): it was restarted; "
                    "run again"
                )
            self._last = entry.iter
        return entries
