"""llama.cpp's HTTP server: rounds from the stream of tokens, sums from `timings`, counters from
/metrics.

With `timings_per_token` each streamed token carries the request's `draft_n` and `draft_n_accepted`
so far, which grow once a round; both are absent while nothing was drafted. The first token comes
from the prompt pass, without drafts. Near the token limit fewer tokens are drafted. A token that
ends inside a character is not streamed: such a request is sent again, unstreamed, for its token
ids.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
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
from ..servers.client import Client, ServerError
from ..servers.llama_cpp_scorer import LlamaCppScorer
from ..servers.metrics import Reading, parse
from ..servers.payloads import Tokenized
from .server import ServedAdapter, ServerReply, rounds_totals

_DRAFTS = "llamacpp:spec_decode_num_drafts"
_DRAFTED = "llamacpp:spec_decode_num_draft_tokens"
_ACCEPTED = "llamacpp:spec_decode_num_accepted_tokens"
_POSITIONS = "llamacpp:spec_decode_num_accepted_tokens_per_pos"


_FINISH = {"limit": "length", "eos": "stop", "word": "stop"}
"""Its `stop_type`, in the words of `Reported.finish`."""


class _Timings(msgspec.Struct, frozen=True):
    """Counts of a request so far; drafts are left out while there are none."""

    predicted_n: int
    draft_n: int = 0
    draft_n_accepted: int = 0


class Piece(msgspec.Struct, frozen=True):
    """One event of a stream."""

    stop: bool
    tokens_predicted: int
    timings: _Timings | None = None
    tokens: list[int] = []
    tokens_evaluated: int | None = None
    truncated: bool = False
    stop_type: str | None = None
    """Of the last one: `limit`, `eos` or `word`."""


class _Whole(msgspec.Struct, frozen=True):
    tokens: list[int]
    tokens_predicted: int
    tokens_evaluated: int
    timings: _Timings


class _Props(msgspec.Struct, frozen=True):
    build_info: str


class LlamaCppServerAdapter(ServedAdapter):
    """`llama-server`, or the same server inside the wheel `xllamacpp`."""

    name = "llama-cpp"
    dialect = LlamaCppScorer
    capabilities = Capabilities(
        drafters=("model", "mtp", "prompt-lookup"),
        rules=RULES,
        draft_depth=False,
        samples=True,
        filters=True,
        per_round=True,
        per_request=True,
        per_position=True,
        url="needed",
        batches=True,
    )
    convention = CountingConvention(
        undelivered=True,
        counts_empty=True,
        argmax_drafts=True,
        counters=Counters(
            rounds=_DRAFTS, drafted="draft_n", accepted="draft_n_accepted", per_position=_POSITIONS
        ),
    )

    def __init__(self, setup: EngineSetup, client: Client | None = None) -> None:
        super().__init__(setup, client)
        self._start: Reading | None = None
        self._repeated: list[Totals] = []

    def version(self) -> str:
        return self.client.get_json("/props", _Props).build_info

    def answer(
        self, ids: Sequence[int], sampling: Sampling, new_tokens: int, seed: int, k: int
    ) -> ServerReply:
        body = _body(ids, sampling, new_tokens, seed)
        pieces = self.client.post_events(
            "/completion", body | {"stream": True, "timings_per_token": True}, Piece
        )
        end = pieces[-1]
        if not end.stop or end.timings is None:
            raise self.refuse(
                "the stream ends without its last event; look into the server's log and run again"
            )
        if end.truncated or end.tokens_evaluated not in (None, len(ids)):
            raise self.refuse(
                f"{len(ids)} prompt tokens were sent and {end.tokens_evaluated} evaluated; raise "
                "its -c"
            )
        tokens = [token for piece in pieces for token in piece.tokens]
        try:
            rounds = rounds_of(pieces, k)
        except ValueError as error:
            raise self.refuse(
                f"its counters contradict each other: {error}; report its version, {self.version()}"
            ) from None
        timings, counted = end.timings, None
        if len(tokens) < end.tokens_predicted:
            tokens, counted = self._unstreamed(body, pieces)
        finish = _FINISH.get(end.stop_type, end.stop_type) if end.stop_type else None
        return ServerReply(
            new_ids=tuple(tokens),
            rounds=None if rounds is None else tuple(rounds),
            totals=_request_totals(timings, rounds, counted, len(tokens)),
            finish=finish,
        )

    def begin(self) -> None:
        try:
            self._start = self._reading()
        except ServerError as error:
            # Without --metrics the server answers 501.
            if error.status not in (501, 404):
                raise
            self._start = None
        self._repeated = []

    def growth(self) -> Totals | None:
        """Without the requests that were sent twice."""
        if self._start is None:
            return None
        since_begin = _grown(self._start, self._reading())
        return functools.reduce(_minus, self._repeated, since_begin)

    def encode(self, text: str) -> list[int]:
        return self.client.post_json(
            "/tokenize", {"content": text, "add_special": True}, Tokenized
        ).tokens

    def _reading(self) -> Reading:
        return parse(self.client.get_text("/metrics"), self.client.url + "/metrics")

    def _unstreamed(
        self, body: dict[str, Any], pieces: Sequence[Piece]
    ) -> tuple[list[int], Totals | None]:
        """The token ids of a request that streamed only some, from sending it again, and what that
        was counted as.

        Raises ServerError where the two texts differ.
        """
        before = None if self._start is None else self._reading()
        whole = self.client.post_json("/completion", body | {"return_tokens": True}, _Whole)
        at = [(piece.tokens_predicted - 1, token) for piece in pieces for token in piece.tokens]
        same = whole.tokens_predicted == len(whole.tokens) == pieces[-1].tokens_predicted
        if not same or any(whole.tokens[position] != token for position, token in at):
            raise self.refuse(
                "the same request with the same seed gave two texts; use --specdec-temperature=0, "
                "or run it without other load"
            )
        if before is None:
            return whole.tokens, None
        counted = _grown(before, self._reading())
        self._repeated.append(counted)
        return whole.tokens, counted


def _request_totals(
    timings: _Timings, rounds: Sequence[ReportedRound] | None, counted: Totals | None, tokens: int
) -> Totals:
    """A request's sums; `counted` is the growth of the server's counters when it was repeated."""
    round_count, positions = (
        (None, None) if rounds is None else (len(rounds), rounds_totals(rounds).per_position)
    )
    drafted, accepted = timings.draft_n, timings.draft_n_accepted
    if counted is not None and (counted.drafted, counted.accepted) == (drafted, accepted):
        # The counter leaves out a last round that drafts nothing; an EOS token leaves accepted
        # tokens out of the text.
        round_count = round_count or max(counted.rounds or 0, tokens - 1 - accepted)
        positions = counted.per_position
    return Totals(rounds=round_count, drafted=drafted, accepted=accepted, per_position=positions)


def _grown(before: Reading, now: Reading) -> Totals:
    grown = now.since(before, _DRAFTS, _DRAFTED, _ACCEPTED, _POSITIONS)
    return Totals(
        rounds=grown.whole(_DRAFTS),
        drafted=grown.whole(_DRAFTED),
        accepted=grown.whole(_ACCEPTED),
        per_position=grown.by_position(_POSITIONS),
    )


def _minus(totals: Totals, subtracted: Totals) -> Totals:
    pairs = itertools.zip_longest(
        totals.per_position or (), subtracted.per_position or (), fillvalue=0
    )
    rounds = (totals.rounds or 0) - (subtracted.rounds or 0)
    return Totals(
        rounds=rounds,
        drafted=totals.drafted - subtracted.drafted,
        accepted=totals.accepted - subtracted.accepted,
        per_position=tuple(a - b for a, b in pairs),
    )


def rounds_of(pieces: Sequence[Piece], k: int | None = None) -> list[ReportedRound] | None:
    """The rounds of a stream, those that draft nothing among them; None where unstreamed tokens
    leave that open.

    `k` is the most tokens that a round drafts, where it is known. Raises ValueError where the
    counters contradict each other.
    """
    seen, end = _Timings(0), 1
    rounds: list[ReportedRound] = []
    for piece in pieces:
        now = piece.timings or _Timings(piece.tokens_predicted)
        drafted, accepted = now.draft_n - seen.draft_n, now.draft_n_accepted - seen.draft_n_accepted
        gap = piece.tokens_predicted - end
        if not 0 <= accepted <= drafted or (drafted and gap < 1):
            raise ValueError(
                f"at token {piece.tokens_predicted} draft_n is {now.draft_n} after {seen.draft_n}, "
                "draft_n_accepted "
                f"{now.draft_n_accepted} after {seen.draft_n_accepted}"
            )
        if drafted:
            fresh = _fresh_rounds(drafted, accepted, gap, k)
            if fresh is None:
                return None
        else:
            # One token a step where there was nothing to draft.
            fresh = [ReportedRound(0, 0)] * gap
        rounds += fresh
        end += sum(taken + 1 for _, taken in fresh)
        seen = now
    return rounds


def _fresh_rounds(
    drafted: int, accepted: int, gap: int, k: int | None
) -> list[ReportedRound] | None:
    """The rounds that made counters grow so far while `gap` tokens came, all but the last of them
    unstreamed.

    None where there is more than one way, as when a character of several tokens spans two rounds
    that accepted some.
    """
    if gap == 1 or k is None or drafted <= k:
        return [ReportedRound(drafted, accepted)] if gap <= accepted + 1 else None
    sizes = [k] * (drafted // k) + [drafted % k] * (drafted % k > 0)
    if len(sizes) > gap:
        return None
    # All rounds but the last emitted unstreamed tokens only, the last one the streamed one too.
    ways = [
        counts
        for counts in itertools.product(*(range(min(size, accepted) + 1) for size in sizes))
        if sum(counts) == accepted
        and sum(counts[:-1]) + len(sizes) - 1 < gap <= accepted + len(sizes)
    ]
    return (
        [ReportedRound(*pair) for pair in zip(sizes, ways[0], strict=True)]
        if len(ways) == 1
        else None
    )


def _body(ids: Sequence[int], sampling: Sampling, new_tokens: int, seed: int) -> dict[str, Any]:
    """A request's settings; the server's own defaults would change the distribution."""
    return {
        "prompt": list(ids),
        "n_predict": new_tokens,
        "seed": seed,
        "cache_prompt": False,
        "min_p": 0.0,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "samplers": ["temperature", "top_k", "top_p"],
    }
