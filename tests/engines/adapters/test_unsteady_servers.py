"""Servers that decode and fail on the way: they stall, drip, cut answers off, and are started anew.
Each prompt is measured once, in its order; what came before the end is kept.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers.playback import Answer, Play, Stage, payload, playing

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.common.errors import SpecdecError
from pytest_specdec.engines.adapter_api import (
    EngineSetup,
    GenerationRequest,
    PromptRequest,
    Reported,
    Totals,
)
from pytest_specdec.engines.adapters.llama_cpp_server import LlamaCppServerAdapter
from pytest_specdec.engines.adapters.server import ServedAdapter
from pytest_specdec.engines.adapters.sglang_server import SglangServerAdapter
from pytest_specdec.engines.adapters.vllm_server import VllmServerAdapter
from pytest_specdec.engines.servers.client import ServerError

PROMPTS, LIMIT = 40, 0.4
"""Prompts of a run, and seconds that an answer is waited for."""
FAULTS = (
    Answer("busy", 503),
    Answer(reset=True),
    Answer(wait=LIMIT * 1.5),
    Answer(payload("vllm_completion.json"), drip=0.01),
    Answer(payload("vllm_completion.json"), cut=40),
)


class Vllm(VllmServerAdapter):
    dialect = None


class Sglang(SglangServerAdapter):
    dialect = None


class LlamaCpp(LlamaCppServerAdapter):
    dialect = None


def _vllm(ids: list[int]) -> Answer:
    body = json.loads(payload("vllm_completion.json"))
    body["choices"][0]["token_ids"][-1] = ids[-1]
    return Answer(json.dumps(body))


def _sglang(ids: list[int]) -> Answer:
    tokens = json.loads(payload("vllm_completion.json"))["choices"][0]["token_ids"]
    meta = {
        "prompt_tokens": len(ids),
        "completion_tokens": len(tokens),
        "spec_verify_ct": 11,
        "spec_num_correct_drafts": 13,
        "spec_num_proposed_drafts": 33,
        "spec_correct_drafts_histogram": [5, 2, 1, 3],
        "spec_accept_rate": 13 / 33,
    }
    return Answer(json.dumps({"output_ids": [*tokens[:-1], ids[-1]], "meta_info": meta}))


def _llama_cpp(ids: list[int]) -> Answer:
    events = [
        json.loads(line.removeprefix("data: "))
        for line in payload("llama_cpp_stream.txt").splitlines()
        if line.startswith("data: {")
    ]
    last = max(at for at, event in enumerate(events) if event.get("tokens"))
    events[last]["tokens"][-1] = ids[-1]
    return Answer("".join(f"data: {json.dumps(event)}\n\n" for event in events))


@dataclasses.dataclass(frozen=True)
class Kind:
    """An engine's adapter, where it decodes, and how it answers a prompt."""

    adapter: Callable[..., ServedAdapter]
    path: str
    ids: str
    right: Callable[[list[int]], Answer]
    others: dict[str, list[Play]]


KINDS = {
    "vllm": Kind(
        Vllm,
        "/v1/completions",
        "prompt",
        _vllm,
        {
            "/version": [Answer('{"version": "0.32.0"}')],
            "/v1/models": [Answer(payload("vllm_models.json"))],
            "/metrics": [Answer(payload("vllm_metrics_before.txt"))],
        },
    ),
    "sglang": Kind(
        Sglang,
        "/generate",
        "input_ids",
        _sglang,
        {
            "/server_info": [
                Answer(
                    json.dumps(
                        {
                            "version": "0.5.6",
                            "speculative_algorithm": "STANDALONE",
                            "speculative_num_steps": 3,
                            "speculative_eagle_topk": 1,
                        }
                    )
                )
            ],
            "/v1/models": [Answer('{"data": [{"id": "m", "owned_by": "sglang"}]}')],
        },
    ),
    "llama.cpp": Kind(
        LlamaCpp,
        "/completion",
        "prompt",
        _llama_cpp,
        {
            "/props": [Answer(payload("llama_cpp_props.json"))],
            "/v1/models": [Answer(payload("llama_cpp_models.json"))],
            "/metrics": [Answer(status=501)],
        },
    ),
}


