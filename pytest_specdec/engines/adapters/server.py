"""What the adapters of servers share: texts one by one, the server's own counters, and a check for
modes that are not lossless.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import functools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from ...cases.case import Sampling
from ...common.errors import DraftCountError, RequestError, SpecdecError
from ...common.printable import KEY
from ..adapter_api import (
    Capabilities,
    CountingConvention,
    EngineSetup,
    GenerationRequest,
    PooledCounters,
    PromptRequest,
    Reported,
    ReportedRound,
    Timings,
    Totals,
)
from ..servers.client import Client, ServerError
from ..servers.logprob_servers import scorer_at, served_model
from ..servers.metrics import RestartedError
from ..servers.payloads import Completion
from ..servers.repeatability import apart
from ..servers.scorer import Scorer

_Answer = TypeVar("_Answer")

PROBES, PROBE_TOKENS = 2, 48
"""Greedy texts, and their new tokens, that show a mode that is not lossless."""
_TIE = 0.5
"""Nats below the likeliest token up to which another choice is rounding: four steps of a bfloat16
logit between 16 and 32.
"""


class ServerReply(NamedTuple):
    """A server's answer to one request; None for what it does not report."""

    new_ids: tuple[int, ...]
    rounds: tuple[ReportedRound, ...] | None
    totals: Totals | None
    finish: str | None = None
    """Why the text ends, see `Reported.finish`."""


