"""What the target's pass says of texts: the stored ones are its own, exchanged ones are not, tokens
at a cut-off are counted.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from helpers.embedded import Pair
from helpers.support import EMBEDDED, ROOT

from pytest_specdec import decode, replay, replay_tree
from pytest_specdec.acceptance.text_origin import Origin
from pytest_specdec.baselines.store import load
from pytest_specdec.cases.case import LOOKUP, Case, Sampling, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text, texts_of_prompts
from pytest_specdec.common.errors import MeasurementError
from pytest_specdec.decoding.distributions import filtered
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.engines.own.replay_work import Scoring
from pytest_specdec.records.text_set import TextSet

FILTERED = Sampling(1.0, 8, 0.9)
PROMPTS = ROOT / "suites" / "text" / "prompts.jsonl"


def stored(model: LoadedModel, suite: str, name: str) -> tuple[Text, ...]:
    """A suite's stored texts."""
    new = json.loads((ROOT / "baselines" / suite / "texts" / f"{name}.json").read_text())["texts"]
    prompts = [
        prompt
        for prompt in read_prompts(ROOT / "suites" / suite / "prompts.jsonl")
        if prompt.key in new
    ]
    return texts_of_prompts(
        prompts, encode_prompts(model.tokenizer, prompts), [new[prompt.key] for prompt in prompts]
    )


def origin(model: LoadedModel, texts: tuple[Text, ...] | list[Text], sampling: Sampling) -> Origin:
    (scores,) = text_scores(model, [DrafterPlan(LOOKUP, 0, 2)], texts, sampling, judge_origin=True)
    assert scores.origin is not None
    return scores.origin


@pytest.mark.parametrize(
    ("suite", "name"), [("text", "t1-n128-s0"), ("text", "t0-n128-s0"), ("audio", "t1-n128-s0")]
)
def test_the_stored_texts_are_their_targets(suite: str, name: str) -> None:
    target = load_model(str(EMBEDDED / f"{suite}-target"), "cpu")
    text_origin = origin(target, stored(target, suite, name), Sampling(float(name[1])))
    text_origin.check()
    assert text_origin.note is None


def test_greedy_texts_are_not_those_of_temperature_one(pair: Pair) -> None:
    with pytest.raises(
        MeasurementError, match="under these settings: they are much more probable than what it"
    ):
        origin(pair.target, stored(pair.target, "text", "t0-n128-s0"), Sampling(1.0)).check()


def test_sampled_texts_are_not_greedy(pair: Pair) -> None:
    with pytest.raises(
        MeasurementError,
        match=r"\d+ of 640 tokens lie below the target's arg-max by more than a tie",
    ):
        origin(pair.target, stored(pair.target, "text", "t1-n128-s0"), Sampling(0.0)).check()


def test_the_draft_models_texts_are_not_the_targets(pair: Pair) -> None:
    prompts = pair.prompts[:12]
    new = sample_new_tokens(pair.draft, prompts, new_tokens=96, sampling=Sampling(1.0), seed=0)
    with pytest.raises(MeasurementError, match="they are much less probable than what it samples"):
        origin(pair.target, texts_of(prompts, new), Sampling(1.0)).check()


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0), Sampling(1.6, 20), Sampling(0.8, 0, 0.9), Sampling(0.0)], ids=str
)
def test_texts_of_another_number_format_are_the_targets(pair: Pair, sampling: Sampling) -> None:
    """bfloat16 texts under float32: some tokens lie outside the filters, fewer than are refused."""
    coarse = load_model(str(EMBEDDED / "text-target"), "cpu", "bfloat16")
    prompts = pair.prompts[:16]
    new = sample_new_tokens(coarse, prompts, new_tokens=64, sampling=sampling, seed=1)
    origin(pair.target, texts_of(prompts, new), sampling).check()


def texts_of(prompts: list[list[int]], new: list[tuple[int, ...]]) -> list[Text]:
    return [
        Text(f"p{row}", "all", (*prompt, *more), len(prompt))
        for row, (prompt, more) in enumerate(zip(prompts, new, strict=True))
    ]