def _request(batch: int) -> GenerationRequest:
    prompts = [
        PromptRequest(Prompt(f"p{row}", "all", "text"), (0, 310, 400, 600 + row))
        for row in range(PROMPTS)
    ]
    return GenerationRequest(
        prompts=prompts,
        k=3,
        depth=0,
        target="target",
        drafter="draft",
        sampling=Sampling(0.0),
        new_tokens=24,
        seed=0,
        rule="greedy",
        batch=batch,
    )


@dataclasses.dataclass
class Unsteady:
    """Plays a kind of server that fails one request in four, and ends after so many answers."""

    kind: Kind
    seed: int = 0
    most: int = PROMPTS
    answered: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    faults: int = 0
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def plays(self) -> dict[str, list[Play]]:
        return {path: list(plays) for path, plays in self.kind.others.items()} | {
            self.kind.path: [self.play]
        }

    def play(self, body: dict[str, Any]) -> Answer:
        ids = body[self.kind.ids]
        with self.lock:
            if sum(self.answered.values()) >= self.most:
                return Answer(reset=True)
            turn = self.faults + sum(self.answered.values())
            chance = random.Random(f"{self.seed} {turn}")
            if chance.random() < 0.25:
                self.faults += 1
                return chance.choice(FAULTS)
            self.answered[ids[-1]] += 1
        return self.kind.right(ids)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", KINDS)
def test_each_prompt_is_measured_once(name: str, batch: int) -> None:
    server = Unsteady(KINDS[name])
    with playing(server.plays()) as stage:
        client = stage.client(timeout=LIMIT, tries=8)
        found = list(KINDS[name].adapter(EngineSetup(), client).run(_request(batch)))
        assert client.lost >= server.faults > 5
    texts = [text for text in found if isinstance(text, Reported)]
    assert texts == found, "answers count for themselves"
    assert [text.key for text in texts] == [f"p{row}" for row in range(PROMPTS)]
    assert [text.new_ids[-1] for text in texts] == [600 + row for row in range(PROMPTS)]
    assert {text.totals for text in texts} == {texts[0].totals}
    assert isinstance(texts[0].totals, Totals)
    assert texts[0].totals.rounds == 11
    late = client.lost - server.faults  # a busy machine answers late, or a closed connection is met
    assert PROMPTS <= sum(server.answered.values()) <= PROMPTS + late


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", KINDS)
def test_what_came_before_a_server_ended_is_handed_over(name: str, batch: int) -> None:
    server = Unsteady(KINDS[name], seed=1, most=25)
    kept: list[Reported] = []
    with playing(server.plays()) as stage:
        client = stage.client(timeout=LIMIT, tries=8)
        adapter = KINDS[name].adapter(EngineSetup(), client)
        with pytest.raises(ServerError, match=r"in 8 tries; see that the server runs"):
            kept.extend(text for text in adapter.run(_request(batch)) if isinstance(text, Reported))
    answered = {f"p{last - 600}" for last in server.answered}
    assert {text.key for text in kept} == answered
    assert len(kept) == len(answered) > 20