class ServedAdapter(abc.ABC):
    """A speculative decoder at `--specdec-url`: an `Adapter` except for what differs between
    engines.
    """

    name: str
    capabilities: Capabilities
    convention: CountingConvention
    dialect: type[Scorer] | None = None
    """How it serves log-probabilities of given tokens."""

    def __init__(self, setup: EngineSetup, client: Client | None = None) -> None:
        if client is None and setup.url is None:
            raise RequestError(
                f"engine {self.name} needs its server's address; add "
                "--specdec-url=http://localhost:8000"
            )
        self.client = client or Client(setup.url or "", key=os.environ.get(KEY))

    @abc.abstractmethod
    def version(self) -> str:
        """The engine's version, as the server reports it."""

    @abc.abstractmethod
    def answer(
        self, ids: Sequence[int], sampling: Sampling, new_tokens: int, seed: int, k: int
    ) -> ServerReply:
        """Decode one prompt. Raises ServerError for an answer that contradicts itself or leaves out
        what is needed.
        """

    def emit(
        self, ids: Sequence[int], sampling: Sampling, new_tokens: int, seed: int
    ) -> tuple[int, ...]:
        """New tokens alone, also from a server that does not draft."""
        return self.answer(ids, sampling, new_tokens, seed, new_tokens).new_ids

    @abc.abstractmethod
    def begin(self) -> None:
        """Read the server's counters, so that `growth` counts from here."""

    @abc.abstractmethod
    def growth(self) -> Totals | None:
        """What was counted since `begin`; None where the server has no counters. Raises
        MeasurementError after a restart.
        """

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt by the server's own tokenizer."""

    @functools.cached_property
    def scorer(self) -> Scorer | None:
        """Scores texts by the server's own target; None where the engine serves no
        log-probabilities of given tokens.

        Raises RequestError where the server is another engine.
        """
        if self.dialect is None:
            return None
        scorer = scorer_at(self.client)
        if not isinstance(scorer, self.dialect):
            raise RequestError(
                f"{self.client.url} is not a {self.name} server; name the right engine by "
                "--specdec-engine"
            )
        return scorer

    @functools.cached_property
    def model(self) -> str:
        """The name under which the server serves its one model."""
        return self.scorer.model.name if self.scorer else served_model(self.client).id

    def altered(self) -> str | None:
        """A mode that is not lossless and that the server itself reports."""
        return None

    def other_drafter(self, request: GenerationRequest) -> str | None:
        """Why the server's drafter, as it reports it, is not that of the case; None where it is, or
        where the server does not say.
        """
        return None

    def run(self, request: GenerationRequest) -> Iterator[Reported | PooledCounters]:
        """Texts in the order of the prompts, then the sums where the engine has no finer ones.

        Raises ServerError where the server fails, after the texts that it answered by then, or
        where its counters contradict its answers.
        """
        if (other := self.other_drafter(request)) is not None:
            raise self.refuse(
                f"{other}; name the drafter that it has by --specdec-draft, or start it with the "
                "case's"
            )
        prompts = [self._ids(prompt) for prompt in request.prompts]
        altered = self.altered() or self.lossy_by_its_text(prompts[:PROBES], request.k)
        self.begin()
        identity = self._identity()
        lost, replies = self.client.lost, list[ServerReply]()
        for row, reply, timings in self._answered(request, prompts):
            where = f"request {row + 1} of {self.client.url}"
            replies.append(reply)
            self._check_depth(
                max((one_round.drafted for one_round in reply.rounds or ()), default=0),
                request.k,
                where,
            )
            yield Reported(
                key=request.prompts[row].key,
                prompt_ids=prompts[row],
                new_ids=reply.new_ids,
                convention=self.convention,
                rounds=reply.rounds,
                totals=reply.totals,
                emitted=None,
                timings=timings,
                altered=altered,
                where=where,
                finish=reply.finish,
            )
        self._check_identity(request, identity)
        if replies:
            yield from self._sums(replies, request.k, self.client.lost - lost)

    def _identity(self) -> tuple[str, str]:
        """What a server says that it is: the engine's version, and the model."""
        return self.version(), served_model(self.client).id

    def _check_identity(self, request: GenerationRequest, before: tuple[str, str]) -> None:
        """Raises ServerError where another server answers now, after a restart in mid-run."""
        now = self._identity()
        other = self.other_drafter(request)
        if now != before:
            other = f"it was {' with '.join(before)} and is {' with '.join(now)}"
        if other is not None:
            raise self.refuse(
                f"it was restarted in mid-run as another server: {other}; run again on one that "
                "stays the same"
            )

    def _answered(
        self, request: GenerationRequest, prompts: Sequence[tuple[int, ...]]
    ) -> Iterator[tuple[int, ServerReply, Timings]]:
        """Each prompt's number and answer, in order, `request.batch` requests at once.

        Where a request fails, the answers to later prompts that are there come before its error.
        """

        def one(row: int) -> tuple[int, ServerReply, Timings]:
            prompt, ids = request.prompts[row], prompts[row]
            begun = time.perf_counter()
            reply = self.answer(
                ids, request.sampling, request.new_tokens, request.seed_of(prompt), request.k
            )
            return row, reply, Timings(time.perf_counter() - begun)

        if request.batch == 1:
            yield from map(one, range(len(prompts)))
            return
        with ThreadPoolExecutor(request.batch) as pool:
            waiting = collections.deque(pool.submit(one, row) for row in range(len(prompts)))
            try:
                while waiting:
                    yield waiting.popleft().result()
            except SpecdecError:
                for future in waiting:
                    future.cancel()
                yield from _finished(waiting)
                raise
            finally:
                for future in waiting:
                    future.cancel()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def lossy_by_its_text(self, prompts: Sequence[Sequence[int]], k: int) -> str | None:
        """Why greedy texts of the server are not its own target's, or None; synthetic acceptance
        shows at once.

        Decodes the prompts greedily and has the server score what it emitted: every token must be
        the likeliest one, or within rounding of it. None also where the server serves no scores.
        """
        scorer = self.scorer
        for prompt in prompts if scorer else ():
            new = self.answer(prompt, Sampling(temperature=0.0), PROBE_TOKENS, 1, k).new_ids
            assert scorer is not None
            scored = scorer.score((*prompt, *new), len(prompt))
            for position, (logprob, top) in enumerate(
                zip(scored.logprobs, scored.top, strict=True)
            ):
                if logprob < top[0] - _TIE:
                    if changed := apart(
                        [scored], [scorer.score((*prompt, *new), len(prompt), fresh=True)]
                    ):
                        raise self.refuse(
                            f"it scores a text differently the second time: {changed}; update it"
                        )
                    return (
                        "synthetic acceptance or another mode that is not lossless (token "
                        f"{position} of a greedy text is "
                        f"{top[0] - logprob:.2g} nats below the likeliest)"
                    )
        return None

    def refuse(self, why: str) -> ServerError:
        return ServerError(f"{self.client.url} ({self.name}): {why}")

    def completed_tokens(
        self, answer: Completion, ids: Sequence[int], *, outdated: str
    ) -> tuple[int, ...]:
        """The new tokens of a completion; `outdated` names what a server that is too old does not
        return, and the cure.

        Raises ServerError for other numbers of tokens than the server counts.
        """
        tokens = answer.choices[0].token_ids if answer.choices else None
        if tokens is None or len(tokens) != answer.usage.completion_tokens:
            raise self.refuse(
                f"it counts {answer.usage.completion_tokens} new tokens and returns "
                f"{len(tokens or ())} {outdated}"
            )
        if answer.usage.prompt_tokens != len(ids):
            raise self.refuse(
                f"{len(ids)} prompt tokens were sent and it counts {answer.usage.prompt_tokens}; "
                "report its version"
            )
        return tuple(tokens)

    def _ids(self, prompt: PromptRequest) -> tuple[int, ...]:
        if prompt.ids is not None:
            return prompt.ids
        if prompt.prompt.text is None:
            raise RequestError(
                "a chat prompt needs the target's own template; name its folder by --specdec-target"
            )
        return tuple(self.encode(prompt.prompt.text))

    def _check_depth(self, drafted: int, k: int, where: str) -> None:
        if drafted > k:
            raise DraftCountError(
                f"{where}: a round drafts {drafted} tokens and k is {k}; use --specdec-k={drafted}"
            )

    def _sums(self, replies: Sequence[ServerReply], k: int, lost: int) -> Iterator[PooledCounters]:
        """The server's own sums: reported where there is nothing finer, else compared. Answers that
        count for themselves outlive a restart of the server.
        """
        counts_itself = self.capabilities.per_request or any(
            reply.rounds is not None or reply.totals is not None for reply in replies
        )
        grown = None
        try:
            grown = self.growth()
        except RestartedError:
            if not counts_itself:
                raise
        most = max(
            (one_round.drafted for reply in replies for one_round in reply.rounds or ()), default=k
        )
        if most != k:
            where = f"{self.client.url} ({self.name})"
            if not most:
                raise DraftCountError(
                    f"{where}: no round drafts a token; start it with a drafter, or leave "
                    "--specdec-k out"
                )
            raise DraftCountError(
                f"{where}: no round drafts more than {most} tokens and k is {k}; use "
                f"--specdec-k={most}, or restart it"
            )
        if counts_itself:
            if (
                grown is not None
                and not lost
                and (differences := _differences(replies, grown, self.convention))
            ):
                raise self.refuse(
                    f"its counters disagree with its answers ({'; '.join(differences)}): somebody "
                    "else uses the server, or a counter is wrong; run again on a server that "
                    "nobody else uses"
                )
            return
        if grown is None:
            raise self.refuse(
                "neither its answers nor its metrics count rounds; turn on its metrics"
            )
        if lost:
            raise self.refuse(
                f"{lost} requests were sent again, so its counters hold rounds of lost answers; "
                "run again"
            )
        yield PooledCounters(grown, self.convention, self.client.url)