@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block"])
def test_a_token_at_the_cutoff_counts_with_its_own_weight(pair: Pair, rule: str) -> None:
    """One token in a text lies outside top-k and top-p here: q/p with p as if they had kept it, not
    certain acceptance.
    """
    prompt = pair.prompts[0]
    (new,) = sample_new_tokens(pair.target, [prompt], new_tokens=40, sampling=FILTERED, seed=0)
    at = len(prompt) + 20
    before = torch.tensor([[*prompt, *new[:20]]])
    with torch.inference_mode():
        target, draft = (
            model.model(before).logits[0, -1].double() for model in (pair.target, pair.draft)
        )
    kept, theirs = filtered(target, FILTERED) > -torch.inf, filtered(draft, FILTERED)
    rank = next(
        token
        for token in target.argsort(descending=True).tolist()
        if not kept[token] and theirs[token] > -torch.inf
    )
    text = Text("p0", "all", (*prompt, *new[:20], rank, *new[21:]), len(prompt))
    (scores,) = text_scores(
        pair.target, [DrafterPlan(pair.draft, 0, 4)], [text], FILTERED, judge_origin=True
    )
    p = target[rank].exp() / (target[kept].exp().sum() + target[rank].exp())
    q = theirs.softmax(-1)[rank]
    wanted = {"rejection": min(1.0, float(q / p)), "sample-match": float(q), "block": float(q / p)}[
        rule
    ]
    assert scores.field(rule).accept[0, 0, at] == pytest.approx(wanted, rel=1e-4)
    assert scores.origin is not None
    assert scores.origin.outside[0] >= 1


@pytest.fixture
def case() -> Case:
    texts = TextKey("text", str(EMBEDDED / "text-target"), PROMPTS, None, 128, 1.0, 0)
    return Case(
        texts=texts,
        drafter=DraftModelSpec(str(EMBEDDED / "text-draft")),
        label="draft",
        k=4,
        depth=0,
        rule="rejection",
        margin=0.01,
    )


def test_an_engine_refuses_foreign_texts_for_every_case_after_one_pass(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the exchange of two files would give that no hash ties to a record."""
    folder = ROOT / "baselines" / "text" / "texts"
    sampled, greedy = (load(folder / f"{name}-n128-s0.json", TextSet) for name in ("t1", "t0"))
    assert sampled is not None
    assert greedy is not None
    exchanged = with_texts(sampled, greedy)
    passes: list[int] = []
    opened = Scoring.opened
    monkeypatch.setattr(
        Scoring, "opened", lambda work, *given: passes.append(1) or opened(work, *given)
    )
    cases = [dataclasses.replace(case, k=k) for k in (4, 8)]
    replay_engine = ReplayEngine(cases, ModelPool("cpu"), stored_texts=lambda key: exchanged)
    for each_case in cases:
        with pytest.raises(
            MeasurementError, match=r"not this target's under these settings.*; restore them from"
        ):
            replay_engine.measure(each_case)
    assert len(passes) == 1


def with_texts(texts: TextSet, other: TextSet) -> TextSet:
    """One set's header with the other's texts."""
    return msgspec.structs.replace(texts, texts=other.texts)


def test_a_measurement_says_how_many_tokens_lie_outside(
    case: Case, pair: Pair, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(PROMPTS.read_text().splitlines(keepends=True)[:4]))
    key = dataclasses.replace(case.texts, prompts=prompts, new_tokens=40, top_k=8)
    cases = [dataclasses.replace(case, texts=key)]
    plain = ReplayEngine(cases, ModelPool("cpu")).measure(cases[0])
    assert plain.notes == ()
    assert plain.texts is not None
    first = next(iter(plain.texts.texts))
    new_tokens = plain.texts.texts[first]
    rare = (
        int(np.argmin(np.bincount(new_tokens, minlength=1024)[2:])) + 2
    )  # a token that top-k 8 keeps nowhere near
    changed = msgspec.structs.replace(
        plain.texts, texts=plain.texts.texts | {first: (*new_tokens[:-1], rare)}
    )
    measured = ReplayEngine(cases, ModelPool("cpu"), stored_texts=lambda key: changed).measure(
        cases[0]
    )
    assert measured.notes == (
        "texts of text at t1-topk8: 1 of 160 tokens lies outside the target's top-k 8 here",
    )


@pytest.mark.parametrize(("temperature", "emitted"), [(0, 1.0), (1.0, 0)])
@pytest.mark.parametrize("tree", [False, True], ids=["chain", "tree"])
def test_replay_refuses_texts_of_another_temperature(
    pair: Pair, temperature: float, emitted: float, tree: bool
) -> None:
    texts = decode(
        pair.target, None, pair.prompts[:8], k=0, temperature=emitted, new_tokens=64
    ).texts
    ask = functools.partial(replay_tree, tree="0 1 0.0") if tree else functools.partial(replay, k=2)
    with pytest.raises(
        MeasurementError, match=r"not this target's under these settings.*; replay texts that it"
    ):
        ask(pair.target, pair.draft, texts, temperature=temperature)
