"""SGLang's HTTP server: `meta_info` of /generate counts each request's rounds; /server_info
reports how they are verified.

SGLang drafts the same number of tokens in every round, however few are left to emit. Its requests
take no seed outside of its deterministic mode, so texts sampled twice differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...cases.case import Sampling
from ...cases.tree import DynamicTree
from ...common.errors import MeasurementError
from ..adapter_api import (
    RULES,
    Capabilities,
    Counters,
    CountingConvention,
    DrafterKind,
    GenerationRequest,
    Totals,
)
from ..servers.client import Client, ServerError
from ..servers.payloads import Tokenized
from ..servers.reported_drafts import contradiction
from ..servers.sglang_scorer import SglangScorer
from .server import ServedAdapter, ServerReply

ALGORITHMS: Mapping[str, DrafterKind] = {
    "STANDALONE": "model",
    "EAGLE": "mtp",
    "NEXTN": "mtp",
    "EAGLE3": "eagle3",
    "NGRAM": "prompt-lookup",
}
"""What `--speculative-algorithm` drafts with. It calls a target's own MTP layers EAGLE, too."""


class _Finish(msgspec.Struct, frozen=True):
    """`stop`, `length` or `abort`."""

    type: str


class MetaInfo(msgspec.Struct, frozen=True):
    """A request's own counts, under the names that SGLang has had for them, the newest first."""

    prompt_tokens: int
    completion_tokens: int
    finish_reason: _Finish | None = None
    spec_verify_ct: int | None = None
    spec_num_correct_drafts: int | None = None
    spec_accepted_drafts: int | None = None
    spec_accept_token_num: int | None = None
    spec_num_proposed_drafts: int | None = None
    spec_proposed_drafts: int | None = None
    spec_draft_token_num: int | None = None
    spec_correct_drafts_histogram: list[int] | None = None
    spec_accept_histogram: list[int] | None = None

    def totals(self) -> Totals:
        """The request's sums. Raises ValueError where one is missing, or contradicts the others."""
        accepted = _first(
            self.spec_num_correct_drafts, self.spec_accepted_drafts, self.spec_accept_token_num
        )
        drafted = _first(
            self.spec_num_proposed_drafts, self.spec_proposed_drafts, self.spec_draft_token_num
        )
        if self.spec_verify_ct == 0:
            return Totals(rounds=0, drafted=0, accepted=0, per_position=())
        if self.spec_verify_ct is None or accepted is None or drafted is None:
            named = {
                "spec_verify_ct": self.spec_verify_ct,
                "spec_num_correct_drafts": accepted,
                "spec_num_proposed_drafts": drafted,
            }
            missing = ", ".join(name for name, value in named.items() if value is None)
            raise ValueError(f"meta_info has no {missing}")
        histogram = self.spec_correct_drafts_histogram or self.spec_accept_histogram
        positions = None
        if histogram:
            if sum(histogram) != self.spec_verify_ct:
                raise ValueError(
                    f"spec_verify_ct is {self.spec_verify_ct} and the histogram adds up to "
                    f"{sum(histogram)}"
                )
            positions = tuple(sum(histogram[position:]) for position in range(1, len(histogram)))
        return Totals(
            rounds=self.spec_verify_ct, drafted=drafted, accepted=accepted, per_position=positions
        )


class _Generated(msgspec.Struct, frozen=True):
    meta_info: MetaInfo
    output_ids: list[int] | None = None


class ServerInfo(msgspec.Struct, frozen=True):
    """What /server_info reports about speculation."""

    version: str = "unknown"
    speculative_algorithm: str | None = None
    speculative_draft_model_path: str | None = None
    speculative_num_steps: int | None = None
    speculative_eagle_topk: int | None = None
    speculative_num_draft_tokens: int | None = None
    speculative_accept_threshold_single: float = 1.0
    speculative_accept_threshold_acc: float = 1.0

    @property
    def tree(self) -> DynamicTree | None:
        """The tree of each round; None for chains. SGLang counts the root among its draft
        tokens.
        """
        numbers = (
            self.speculative_eagle_topk or 1,
            self.speculative_num_steps or 0,
            (self.speculative_num_draft_tokens or 0) - 1,
        )
        return DynamicTree(*numbers) if numbers[0] > 1 and min(numbers) > 0 else None

    @property
    def lossy(self) -> str | None:
        """The thresholds below 1, which accept more than is lossless."""
        thresholds = {
            "speculative_accept_threshold_single": self.speculative_accept_threshold_single,
            "speculative_accept_threshold_acc": self.speculative_accept_threshold_acc,
        }
        low = ", ".join(f"{name}={value:g}" for name, value in thresholds.items() if value < 1)
        return f"lossy acceptance ({low})" if low else None


