"""vLLM's HTTP server: per-step lists in its answers where it gives them, else its counters.

`--enable-per-request-metrics --per-request-spec-decode-metrics detailed` puts `per_step_accepted`
and `per_step_drafted` into every answer, `summary` a histogram; without either only /metrics
counts, for all requests together. vLLM drafts k tokens in every round, past the length limit too,
and counts what it then cuts off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ...cases.case import Sampling
from ..adapter_api import (
    RULES,
    Capabilities,
    Counters,
    CountingConvention,
    DrafterKind,
    EngineSetup,
    GenerationRequest,
    ReportedRound,
    Totals,
)
from ..servers.client import Client, ServerError
from ..servers.metrics import Reading, parse
from ..servers.payloads import Completion, Tokenized, Version
from ..servers.reported_drafts import contradiction
from ..servers.vllm_scorer import VllmScorer
from .server import ServedAdapter, ServerReply

_DRAFTS = "vllm:spec_decode_num_drafts"
_DRAFTED = "vllm:spec_decode_num_draft_tokens"
_ACCEPTED = "vllm:spec_decode_num_accepted_tokens"
_POSITIONS = "vllm:spec_decode_num_accepted_tokens_per_pos"


METHODS: Mapping[str, DrafterKind] = {
    "draft_model": "model",
    "mtp": "mtp",
    "eagle3": "eagle3",
    "ngram": "prompt-lookup",
    "ngram_gpu": "prompt-lookup",
}
"""What the methods of `--speculative-config` draft with."""


class SpecMetrics(msgspec.Struct, frozen=True):
    """vLLM's report of one request's rounds, the same over HTTP and in process."""

    num_spec_steps: int
    num_accepted_draft_tokens: int
    num_draft_tokens: int
    acceptance_histogram: list[int] | None = None
    per_step_accepted: list[int] | None = None
    per_step_drafted: list[int] | None = None

    def rounds(self) -> tuple[ReportedRound, ...] | None:
        """In order, where the metrics are detailed. Raises ValueError for lists that contradict the
        sums.
        """
        if self.per_step_accepted is None or self.per_step_drafted is None:
            return () if not self.num_spec_steps else None
        pairs = zip(self.per_step_drafted, self.per_step_accepted, strict=True)
        rounds = tuple(ReportedRound(drafted, accepted) for drafted, accepted in pairs)
        if len(rounds) != self.num_spec_steps:
            raise ValueError(
                f"num_spec_steps is {self.num_spec_steps} and per_step_accepted has {len(rounds)}"
            )
        return rounds

    def totals(self) -> Totals:
        """The request's sums. Raises ValueError for a histogram that contradicts them."""
        positions = None
        if (histogram := self.acceptance_histogram) is not None:
            if sum(histogram) != self.num_spec_steps:
                raise ValueError(
                    f"num_spec_steps is {self.num_spec_steps} and acceptance_histogram adds up to "
                    f"{sum(histogram)}"
                )
            positions = tuple(sum(histogram[position:]) for position in range(1, len(histogram)))
        return Totals(
            rounds=self.num_spec_steps,
            drafted=self.num_draft_tokens,
            accepted=self.num_accepted_draft_tokens,
            per_position=positions,
        )


class _Metrics(msgspec.Struct, frozen=True):
    speculative_decoding: SpecMetrics | None = None


class _VllmCompletion(Completion, frozen=True):
    metrics: _Metrics | None = None


class _Speculation(msgspec.Struct, frozen=True):
    method: str | None = None
    model: str | None = None


class _Config(msgspec.Struct, frozen=True):
    speculative_config: _Speculation | None = None


class _ServerConfig(msgspec.Struct, frozen=True):
    """/server_info, which a server has only with VLLM_SERVER_DEV_MODE=1."""

    vllm_config: _Config


class VllmServerAdapter(ServedAdapter):
    """A vLLM server that drafts."""

    name = "vllm"
    dialect = VllmScorer
    capabilities = Capabilities(
        rules=RULES,
        draft_depth=False,
        samples=True,
        filters=True,
        per_round=True,
        per_request=False,
        pooled=True,
        per_position=True,
        drafters=("model", "mtp", "eagle3", "prompt-lookup"),
        url="needed",
        batches=True,
    )
    convention = CountingConvention(
        end="full",
        undelivered=True,
        argmax_drafts=True,
        counters=Counters(
            rounds=_DRAFTS, drafted=_DRAFTED, accepted=_ACCEPTED, per_position=_POSITIONS
        ),
    )

    def __init__(self, setup: EngineSetup, client: Client | None = None) -> None:
        super().__init__(setup, client)
        self._start: Reading | None = None

    def version(self) -> str:
        return self.client.get_json("/version", Version).version

    def other_drafter(self, request: GenerationRequest) -> str | None:
        try:
            info = self.client.get_json("/server_info?config_format=json", _ServerConfig)
        except ServerError as error:
            if error.status is None:
                raise
            return None  # the page is turned off
        speculation = info.vllm_config.speculative_config
        if speculation is None or speculation.method is None:
            return None
        path = speculation.model if METHODS.get(speculation.method) != "mtp" else None
        return contradiction(request, METHODS, method=speculation.method, path=path)

    def answer(
        self, ids: Sequence[int], sampling: Sampling, new_tokens: int, seed: int, k: int
    ) -> ServerReply:
        body = {
            "model": self.model,
            "prompt": list(ids),
            "max_tokens": new_tokens,
            "seed": seed,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k or -1,
            "top_p": sampling.top_p,
            "min_p": 0.0,
            # The server takes what is left open from the checkpoint's generation_config.json.
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "return_token_ids": True,
        }
        answer = self.client.post_json("/v1/completions", body, _VllmCompletion)
        tokens = self.completed_tokens(answer, ids, outdated="ids; use vLLM 0.10.2 or later")
        finish = answer.choices[0].finish_reason
        spec_metrics = answer.metrics.speculative_decoding if answer.metrics else None
        if spec_metrics is None:
            return ServerReply(new_ids=tokens, rounds=None, totals=None, finish=finish)
        try:
            return ServerReply(
                new_ids=tokens,
                rounds=spec_metrics.rounds(),
                totals=spec_metrics.totals(),
                finish=finish,
            )
        except ValueError as error:
            raise self.refuse(
                f"its numbers contradict each other: {error}; report its version, {self.version()}"
            ) from None

    def begin(self) -> None:
        self._start = self._reading()
        if not self._start.has(_DRAFTS):
            raise self.refuse(
                f"/metrics has no {_DRAFTS}: it does not draft; start it with --speculative-config"
            )

    def growth(self) -> Totals | None:
        assert self._start is not None
        grown = self._reading().since(self._start, _DRAFTS, _DRAFTED, _ACCEPTED, _POSITIONS)
        return Totals(
            rounds=grown.whole(_DRAFTS),
            drafted=grown.whole(_DRAFTED),
            accepted=grown.whole(_ACCEPTED),
            per_position=grown.by_position(_POSITIONS),
        )

    def encode(self, text: str) -> list[int]:
        return self.client.post_json(
            "/tokenize", {"model": self.model, "prompt": text}, Tokenized
        ).tokens

    def _reading(self) -> Reading:
        return parse(self.client.get_text("/metrics"), self.client.url + "/metrics")