class Restarting:
    """Plays a server whose process ends while it decodes the prompt after so many, and begins again
    at the same address; `after` are the pages that it has then.
    """

    def __init__(self, kind: Kind, *, after: dict[str, list[Play]] | None = None) -> None:
        self.kind, self.after = kind, after or {}
        self.answered = collections.Counter[int]()
        self.stage: Stage | None = None
        self._lock, self._ends = threading.Lock(), [PROMPTS // 2]
        self._restarting: threading.Thread | None = None

    def plays(self) -> dict[str, list[Play]]:
        return {path: list(plays) for path, plays in self.kind.others.items()} | {
            self.kind.path: [self.play]
        }

    def play(self, body: dict[str, Any]) -> Answer:
        ids = body[self.kind.ids]
        with self._lock:
            if self._ends and len(self.answered) == self._ends[0]:
                self._ends.clear()
                self._restarting = threading.Thread(target=self._restart)
                self._restarting.start()
                return Answer(reset=True)
            self.answered[ids[-1]] += 1
        return self.kind.right(ids)

    def _restart(self) -> None:
        assert self.stage is not None
        self.stage.plays |= self.after
        self.stage.restart()

    @contextlib.contextmanager
    def running(self) -> Iterator[ServedAdapter]:
        with playing(self.plays()) as self.stage:
            client = self.stage.client(tries=100, sleep=lambda seconds: time.sleep(0.02))
            yield self.kind.adapter(EngineSetup(), client)
            if self._restarting is not None:
                self._restarting.join()
                assert self.stage.restarts == 1


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", KINDS)
def test_of_a_server_that_restarts_each_prompt_is_measured_once(name: str, batch: int) -> None:
    """Whose answers count for themselves; vLLM's counters on /metrics begin again at 0."""
    server = Restarting(KINDS[name])
    with server.running() as adapter:
        found = list(adapter.run(_request(batch)))
        assert adapter.client.lost > 0
    assert [text.key for text in found] == [f"p{row}" for row in range(PROMPTS)]  # type: ignore[union-attr]
    assert {text.totals for text in found} == {found[0].totals}
    assert PROMPTS <= sum(server.answered.values()) < PROMPTS + batch


@pytest.mark.parametrize("name", KINDS)
def test_a_server_that_comes_back_as_another_is_no_part_of_the_run(name: str) -> None:
    kept: list[Reported] = []
    other = Answer('{"data": [{"id": "larger", "owned_by": "vllm", "max_model_len": 512}]}')
    server = Restarting(KINDS[name], after={"/v1/models": [other]})
    with (
        server.running() as adapter,
        pytest.raises(ServerError, match=r"restarted in mid-run as another .* with larger; run"),
    ):
        kept.extend(text for text in adapter.run(_request(1)) if isinstance(text, Reported))
    assert len(kept) == PROMPTS


def _pooled(ids: list[int]) -> Answer:
    """An answer of vLLM without its own numbers."""
    body = json.loads(_vllm(ids).body)
    del body["metrics"]
    return Answer(json.dumps(body))


VLLM_AFTER = payload("vllm_metrics_after.txt")
FIRST_START, SECOND_START = (f"\nprocess_start_time_seconds {1.7e9 + s}\n" for s in (0, 60))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (payload("vllm_metrics_before.txt"), VLLM_AFTER, "requests were sent again"),
        (VLLM_AFTER, payload("vllm_metrics_before.txt"), "went backwards, from 11 to 0"),
        (
            payload("vllm_metrics_before.txt") + FIRST_START,
            VLLM_AFTER + SECOND_START,
            "process_start_time_seconds was 1700000000 and is 1700000060; the server was restarted",
        ),
    ],
)
def test_counters_that_began_again_are_not_subtracted(before: str, after: str, words: str) -> None:
    """Where only they count: rounds of the first half are lost, though they may have grown."""
    kind = dataclasses.replace(KINDS["vllm"], right=_pooled)
    kind = dataclasses.replace(kind, others=kind.others | {"/metrics": [Answer(before)]})
    server = Restarting(kind, after={"/metrics": [Answer(after)]})
    kept: list[Reported] = []
    with server.running() as adapter, pytest.raises(SpecdecError, match=words):
        kept.extend(adapter.run(_request(1)))  # type: ignore[arg-type]
    assert len(kept) == PROMPTS
    assert {type(text) for text in kept} == {Reported}
