"""Served log-probabilities are checked before they are used: impossible numbers, second
answers, servers that draft.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.playback import Answer, Play, payload, playing
from helpers.toy import CARDS, TOKENS, Toy

from pytest_specdec.cases.texts import Text
from pytest_specdec.engines.logprobs.cache import ScoreCache
from pytest_specdec.engines.logprobs.drafting_servers import check_plain
from pytest_specdec.engines.logprobs.scores import served_texts
from pytest_specdec.engines.servers.client import ServerError
from pytest_specdec.engines.servers.logprob_servers import scorer_at
from pytest_specdec.engines.servers.repeatability import TEXTS as AGAIN
from pytest_specdec.engines.servers.repeatability import apart
from pytest_specdec.engines.servers.scorer import (
    Position,
    ScoredText,
    Scorer,
    ServedModel,
    impossible,
)
from pytest_specdec.engines.servers.vllm_scorer import VllmScorer

pytestmark = pytest.mark.slow

TARGET, OTHER = Toy(1), Toy(2)
TEXTS = TARGET.texts(12)


def plays_of(dialect: str, answer: Callable[[dict[str, Any]], Answer]) -> dict[str, list[Play]]:
    return {
        path: plays if path == "/v1/models" else [answer]
        for path, plays in TARGET.plays(dialect).items()
    }


def answers_of(toy: Toy, dialect: str) -> Callable[[dict[str, Any]], Answer]:
    answer: Callable[[dict[str, Any]], Answer] = getattr(toy, dialect.replace(".", "_"))
    return answer


def refusal(plays: dict[str, list[Play]], top: int = 1, texts: tuple[Text, ...] = TEXTS) -> str:
    """What is said of a server, on one line with a cause and a cure."""
    with playing(plays) as stage, pytest.raises(ServerError) as caught:
        served_texts(scorer_at(stage.client(), top), texts)
    message = str(caught.value)
    assert message.startswith(f"{stage.url} (")
    assert "; " in message
    return message


# Numbers that no model gives.


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (
            Position(7, -0.1, [(7, -0.1), (8, -0.2), (9, -0.3)]),
            "has probabilities that add up to 2.46 over 3 tokens",
        ),
        (Position(7, -0.7, [(8, -0.6)]), "has probabilities that add up to 1.05 over 2 tokens"),
        (Position(7, -0.7, [(None, -0.6)]), "has probabilities that add up to 1.05 over 2 tokens"),
        (
            Position(7, -0.7, [(7, -0.7), (8, -0.9), (8, -2.0)]),
            "has token 8 twice, with log-probabilities -0.9 and -2.0",
        ),
        (
            Position(7, -0.7, [(7, -0.7), (8, -2.0), (8, -2.0)]),
            "has token 8 twice, with log-probabilities -2.0 and -2.0",
        ),
        (
            Position(7, -0.7, [(8, -0.7), (7, -2.0)]),
            "has token 7 twice, with log-probabilities -0.7 and -2.0",
        ),
        (
            Position(7, -0.5, [(8, -0.7)]),
            "has log-probability -0.5, above the largest log-probability served, -0.7",
        ),
        (Position(7, 0.5, [(7, 0.5)]), "has log-probability 0.5 and top [0.5]"),
        (Position(7, -0.5, [(8, 2.0)]), "has log-probability -0.5 and top [2.0]"),
        (Position(7, float("nan"), [(7, -0.5)]), "has log-probability nan and top [-0.5]"),
        (
            Position(7, -0.7, [(7, -0.7), (8, float("nan"))]),
            "has log-probability -0.7 and top [-0.7, nan]",
        ),
        (Position(7, None, [(7, -0.5)]), "has log-probability None and top [-0.5]"),
        (Position(7, -0.7, []), "has log-probability -0.7 and top []"),
    ],
)
def test_impossible_numbers_are_named(position: Position, words: str) -> None:
    assert impossible(position) == words


@pytest.mark.parametrize(
    "position",
    [
        Position(7, -0.7, [(7, -0.7), (8, -0.7)]),
        Position(7, 0.0, [(7, 0.0), (8, float("-inf"))]),
        Position(7, 4e-7, [(7, 4e-7), (8, -16.0)]),
        Position(7, float("-inf"), [(8, 0.0)]),
        Position(7, -9999.0, [(8, 0.0)]),
        Position(7, -0.6931, [(None, -0.6931), (None, -0.6931)]),
        Position(
            7, -0.6914, [(7, -0.6914), (8, -0.6914)]
        ),  # two halves, rounded up to bfloat16 and a bit
    ],
)
def test_possible_numbers_are_accepted(position: Position) -> None:
    assert impossible(position) is None


def test_whole_vocabularies_in_bfloat16_are_accepted() -> None:
    """Log-probabilities that a server cuts to bfloat16 add up to 1 but for the stated slack."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        logits = rng.normal(0, rng.uniform(0, 4), 100)
        exact = (logits - np.logaddexp.reduce(logits)).astype(np.float32)
        cut = (exact.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        entries = sorted(
            ((token, float(value)) for token, value in enumerate(cut)), key=lambda pair: -pair[1]
        )
        assert impossible(Position(0, float(cut[0]), entries)) is None


@pytest.mark.parametrize("dialect", CARDS)
def test_probabilities_above_one_in_sum_are_refused(dialect: str) -> None:
    scaled = Toy(1)
    scaled.log = np.minimum(TARGET.log + 0.5, 0.0)
    assert "add up to" in refusal(plays_of(dialect, answers_of(scaled, dialect)), top=TOKENS)


@pytest.mark.parametrize("dialect", CARDS)
def test_probability_one_for_every_token_is_refused(dialect: str) -> None:
    """Every token sent is certain, whatever it is: asking for another token in the place of the
    last gives it away.
    """

    def play(body: dict[str, Any]) -> Answer:
        ids = body.get("prompt") or body["input_ids"]
        if dialect == "llama.cpp":
            ((token, _),) = body["logit_bias"]
            entry = {"id": token, "logprob": 0.0, "top_logprobs": [{"id": token, "logprob": 0.0}]}
            return Answer(
                json.dumps({"tokens_evaluated": len(ids), "completion_probabilities": [entry]})
            )
        sure = Toy(1)
        answer = json.loads(answers_of(sure, dialect)(body).body)
        if dialect == "vllm":
            rows = [None, *({str(token): {"logprob": 0.0, "rank": 1}} for token in ids[1:])]
            answer["choices"][0]["prompt_logprobs"] = rows
        elif dialect == "echo":
            logprobs = answer["choices"][0]["logprobs"]
            logprobs["token_logprobs"] = [None, *[0.0] * len(ids)]
            logprobs["top_logprobs"] = [None, *[{"x": 0.0}] * len(ids)]
        else:
            answer["meta_info"]["input_token_logprobs"] = [
                [None, ids[0], None],
                *([0.0, token, None] for token in ids[1:]),
            ]
            answer["meta_info"]["input_top_logprobs"] = [
                None,
                *([[0.0, token, None]] for token in ids[1:]),
            ]
        return Answer(json.dumps(answer))

    message = refusal(plays_of(dialect, play))
    assert "all 36 tokens of a text have probability 1, and the last one and token" in message
    assert "in its place add up to 2" in message


@pytest.mark.parametrize("dialect", CARDS)
def test_texts_that_are_certain_are_accepted(dialect: str) -> None:
    """A looping model of which every token has probability 1 to the last digit."""
    sure = Toy(1)
    sure.log = np.where(np.eye(TOKENS)[[1, 2, 3, 4, 0]] > 0, 0.0, -40.0)
    texts = [
        Text(str(row), "all", tuple((row + at) % TOKENS for at in range(20)), 3) for row in range(3)
    ]
    with playing(plays_of(dialect, answers_of(sure, dialect))) as stage:
        scored = served_texts(scorer_at(stage.client()), texts)
    assert not any(value for served_text in scored for value in served_text.logprobs)


@pytest.mark.parametrize("dialect", CARDS)
@pytest.mark.parametrize("length", [40, 6], ids=["long", "short"])
def test_one_number_for_every_token_is_refused(dialect: str, length: int) -> None:
    flat = Toy(1)
    flat.log = np.full((TOKENS, TOKENS), -np.log(TOKENS))
    message = refusal(plays_of(dialect, answers_of(flat, dialect)), texts=TARGET.texts(12, length))
    assert (
        f"all {36 if length == 40 else 24} tokens have the same log-probability, -1.609, as from a "
        "model with empty weights" in message
    )


def test_a_key_that_is_no_token_id_is_refused() -> None:
    class Client:
        url = "http://host"

        def post_json(self, path: str, body: Any, shape: Any) -> Any:
            rows = [
                None,
                *(
                    {str(token): {"logprob": -0.5}, "\u0661x": {"logprob": -2.0}}
                    for token in body["prompt"][1:]
                ),
            ]
            return msgspec.convert({"choices": [{"prompt_logprobs": rows}]}, shape)

    client: Any = Client()
    with pytest.raises(ServerError, match="is not a token id"):
        VllmScorer(client, ServedModel("m", "m"), 1).score([15, 16, 17, 18], 1)


# Another answer the second time.


class Changing:
    """Answers by one model for so many requests, then by another."""

    def __init__(self, dialect: str, after: int, then: Toy = OTHER) -> None:
        self._first, self._then = answers_of(TARGET, dialect), answers_of(then, dialect)
        self._count, self._after, self._lock = itertools.count(), after, threading.Lock()

    def __call__(self, body: dict[str, Any]) -> Answer:
        with self._lock:
            number = next(self._count)
        return (self._first if number < self._after else self._then)(body)


@pytest.mark.parametrize("dialect", CARDS)
@pytest.mark.parametrize("workers", [1, 8])
def test_another_answer_the_second_time_is_refused(
    dialect: str, workers: int, tmp_path: Path
) -> None:
    requests = len(TEXTS) * (36 if dialect == "llama.cpp" else 1)
    with playing(plays_of(dialect, Changing(dialect, requests))) as stage:
        scorer = scorer_at(stage.client())
        cache = ScoreCache(tmp_path / "scores.jsonl", scorer)
        with pytest.raises(
            ServerError,
            match=r"differently when asked again, in another order and batch: .* turn off its prefix "
            r"c",
        ):
            served_texts(scorer, TEXTS, cache=cache, workers=workers)
    assert not (tmp_path / "scores.jsonl").exists(), "what is not believed is not kept"


def test_numbers_of_the_request_before_are_refused() -> None:
    """A stale buffer: each answer holds the numbers of the request before it."""
    before: list[dict[str, Any]] = []

    def play(body: dict[str, Any]) -> Answer:
        before.append(body)
        answer, stale = (
            json.loads(TARGET.vllm(request).body)["choices"][0]
            for request in (body, before[max(0, len(before) - 2)])
        )
        old = [next(iter(row.values())) for row in stale["prompt_logprobs"][1:]]
        for row, entry in zip(answer["prompt_logprobs"][1:], itertools.cycle(old), strict=False):
            row[next(iter(row))] = entry
        return Answer(json.dumps({"choices": [answer]}))

    with (
        playing(plays_of("vllm", play)) as stage,
        pytest.raises(ServerError, match=r"asked again|add up to|above the largest"),
    ):
        served_texts(scorer_at(stage.client()), TEXTS, workers=1)


def test_the_second_time_costs_a_few_requests() -> None:
    long = TARGET.texts(40, length=300)
    with playing(TARGET.plays("vllm")) as stage:
        served_texts(scorer_at(stage.client()), long)
        sent = [body for path, body in stage.seen if path == "/v1/completions"]
    again = [body for body in sent if "cache_salt" in body]
    assert (len(sent) - len(again), len(again)) == (40, AGAIN)
    assert len({body["cache_salt"] for body in again}) == AGAIN
    lengths = [len(body["prompt"]) for body in again]
    assert lengths == sorted(lengths, reverse=True), "in another order"
    assert len(set(lengths)) == AGAIN, "each is cut elsewhere"


def test_llama_cpp_is_asked_for_fewer_tokens_again() -> None:
    with playing(TARGET.plays("llama.cpp")) as stage:
        served_texts(scorer_at(stage.client()), TEXTS)
        sent = [body["cache_prompt"] for path, body in stage.seen if path == "/completion"]
    assert (sent.count(True), sent.count(False)) == (len(TEXTS) * 36, 9 + 16 + 16 + 16)


def served(logprobs: list[float], top: list[float]) -> ScoredText:
    return ScoredText(
        first=4,
        logprobs=tuple(logprobs),
        best=(None,) * len(logprobs),
        top=tuple((value,) for value in top),
    )


def test_rounding_is_no_other_answer() -> None:
    """Logits in bfloat16, each moved by a step (0.125) or not: the worst that two batches do to a
    dense model.
    """
    rng = np.random.default_rng(0)
    for _ in range(50):
        logits = rng.normal(20, 2.5, (256, 50))
        tokens = np.array(
            [rng.choice(50, p=np.exp(row - np.logaddexp.reduce(row))) for row in logits]
        )
        answers = []
        for _ in range(2):
            moved = np.round(logits / 0.125) * 0.125 + rng.choice(
                [-0.125, 0.0, 0.125], logits.shape
            )
            log = moved - np.logaddexp.reduce(moved, axis=1, keepdims=True)
            answers.append(served(log[np.arange(256), tokens].tolist(), log.max(axis=1).tolist()))
        assert apart(answers[:1], answers[1:]) is None


@pytest.mark.parametrize(("share", "most"), [(0.125, 2), (0.25, 0), (1.0, 0)])
def test_a_corrupt_part_is_another_answer(share: float, most: int) -> None:
    """The numbers of so many tokens stand one place further on; missed for so many of 50 models."""
    missed = 0
    for seed in range(50):
        toy = Toy(seed)
        logprobs = np.concatenate([toy.scores(text) for text in toy.texts(4, 67, seed=seed)])
        end = int(share * len(logprobs))
        moved = np.concatenate([np.roll(logprobs[:end], 1), logprobs[end:]])
        top = np.maximum(logprobs, -0.7).tolist()
        missed += apart([served(logprobs.tolist(), top)], [served(moved.tolist(), top)]) is None
    assert missed <= most


def test_nothing_scored_is_nothing_to_compare() -> None:
    assert apart([], []) is None
    with playing(TARGET.plays("vllm")) as stage:
        assert (
            served_texts(scorer_at(stage.client()), [Text("a", "all", (1, 2, 3), 3)])[0].logprobs
            == ()
        )


# Servers that draft.


def scorer_with(
    dialect: str, plays: dict[str, list[Play]], check: Callable[[Scorer], None]
) -> None:
    with playing(TARGET.plays(dialect) | plays) as stage:
        check(scorer_at(stage.client()))


def slots(*speculative: bool) -> list[Play]:
    return [
        Answer(
            json.dumps(
                [
                    {"id": row, "speculative": drafts, "n_ctx": 512}
                    for row, drafts in enumerate(speculative)
                ]
            )
        )
    ]


LMDEPLOY = '# TYPE lmdeploy:spec_decode_num_drafts_total counter\nlmdeploy:spec_decode_num_drafts_total{model="m"} %d\n'


@pytest.mark.parametrize(
    ("dialect", "plays", "words"),
    [
        (
            "vllm",
            {"/metrics": [Answer(payload("vllm_metrics_before.txt"))]},
            r"/metrics counts "
            r"vllm:spec_\w+.*--speculative-c",
        ),
        (
            "llama.cpp",
            {"/slots": slots(False, True)},
            r"/slots reports speculative: true.* without a "
            r"draft model",
        ),
        (
            "sglang",
            {"/server_info": [Answer('{"speculative_algorithm": "EAGLE3"}')]},
            r"algorithm: "
            r"EAGLE3.*--speculative-a",
        ),
        (
            "sglang",
            {"/get_server_info": [Answer('{"speculative_algorithm": "NGRAM"}')]},
            "algorithm: NGRAM",
        ),
        (
            "echo",
            {"/metrics": [Answer(LMDEPLOY % 3)]},
            "/metrics counts lmdeploy:spec_decode_num_drafts_total",
        ),
    ],
)
def test_a_server_that_drafts_is_refused(
    dialect: str, plays: dict[str, list[Play]], words: str
) -> None:
    with pytest.raises(ServerError, match=rf"\({dialect}\) drafts \(.*{words}"):
        scorer_with(dialect, plays, check_plain)


@pytest.mark.parametrize(
    ("dialect", "plays"),
    [
        ("vllm", {}),
        ("vllm", {"/metrics": [Answer('vllm:num_requests_running{engine="0"} 1.0\n')]}),
        ("vllm", {"/metrics": [Answer("<html>")]}),
        ("vllm", {"/metrics": [Answer("no", 403)]}),
        ("llama.cpp", {"/slots": slots(False, False)}),
        (
            "llama.cpp",
            {
                "/slots": [Answer("no", 501)],
                "/metrics": [Answer(payload("llama_cpp_metrics_no_draft.txt"))],
            },
        ),
        ("sglang", {"/server_info": [Answer('{"speculative_algorithm": null}')]}),
        ("echo", {"/metrics": [Answer(LMDEPLOY % 0)]}),
        ("echo", {"/metrics": [Answer("[]")]}),
    ],
)
def test_a_server_that_does_not_draft_is_accepted(
    dialect: str, plays: dict[str, list[Play]]
) -> None:
    scorer_with(dialect, plays, check_plain)
