"""Replay over served log-probabilities: every dialect gives the numbers of its model, or
an error.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.playback import Answer, Stage, payload, playing
from helpers.toy import CARDS, TOKENS, Toy
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding.distributions import log_scores
from pytest_specdec.engines.logprobs.cache import ScoreCache
from pytest_specdec.engines.logprobs.scores import (
    served_scores,
    served_texts,
    text_distributions,
)
from pytest_specdec.engines.servers.client import ServerError
from pytest_specdec.engines.servers.logprob_servers import scorer_at
from pytest_specdec.engines.servers.scorer import ScoredText

pytestmark = pytest.mark.slow

TARGET, DRAFTER = Toy(1), Toy(2)
TEXTS = TARGET.texts(6)
WHOLE = Sampling()


@pytest.mark.parametrize("dialect", CARDS)
def test_every_dialect_serves_the_models_own_numbers(dialect: str) -> None:
    with (
        playing(TARGET.plays(dialect)) as target,
        playing(DRAFTER.plays(dialect, "small")) as drafter,
    ):
        scorers = scorer_at(target.client()), scorer_at(drafter.client())
        scores = served_scores(*scorers, TEXTS, WHOLE, workers=3)
    assert [scorer.dialect for scorer in scorers] == [dialect, dialect]
    for row, text in enumerate(TEXTS):
        place = slice(text.first_draft, len(text.ids))
        np.testing.assert_allclose(scores.target[row, place], TARGET.scores(text), atol=1e-12)
        np.testing.assert_allclose(scores.draft[row, 0, place], DRAFTER.scores(text), atol=1e-12)
    counts = expected_counts(scores.field("rejection"), 4)
    assert 1 < counts.acceptance_length < 5


@pytest.mark.parametrize("dialect", CARDS)
def test_greedy_needs_only_what_is_likeliest(dialect: str) -> None:
    ids = [2]
    for _ in range(30):
        ids.append(int(TARGET.log[ids[-1]].argmax()))
    text = Text("a", "all", tuple(ids), 3)
    with playing(TARGET.plays(dialect)) as target, playing(DRAFTER.plays(dialect)) as drafter:
        scores = served_scores(
            scorer_at(target.client()), scorer_at(drafter.client()), [text], Sampling(0.0)
        )
    wanted = [
        0.0 if DRAFTER.log[token].argmax() == following else -np.inf
        for token, following in itertools.pairwise(ids[3:])
    ]
    assert scores.draft[0, 0, 4:].tolist() == wanted
    assert not scores.target.any()


def test_texts_that_the_target_did_not_emit_greedily_are_refused() -> None:
    with (
        playing(TARGET.plays("vllm")) as target,
        playing(DRAFTER.plays("vllm")) as drafter,
        pytest.raises(
            MeasurementError,
            match=r"\d+ of 216 tokens lie below the target's arg-max by more than a tie",
        ),
    ):
        served_scores(scorer_at(target.client()), scorer_at(drafter.client()), TEXTS, Sampling(0.0))


def test_progress_counts_both_models() -> None:
    seen: list[tuple[int, int]] = []
    with playing(TARGET.plays("vllm")) as stage:
        scorer = scorer_at(stage.client())
        served_scores(
            scorer, scorer, TEXTS, WHOLE, progress=lambda done, total: seen.append((done, total))
        )
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@given(
    st.integers(0, 2**31),
    st.sampled_from([0.3, 0.7, 1.0, 1.5]),
    st.integers(1, TOKENS),
    st.sampled_from([0.2, 0.5, 0.9, 1.0]),
)
def test_distributions_within_a_top_k_are_those_of_replay(
    seed: int, temperature: float, top_k: int, top_p: float
) -> None:
    toy, sampling = Toy(seed), Sampling(temperature, top_k, top_p)
    text = toy.texts(1, seed=seed)[0]
    before, after = text.ids[text.first_draft - 1 : -1], text.ids[text.first_draft :]
    top = tuple(tuple(value for _, value in toy.largest(prefix, top_k)) for prefix in before)
    served = ScoredText(
        first=text.first_draft, logprobs=tuple(toy.scores(text)), best=(None,) * len(after), top=top
    )
    wanted = log_scores(
        torch.tensor(toy.logits[list(before)]), torch.tensor(after), sampling
    ).numpy()
    np.testing.assert_allclose(text_distributions(text, served, sampling), wanted, atol=1e-5)


@pytest.mark.parametrize("sampling", [Sampling(0.7), Sampling(1.0, 0, 0.9)])
def test_distributions_that_no_server_gives_are_refused(sampling: Sampling) -> None:
    with (
        playing(TARGET.plays("vllm")) as stage,
        pytest.raises(RequestError, match="only within a top-k; use --specdec-temp"),
    ):
        served_scores(scorer_at(stage.client()), scorer_at(stage.client()), TEXTS, sampling)


def test_a_server_that_gives_fewer_than_asked_is_refused() -> None:
    served = ScoredText(first=4, logprobs=(-1.0,), best=(None,), top=((-1.0,),))
    with pytest.raises(
        MeasurementError,
        match="the 3 largest log-probabilities were requested and 1 returned; lower",
    ):
        text_distributions(Text("a", "all", (0, 1, 2, 3, 4), 3), served, Sampling(1.0, 3))


def test_a_token_that_the_target_cannot_emit_is_an_error() -> None:
    with playing(TARGET.plays("vllm")) as stage:
        scorer = scorer_at(stage.client(), top=1)
        with pytest.raises(
            MeasurementError,
            match=r"\d+ of 216 tokens lie outside the target's top-k 1 here \(2% at most",
        ):
            served_scores(scorer, scorer, TEXTS, Sampling(1.0, 1))


def test_what_vllm_really_answers_is_read() -> None:
    plays: Any = {
        "/v1/models": [Answer(payload("vllm_models.json"))],
        "/v1/completions": [Answer(payload("vllm_prompt_logprobs.json"))],
    }
    with playing(plays) as stage:
        scorer = scorer_at(stage.client(), top=2)
        scored = scorer.score((0, 310, 400, 55, 200, 84), 4)
    assert scorer.dialect == "vllm"
    assert (scorer.model.name, "root=" in scorer.model.identity) == ("tiny", True)
    assert scored.logprobs == (-5.793357849121094, -4.897286415100098)
    assert scored.best == (633, 200)
    assert scored.top[0] == (-2.112027168273926, -2.3690013885498047)
    assert stage.seen[-1][1]["prompt_logprobs"] == 2


def test_what_an_echo_really_looks_like_is_read() -> None:
    plays: Any = {
        "/v1/models": [Answer('{"data": [{"id": "m"}]}')],
        "/v1/completions": [Answer(payload("vllm_echo.json"))],
    }
    with playing(plays) as stage:
        scored = scorer_at(stage.client(), top=2).score((0, 310, 400, 55, 200, 84), 4)
    assert scored.logprobs == (-5.793357849121094, -4.897286415100098)
    assert scored.best == (None, None)
    assert scored.top[0] == (-2.112027168273926, -2.3690013885498047)


def test_what_llama_cpp_really_answers_is_read() -> None:
    plays: Any = {
        "/v1/models": [Answer(payload("llama_cpp_models.json"))],
        "/completion": [Answer(payload("llama_cpp_forced.json"))],
    }
    with playing(plays) as stage:
        scored = scorer_at(stage.client()).score((0, 310, 400, 55, 84), 4)
    assert scored.best == (633,)
    assert scored.logprobs[0] < scored.top[0][0] == pytest.approx(-2.112, abs=1e-3)


def test_inside_a_character_llama_cpp_is_asked_for_the_whole_vocabulary() -> None:
    def forced(body: dict[str, Any]) -> Answer:
        if body["logit_bias"][0][0] == 4:
            return Answer(
                json.dumps(
                    {"tokens_evaluated": len(body["prompt"]), "completion_probabilities": []}
                )
            )
        return TARGET.llama_cpp(body)

    text = Text("a", "all", (0, 1, 2, 3, 4, 1), 2)
    plays = TARGET.plays("llama.cpp") | {
        "/completion": [forced],
        "/tokenize": [Answer('{"tokens": [2]}')],
    }
    with playing(plays) as stage:
        scored = scorer_at(stage.client()).score(text.ids, text.first_draft)
    np.testing.assert_allclose(scored.logprobs, TARGET.scores(text), atol=1e-12)
    assert all(len(row) == 1 for row in scored.top)


Change = Callable[[dict[str, Any]], Any]


def _changed(dialect: str, change: Change) -> Any:
    def play(body: dict[str, Any]) -> Answer:
        answer = json.loads(getattr(TARGET, dialect.replace(".", "_"))(body).body)
        changed = change(answer)
        return Answer(changed if isinstance(changed, str) else json.dumps(answer))

    plays = TARGET.plays(dialect)
    return {path: answers if path == "/v1/models" else [play] for path, answers in plays.items()}


BAD: list[tuple[str, Change, str]] = [
    (
        "vllm",
        lambda a: a["choices"][0]["prompt_logprobs"].insert(0, None),
        "40 tokens were sent and 41 scored",
    ),
    (
        "vllm",
        lambda a: a["choices"][0].pop("prompt_logprobs"),
        "40 tokens were sent and none scored",
    ),
    ("vllm", lambda a: a["choices"].clear(), "40 tokens were sent and none scored"),
    (
        "vllm",
        lambda a: a["choices"][0]["prompt_logprobs"][9].clear(),
        r"token \d at position 9 is "
        r"not among those scored",
    ),
    (
        "vllm",
        lambda a: a["choices"][0]["prompt_logprobs"].__setitem__(9, None),
        "at position 9 is not among",
    ),
    (
        "vllm",
        lambda a: [e.update(logprob=2.5) for e in a["choices"][0]["prompt_logprobs"][9].values()],
        "position 9 has log-p",
    ),
    (
        "vllm",
        lambda a: [e.update(logprob=None) for e in a["choices"][0]["prompt_logprobs"][9].values()],
        "log-probability None",
    ),
    (
        "vllm",
        lambda a: '{"choices": [{"prompt_logprobs": [null, {"1": {"logprob": NaN}}]}]}',
        "JSON that cannot be read",
    ),
    ("echo", lambda a: a["usage"].update(prompt_tokens=41), "40 tokens were sent and it counts 41"),
    (
        "echo",
        lambda a: a["choices"][0]["logprobs"]["token_logprobs"].pop(),
        "40 log-probabilities come with 41 lists",
    ),
    ("echo", lambda a: a["choices"][0].update(logprobs=None), "the echo scores none"),
    ("echo", lambda a: a["choices"][0]["logprobs"].update(top_logprobs=None), "the echo scores 41"),
    (
        "echo",
        lambda a: a["choices"][0]["logprobs"]["token_logprobs"].__setitem__(9, None),
        "position 9 has log-probability None",
    ),
    (
        "sglang",
        lambda a: a["meta_info"].pop("input_token_logprobs"),
        "40 tokens were sent and none scored",
    ),
    (
        "sglang",
        lambda a: a["meta_info"].pop("input_top_logprobs"),
        "40 tokens were sent and 40 scored",
    ),
    (
        "sglang",
        lambda a: a["meta_info"]["input_token_logprobs"].pop(),
        "40 tokens were sent and 39 scored",
    ),
    (
        "sglang",
        lambda a: a["meta_info"]["input_token_logprobs"][9].__setitem__(1, 77),
        "at position 9 and 77 scored",
    ),
    (
        "sglang",
        lambda a: a["meta_info"]["input_token_logprobs"].__setitem__(9, ["x", 1]),
        "is not a pair of a log-probability",
    ),
    (
        "sglang",
        lambda a: a["meta_info"]["input_top_logprobs"].__setitem__(9, None),
        "position 9 has .* and top ..",
    ),
    (
        "llama.cpp",
        lambda a: a.update(tokens_evaluated=99),
        "4 tokens were sent and it evaluated 99",
    ),
    (
        "llama.cpp",
        lambda a: a["completion_probabilities"][0].update(id=77),
        r"was forced at position 4, but it emitted .77.",
    ),
    (
        "llama.cpp",
        lambda a: a["completion_probabilities"][0].update(top_logprobs=[], logprob=0.0),
        "log-probability 0.0 and top",
    ),
    (
        "llama.cpp",
        lambda a: a["completion_probabilities"][0].update(
            logprob=0.0, top_logprobs=[{"id": 1, "logprob": 0.0}]
        ),
        "has probabilities that add up to 2 over 2 tokens",
    ),
    (
        "llama.cpp",
        lambda a: a["completion_probabilities"][0].update(
            logprob=-0.01, top_logprobs=[{"id": 1, "logprob": -1.0}]
        ),
        "has log-probability -0.01, above the largest log-probability served, -1.0",
    ),
]


@pytest.mark.parametrize(("dialect", "change", "words"), BAD)
def test_what_is_not_about_the_tokens_sent_is_refused(
    dialect: str, change: Change, words: str
) -> None:
    with playing(_changed(dialect, change)) as stage, pytest.raises(ServerError, match=words):
        served_texts(scorer_at(stage.client()), TEXTS[:1])


def test_several_models_at_one_url_are_refused() -> None:
    with (
        playing({"/v1/models": [Answer('{"data": [{"id": "a"}, {"id": "b"}]}')]}) as stage,
        pytest.raises(RequestError, match=r"serves 2 models \(a, b\); name a server of one model"),
    ):
        scorer_at(stage.client())


def test_adapters_of_the_one_model_are_no_second_model() -> None:
    cards = '{"data": [{"id": "a", "owned_by": "vllm"}, {"id": "lora", "parent": "a"}]}'
    with playing({"/v1/models": [Answer(cards)]}) as stage:
        assert scorer_at(stage.client()).model.name == "a"


# A server that dies in mid-run, and what is kept.


def _dying(after: int) -> dict[str, Any]:
    """A server that scores so many texts and then answers no more."""
    plays = TARGET.plays("vllm")
    return plays | {"/v1/completions": [*plays["/v1/completions"] * after, Answer(reset=True)]}


def _scorer(stage: Stage, url: str | None = None) -> Any:
    scorer = scorer_at(stage.client(tries=2))
    if url is not None:
        scorer.client.url = url  # the port differs from one test server to the next
    return scorer


def test_what_was_finished_is_kept_and_not_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "target.jsonl"
    with playing(_dying(4)) as stage:
        scorer = _scorer(stage, "http://host")
        with pytest.raises(
            ServerError, match=r"no answer .* \(4 of 6 texts are kept, and not asked for again\)"
        ):
            served_texts(scorer, TEXTS, cache=ScoreCache(path, scorer), workers=1)
    with playing(TARGET.plays("vllm")) as stage:
        scorer = _scorer(stage, "http://host")
        scored = served_texts(scorer, TEXTS, cache=ScoreCache(path, scorer), workers=1)
        assert stage.request_count("/v1/completions") == 2 + 1 + 4, (
            "the missing two, one to see the model is the same, a sample again"
        )
        assert ScoreCache(path, scorer).kept == 6
        served_texts(scorer, TEXTS, cache=ScoreCache(path, scorer))
        assert stage.request_count("/v1/completions") == 7 + 1 + 4, "all are kept now"
    for text, text_scores in zip(TEXTS, scored, strict=True):
        np.testing.assert_allclose(text_scores.logprobs, TARGET.scores(text), atol=1e-12)


def _unsteady(answered: collections.Counter[tuple[int, ...]], seed: int) -> dict[str, Any]:
    """A server that fails one request in twelve: 503, no answer, half of one, or it stalls."""
    rng, plays = random.Random(seed), TARGET.plays("vllm")
    (right,) = plays["/v1/completions"]
    faults = [Answer("busy", 503), Answer(reset=True), Answer(wait=0.6)]

    def play(body: dict[str, Any]) -> Answer:
        answer: Answer = right(body)
        if rng.random() < 1 / 12:
            return rng.choice([*faults, dataclasses.replace(answer, cut=40)])
        answered[tuple(body["prompt"])] += 1
        return answer

    return plays | {"/v1/completions": [play]}


def test_of_a_server_that_fails_stalls_and_restarts_each_text_is_scored_once(
    tmp_path: Path,
) -> None:
    """The restart comes after 40 of 100 texts; the next run asks for the others alone."""
    texts, path = TARGET.texts(100, length=12), tmp_path / "target.jsonl"
    answered = collections.Counter[tuple[int, ...]]()
    plays = _unsteady(answered, 0)
    dies = [*plays["/v1/completions"] * 40, Answer(reset=True)]
    with playing(plays | {"/v1/completions": dies}) as stage:
        scorer = scorer_at(stage.client(tries=4, timeout=0.3))
        scorer.client.url = "http://host"
        with pytest.raises(ServerError, match="of 100 texts are kept, and not asked for again"):
            served_texts(scorer, texts, cache=ScoreCache(path, scorer), workers=4)
        assert scorer.client.lost > 0
    first = set(answered)
    answered.clear()
    with playing(_unsteady(answered, 1)) as stage:
        scorer = scorer_at(stage.client(tries=4, timeout=0.3))
        scorer.client.url = "http://host"
        cache = ScoreCache(path, scorer)
        assert cache.kept == len(first)
        scored = served_texts(scorer, texts, cache=cache, workers=4)
        assert ScoreCache(path, scorer).kept == len({text.ids for text in texts})
    assert 30 < len(first) < 45
    again = set(answered) & first
    assert len(again) <= 1 + 4, "one to see that the model is the same, a sample again"
    assert max(answered.values()) <= 3
    for text, text_scores in zip(texts, scored, strict=True):
        np.testing.assert_allclose(text_scores.logprobs, TARGET.scores(text), atol=1e-12)


def test_a_line_that_a_crash_cut_short_is_scored_again(tmp_path: Path) -> None:
    path = tmp_path / "target.jsonl"
    with playing(TARGET.plays("vllm")) as stage:
        scorer = _scorer(stage)
        served_texts(scorer, TEXTS[:3], cache=ScoreCache(path, scorer), workers=1)
        path.write_bytes(path.read_bytes()[:-20])
        cache = ScoreCache(path, scorer)
        assert cache.kept == 2
        served_texts(scorer, TEXTS[:3], cache=cache, workers=1)
        assert ScoreCache(path, scorer).kept == 3


@pytest.mark.parametrize("kept", [0, 10], ids=["empty", "half a head"])
def test_a_file_that_was_cut_off_at_once_starts_again(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "target.jsonl"
    with playing(TARGET.plays("vllm")) as stage:
        scorer = _scorer(stage)
        ScoreCache(path, scorer)
        path.write_bytes(path.read_bytes()[:kept])
        served_texts(scorer, TEXTS[:1], cache=ScoreCache(path, scorer))
        assert ScoreCache(path, scorer).kept == 1


ROW = b'{"prompt": "a", "text": "b", "first": 4, "own": [%s], "best": [null], "top": [[-0.5]]}\n'


@pytest.mark.parametrize(
    "damage",
    [
        b"{}\n",
        b"<<<<<<< HEAD\n",
        b"\xff\n",
        b"[" * 5000 + b"\n",
        ROW % b"0.5",
        ROW % b"NaN",
        ROW % b"-0.5, -0.5",
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "target.jsonl"
    with playing(TARGET.plays("vllm")) as stage:
        scorer = _scorer(stage)
        ScoreCache(path, scorer)
        path.write_bytes(path.read_bytes() + damage)
        with pytest.raises(
            RequestError, match=r"target\.jsonl is damaged .*; delete it to score its texts again"
        ):
            ScoreCache(path, scorer)


def test_scores_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "target.jsonl"
    with playing(TARGET.plays("vllm")) as stage, playing(DRAFTER.plays("vllm", "other")) as other:
        ScoreCache(path, _scorer(stage, "http://host"))
        with pytest.raises(
            RequestError,
            match=r"another model \(id=toy, now id=other\); delete it or name another folder",
        ):
            ScoreCache(path, _scorer(other, "http://host"))
        with pytest.raises(RequestError, match=r"another url \(http://host, now http://else\)"):
            ScoreCache(path, _scorer(stage, "http://else"))


def test_other_weights_under_the_same_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "target.jsonl"
    with playing(TARGET.plays("vllm")) as stage, playing(DRAFTER.plays("vllm")) as other:
        scorer = _scorer(stage, "http://host")
        served_texts(scorer, TEXTS[:3], cache=ScoreCache(path, scorer))
        scorer = _scorer(other, "http://host")
        with pytest.raises(RequestError, match="another model runs there now under the same name"):
            served_texts(scorer, TEXTS, cache=ScoreCache(path, scorer))


def test_minus_infinity_survives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "target.jsonl"
    with playing(TARGET.plays("vllm")) as stage:
        scorer = _scorer(stage)
        kept = ScoredText(
            first=4, logprobs=(float("-inf"),), best=(None,), top=((-0.5, float("-inf")),)
        )
        ScoreCache(path, scorer).put(TEXTS[0], kept)
        assert ScoreCache(path, scorer).get(TEXTS[0]) == kept
