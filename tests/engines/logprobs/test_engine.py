"""The engine `logprobs`: two served models from prompts to counts, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.playback import Answer, playing
from helpers.toy import Toy

from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec, OwnHeadsSpec, PromptLookupSpec
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.engines.adapter_api import no_progress
from pytest_specdec.engines.factory import make_models
from pytest_specdec.engines.logprobs.engine import ServedReplay
from pytest_specdec.engines.model_checks import conformance
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.servers.client import ServerError
from pytest_specdec.records.text_set import TextSet

pytestmark = pytest.mark.slow

TARGET, DRAFTER = Toy(1), Toy(2)
NEW = 40


@pytest.fixture
def case(tmp_path: Path) -> Case:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        "".join(json.dumps({"category": "c", "prompt": f"prompt {row}"}) + "\n" for row in range(5))
    )
    return Case(
        texts=TextKey("toy", "target", path, None, NEW, 1.0, 0),
        drafter=DraftModelSpec("draft"),
        label="draft",
        k=4,
        depth=0,
        rule="rejection",
        margin=0.01,
        engine="logprobs",
    )


def emitting(toy: Toy, name: str = "toy") -> dict[str, Any]:
    """A vLLM that scores, samples and encodes."""
    texts = {text.ids[:3]: text.ids[3:] for text in toy.texts(500, 3 + NEW, seed=5)}

    def completions(body: dict[str, Any]) -> Answer:
        if "prompt_logprobs" in body:
            return toy.vllm(body)
        new = texts[tuple(body["prompt"])]
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(new)}
        return Answer(json.dumps({"choices": [{"token_ids": new}], "usage": usage}))

    def tokenize(body: dict[str, Any]) -> Answer:
        number = int(body["prompt"].split()[-1]) if body["prompt"].startswith("prompt") else 0
        return Answer(json.dumps({"tokens": [number % 5, 1, 2]}))

    return toy.plays("vllm", name) | {"/v1/completions": [completions], "/tokenize": [tokenize]}


def engine(target: str, drafter: str, **options: Any) -> ServedReplay:
    report = options.pop("report", no_progress)
    models = make_models("logprobs", device="auto", dtype="float32", report=report)
    return ServedReplay([], models, url=target, draft_url=drafter, **options)


def test_counts_are_those_of_the_two_models(case: Case) -> None:
    seen: list[tuple[str, int, int]] = []
    with playing(emitting(TARGET)) as target, playing(DRAFTER.plays("vllm", "small")) as drafter:
        logprob_engine = engine(
            target.url, drafter.url, report=lambda *progress: seen.append(progress)
        )
        measured = logprob_engine.measure(case)
        longer = logprob_engine.measure(dataclasses.replace(case, k=8))
        completions = target.request_count("/v1/completions")
    texts = logprob_engine.emitted(case)
    assert [len(text.ids) for text in texts] == [3 + NEW] * 5
    p = np.zeros((5, 3 + NEW))
    q = np.full((5, 1, 3 + NEW), -np.inf)
    for row, text in enumerate(texts):
        p[row, 4:], q[row, 0, 4:] = TARGET.scores(text), DRAFTER.scores(text)
    assert measured.field is not None
    field = measured.field()
    np.testing.assert_allclose(
        field.accept[:, 0, 4:], np.exp(np.minimum(q[:, 0, 4:] - p[:, 4:], 0)), atol=1e-9
    )
    assert measured.counts.acceptance_length == pytest.approx(
        expected_counts(field, 4).acceptance_length
    )
    assert longer.counts.k == 8
    assert completions == 5 + 5 + 4, (
        "five texts sampled, five scored, four of them again, for both cases"
    )
    assert measured.fingerprints.target.startswith("served-")
    assert measured.fingerprints.target != measured.fingerprints.drafter
    assert measured.texts is not None
    assert len(measured.texts.texts) == 5
    assert ("toy: sampling texts", 5, 5) in seen
    assert seen[-1] == ("toy: log-probabilities", 10, 10)


def test_stored_texts_are_used_while_the_served_model_is_the_same(case: Case) -> None:
    with playing(emitting(TARGET)) as target, playing(DRAFTER.plays("vllm")) as drafter:
        stored = engine(target.url, drafter.url).measure(case).texts
        before = target.request_count("/v1/completions")
        again = engine(target.url, drafter.url, stored_texts=lambda key: stored).measure(case)
        assert target.request_count("/v1/completions") - before == 5 + 4, "scored only"
        assert again.texts == stored
    with playing(emitting(TARGET, "another")) as target, playing(DRAFTER.plays("vllm")) as drafter:
        engine(target.url, drafter.url, stored_texts=lambda key: stored).measure(case)
        assert target.request_count("/v1/completions") == 5 + 5 + 4, "another target samples again"


def test_fewer_prompts_keep_their_texts(case: Case) -> None:
    sent: list[int] = []

    def remember(plays: dict[str, Any]) -> dict[str, Any]:
        (play,) = plays["/v1/completions"]

        def completions(body: dict[str, Any]) -> Answer:
            sent.extend([body["seed"]] if "seed" in body else [])
            answer: Answer = play(body)
            return answer

        return plays | {"/v1/completions": [completions]}

    few = dataclasses.replace(case, texts=dataclasses.replace(case.texts, prompt_limit=2))
    with playing(remember(emitting(TARGET))) as target, playing(DRAFTER.plays("vllm")) as drafter:
        all_of_them = engine(target.url, drafter.url).measure(case)
        two = engine(target.url, drafter.url).measure(few)
    assert len(set(sent)) == 5
    assert two.tokenizer == all_of_them.tokenizer
    assert set(two.text_fingerprints.items()) <= set(all_of_them.text_fingerprints.items())


def test_a_run_that_died_goes_on(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "scores"
    plays = emitting(TARGET)
    with playing(plays) as target, playing(DRAFTER.plays("vllm")) as drafter:
        drafter.plays["/v1/completions"] = [*drafter.plays["/v1/completions"] * 3, Answer("", 404)]
        logprob_engine = engine(target.url, drafter.url, folder=folder, workers=1)
        with pytest.raises(
            ServerError, match=r"HTTP 404 .* \(3 of 5 texts are kept, and not asked for again\)"
        ):
            logprob_engine.measure(case)
        stored = logprob_engine._texts(case.texts, logprob_engine._scorers(1)[0])[1]
        drafter.plays |= DRAFTER.plays("vllm")
        before = target.request_count("/v1/completions"), drafter.request_count("/v1/completions")
        engine(target.url, drafter.url, folder=folder, stored_texts=lambda key: stored).measure(
            case
        )
        assert (
            target.request_count("/v1/completions"),
            drafter.request_count("/v1/completions"),
        ) == (
            before[0] + 1 + 4,
            before[1] + 2 + 1 + 4,
        )
    assert not list(folder.rglob("*.json*")), "the next run measures again"


def test_prompts_are_encoded_by_the_targets_own_tokenizer(case: Case) -> None:
    def encode(target: str) -> Any:
        assert target == "target"
        return lambda prompts: [[4, 1, 2] for _ in prompts]

    with playing(emitting(TARGET)) as target, playing(DRAFTER.plays("vllm")) as drafter:
        logprob_engine = engine(target.url, drafter.url, encode=encode)
        logprob_engine.measure(case)
        assert not target.request_count("/tokenize")
    assert {text.ids[0] for text in logprob_engine.emitted(case)} == {4}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 1}, "plain models only; use a draft model at --specdec-depth=0"),
        ({"drafter": OwnHeadsSpec()}, "plain models only"),
        ({"drafter": PromptLookupSpec()}, "plain models only"),
    ],
)
def test_drafters_that_no_server_scores_are_refused(
    case: Case, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        engine("http://host", "http://other").measure(dataclasses.replace(case, **changes))


def test_what_takes_whole_distributions_or_the_machine_is_refused(case: Case) -> None:
    logprob_engine = engine("http://host", "http://other")
    with pytest.raises(RequestError, match="both models run on servers and none in this process"):
        conformance(logprob_engine, case, 0.01)
    with pytest.raises(RequestError, match=r"name a file of costs .*: --specdec-costs=FILE"):
        logprob_engine.models.costs([case])
    assert logprob_engine.models.words(case, [7, 8]) == ["<7>", "<8>"]


@pytest.mark.parametrize(
    ("url", "draft", "missing"),
    [(None, "http://a", "--specdec-url"), ("http://a", None, "--specdec-draft-url")],
)
def test_both_servers_are_needed(url: str | None, draft: str | None, missing: str) -> None:
    with pytest.raises(RequestError, match=f"add {missing}=http"):
        ServedReplay([], ModelPool(), url=url, draft_url=draft)


def test_a_server_without_token_ids_cannot_sample(case: Case) -> None:
    with playing(TARGET.plays("echo")) as target, playing(DRAFTER.plays("echo")) as drafter:
        logprob_engine = engine(
            target.url,
            drafter.url,
            encode=lambda target: lambda prompts: [[0, 1, 2]] * len(prompts),
        )
        with pytest.raises(
            RequestError,
            match="returns no token ids, so texts cannot be sampled there; store texts",
        ):
            logprob_engine.measure(case)
        with pytest.raises(
            RequestError, match="the target's tokenizer is needed to encode these prompts"
        ):
            engine(target.url, drafter.url).measure(case)


def test_chat_prompts_need_the_tokenizer(case: Case, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text(
        '{"category": "c", "messages": [{"role": "user", "content": "hi"}]}\n'
    )
    with (
        playing(emitting(TARGET)) as target,
        playing(DRAFTER.plays("vllm")) as drafter,
        pytest.raises(RequestError, match="the target's tokenizer is needed"),
    ):
        engine(target.url, drafter.url).measure(case)


def test_texts_too_short_for_a_round_are_an_error(case: Case) -> None:
    def stored(key: TextKey) -> TextSet | None:
        return None

    with playing(emitting(TARGET)) as target, playing(DRAFTER.plays("vllm")) as drafter:
        logprob_engine = engine(target.url, drafter.url, stored_texts=stored)
        with pytest.raises(
            MeasurementError,
            match="no text is long enough for a round of k=60; raise --specdec-new-tokens",
        ):
            logprob_engine.measure(dataclasses.replace(case, k=60))


def test_the_pangram_is_one(case: Case) -> None:
    """The tokenizer's stand-in is encoded like a prompt."""
    seen: list[Sequence[Prompt]] = []

    def encode(target: str) -> Any:
        return lambda prompts: (seen.append(prompts), [[0, 1, 2] for _ in prompts])[1]

    with playing(emitting(TARGET)) as target, playing(DRAFTER.plays("vllm")) as drafter:
        engine(target.url, drafter.url, encode=encode).measure(case)
    assert [len(prompts) for prompts in seen] == [5, 1]