class SglangServerAdapter(ServedAdapter):
    """An SGLang server that drafts chains, or the dynamic tree of a case."""

    name = "sglang"
    dialect = SglangScorer
    capabilities = Capabilities(
        drafters=("model", "mtp", "eagle3", "prompt-lookup"),
        rules=RULES,
        draft_depth=False,
        samples=True,
        filters=True,
        per_request=True,
        per_position=True,
        trees=True,
        url="needed",
        batches=True,
    )
    convention = CountingConvention(
        end="full",
        undelivered=True,
        argmax_drafts=True,
        counters=Counters(
            rounds="spec_verify_ct",
            drafted="spec_num_proposed_drafts",
            accepted="spec_num_correct_drafts",
            per_position="spec_correct_drafts_histogram",
        ),
    )

    _tree: DynamicTree | None = None
    """Of the request."""

    def version(self) -> str:
        return server_info(self.client).version

    def other_drafter(self, request: GenerationRequest) -> str | None:
        info, tree = server_info(self.client), request.tree
        self._tree = tree
        if tree is not None and info.tree != tree:
            return f"it drafts {info.tree or 'chains'} and the case drafts {tree}"
        if (algorithm := info.speculative_algorithm) is None:
            return None
        path = info.speculative_draft_model_path
        # MTP layers may be served from the target's own folder, named as the draft's.
        drafts = None if ALGORITHMS.get(algorithm) == "mtp" else path
        return contradiction(request, ALGORITHMS, method=algorithm, path=drafts)

    def altered(self) -> str | None:
        """Lossy thresholds. Raises MeasurementError for a server that does not draft, or drafts
        trees.
        """
        info = server_info(self.client)
        if info.speculative_algorithm is None:
            raise MeasurementError(
                f"{self.client.url} does not draft; start it with --speculative-algorithm"
            )
        if (info.speculative_eagle_topk or 1) > 1 and self._tree is None:
            named = f", or name its tree by --specdec-tree={info.tree}" if info.tree else ""
            raise MeasurementError(
                f"{self.client.url} drafts trees "
                f"(speculative_eagle_topk={info.speculative_eagle_topk}) and the case chains; "
                f"start it with --speculative-eagle-topk 1{named}"
            )
        return info.lossy

    def answer(
        self, ids: Sequence[int], sampling: Sampling, new_tokens: int, seed: int, k: int
    ) -> ServerReply:
        meta, tokens = self._ask(ids, sampling, new_tokens)
        try:
            return ServerReply(
                new_ids=tokens,
                rounds=None,
                totals=self._by_depth(meta.totals()),
                finish=meta.finish_reason.type if meta.finish_reason else None,
            )
        except ValueError as error:
            raise self.refuse(f"{error}; turn on speculative decoding, or update SGLang") from None

    def _by_depth(self, totals: Totals) -> Totals:
        """Sums of trees, in which a round drafts each depth once. Raises ValueError for other
        numbers of nodes.
        """
        tree, rounds = self._tree, totals.rounds or 0
        if tree is None:
            return totals
        if totals.drafted != rounds * tree.nodes:
            raise ValueError(
                f"it counts {totals.drafted} drafts in {rounds} rounds of {tree.nodes} nodes"
            )
        return dataclasses.replace(totals, drafted=rounds * tree.depth)

    def emit(
        self, ids: Sequence[int], sampling: Sampling, new_tokens: int, seed: int
    ) -> tuple[int, ...]:
        return self._ask(ids, sampling, new_tokens)[1]

    def _ask(
        self, ids: Sequence[int], sampling: Sampling, new_tokens: int
    ) -> tuple[MetaInfo, tuple[int, ...]]:
        settings: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k or -1,
            "top_p": sampling.top_p,
            "min_p": 0.0,
            "max_new_tokens": new_tokens,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }
        answer = self.client.post_json(
            "/generate", {"input_ids": list(ids), "sampling_params": settings}, _Generated
        )
        meta, tokens = answer.meta_info, answer.output_ids
        if tokens is None or len(tokens) != meta.completion_tokens:
            raise self.refuse(
                f"it counts {meta.completion_tokens} new tokens and returns {len(tokens or ())} "
                "output_ids; update SGLang"
            )
        if meta.prompt_tokens != len(ids):
            raise self.refuse(
                f"{len(ids)} prompt tokens were sent and it counts {meta.prompt_tokens}; report "
                "its version"
            )
        return meta, tuple(tokens)

    def begin(self) -> None:
        """Nothing: every answer has its own counts, and the server's page gives only an unweighted
        mean since its start.
        """

    def growth(self) -> Totals | None:
        return None

    def encode(self, text: str) -> list[int]:
        return self.client.post_json("/tokenize", {"prompt": text}, Tokenized).tokens


def server_info(client: Client) -> ServerInfo:
    """What an SGLang server reports about itself. Raises ServerError for any other server."""
    try:
        return client.get_json("/server_info", ServerInfo)
    except ServerError as error:
        if error.status != 404:
            raise
        # Its name in older versions.
        return client.get_json("/get_server_info", ServerInfo)


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