def _finished(futures: Iterable[Future[_Answer]]) -> Iterator[_Answer]:
    """Results of those that neither fail nor were cancelled, which are waited for."""
    for future in futures:
        if not future.cancelled() and future.exception() is None:
            yield future.result()


def rounds_totals(rounds: Sequence[ReportedRound]) -> Totals:
    """The sums of rounds, those that drafted nothing left out."""
    tried = [one_round for one_round in rounds if one_round.drafted]
    most = max((one_round.drafted for one_round in tried), default=0)
    positions = tuple(sum(one_round.accepted > step for one_round in tried) for step in range(most))
    return Totals(
        rounds=len(tried),
        drafted=sum(one_round.drafted for one_round in tried),
        accepted=sum(one_round.accepted for one_round in tried),
        per_position=positions,
    )


def _differences(
    replies: Sequence[ServerReply], grown: Totals, convention: CountingConvention
) -> list[str]:
    """Where a server's counters and the sums of its answers differ."""
    sums = [
        _comparable(reply.totals, convention)
        if reply.rounds is None
        else rounds_totals(reply.rounds)
        for reply in replies
    ]
    differences = []
    for name in ("rounds", "drafted", "accepted"):
        parts: list[int | None] = [getattr(totals, name) if totals else None for totals in sums]
        known, counted = [part for part in parts if part is not None], getattr(grown, name)
        if counted is not None and len(known) == len(parts) and sum(known) != counted:
            differences.append(f"{name}: {sum(known)} in its answers, {counted} in its counters")
    return differences


def _comparable(totals: Totals | None, convention: CountingConvention) -> Totals | None:
    """A request's sums, without its number of rounds where that includes rounds that draft nothing:
    no counter includes those.
    """
    return (
        dataclasses.replace(totals, rounds=None) if totals and convention.counts_empty else totals
    )
