"""Logits processors in decoding and replay: each token after its own prefix, whatever drafts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from helpers.embedded import Pair
from transformers import GenerationConfig, LogitsProcessor, RepetitionPenaltyLogitsProcessor

from pytest_specdec.cases.case import LOOKUP, OWN_HEADS, Sampling
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding.decode import Decoded, decode
from pytest_specdec.decoding.drafters.draft_model import DraftModel
from pytest_specdec.decoding.named_processors import ready_processors
from pytest_specdec.decoding.penalties import OutputPenalties
from pytest_specdec.decoding.processors import Processors, TextProcessors
from pytest_specdec.decoding.replay import replay
from pytest_specdec.decoding.sampling import sample_new_tokens

NEW, K = 20, 3
PENALTIES = {"repetition_penalty": 1.3, "presence_penalty": 0.4, "frequency_penalty": 0.2}
SETTINGS: dict[str, Any] = {
    "penalties": PENALTIES,
    "n-grams and biases": {"no_repeat_ngram": 3, "logit_bias": {5: 2.0, 9: -5.0}},
    "target alone": {"repetition_penalty": 1.5, "on_drafts": False},
}
DRAFTERS = [("draft", 0), ("draft", 2), (OWN_HEADS, 2), (LOOKUP, 0)]


def decoded(pair: Pair, drafter: str, depth: int, processors: Any, **options: Any) -> Decoded:
    model = pair.draft if drafter == "draft" else drafter
    given = {"k": K, "new_tokens": NEW, "temperature": 0.0, "prompts": pair.prompts[::20]} | options
    return decode(pair.target, model, depth=depth, processors=processors, **given)


def replayed(
    pair: Pair, texts: Any, drafter: str, depth: int, processors: Any, **options: Any
) -> Any:
    model = pair.draft if drafter == "draft" else drafter
    return replay(
        pair.target,
        model,
        texts,
        k=K,
        depth=depth,
        processors=processors,
        **{"temperature": 0.0} | options,
    )


@pytest.mark.parametrize(("name", "drafter"), list(itertools.product(SETTINGS, DRAFTERS)), ids=str)
def test_replay_counts_decodes_rounds(pair: Pair, name: str, drafter: tuple[str, int]) -> None:
    made = decoded(pair, *drafter, SETTINGS[name])
    expected = replayed(pair, made.texts, *drafter, SETTINGS[name])
    for field in ("rounds", "drafted", "accepted"):
        np.testing.assert_array_equal(getattr(made.counts, field), getattr(expected, field))
    other = replayed(pair, made.texts, *drafter, None)
    if name == "penalties" and drafter[0] != LOOKUP:
        assert other.acceptance_length != expected.acceptance_length


def test_speculation_keeps_the_text_of_transformers_own_processors(pair: Pair) -> None:
    """Texts of prompts of different lengths, beside `generate` with its own settings."""
    settings = {"repetition_penalty": 1.3, "no_repeat_ngram": 3}
    made = decoded(pair, "draft", 0, settings)
    for text, prompt in zip(made.texts, pair.prompts[::20], strict=True):
        ids = torch.tensor([prompt])
        config = GenerationConfig(
            max_new_tokens=NEW,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
            repetition_penalty=1.3,
            no_repeat_ngram_size=3,
        )
        (own,) = pair.target.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=config
        ).tolist()
        assert list(text.ids) == own


@pytest.mark.parametrize("drafter", DRAFTERS[1:])
def test_no_drafter_changes_a_greedy_text(pair: Pair, drafter: tuple[str, int]) -> None:
    plain = decode(
        pair.target,
        None,
        pair.prompts[::20],
        k=0,
        new_tokens=NEW,
        temperature=0,
        processors=PENALTIES,
    )
    made = decoded(pair, *drafter, PENALTIES, batch_size=3)
    assert [text.ids for text in made.texts] == [text.ids for text in plain.texts]
    sampled = sample_new_tokens(
        pair.target,
        pair.prompts[::20],
        new_tokens=NEW,
        sampling=Sampling(0.0),
        seed=0,
        processors=ready_processors(PENALTIES, pair.target, 0.0),
    )
    assert [text.ids[text.prompt_length :] for text in plain.texts] == sampled


def test_sampled_rounds_are_those_that_replay_expects(pair: Pair) -> None:
    """The difference of each text's accepted drafts from their expectation has mean 0."""
    settings, prompts = PENALTIES | {"min_p": 0.02}, pair.prompts[:40]
    made = decoded(pair, "draft", 0, settings, temperature=1.0, prompts=prompts)
    expected = replayed(pair, made.texts, "draft", 0, settings, temperature=1.0)
    gaps = (made.counts.accepted - expected.accepted).sum(-1)
    assert abs(gaps.sum()) < 4 * np.sqrt((gaps**2).sum())
    assert np.abs(gaps).sum() > 0


def test_presence_and_frequency_count_emitted_tokens_alone() -> None:
    penalties = OutputPenalties(presence=0.5, frequency=0.25).for_prompt([1, 2])
    changed = penalties(torch.tensor([[1, 2, 3, 3, 0]]), torch.zeros(1, 5))
    assert changed.tolist() == [[-0.75, 0.0, 0.0, -1.0, 0.0]]


def test_min_p_is_relative_to_the_likeliest_after_temperature(pair: Pair) -> None:
    processors = ready_processors({"min_p": 0.1}, pair.target, 2.0)
    assert processors is not None
    logits = torch.tensor([0.0, -4.5, -4.7, -20.0])  # e^(-4.5 / 2) is above 0.1, e^(-4.7 / 2) not
    kept = processors.for_text([0])(torch.tensor([0]), logits) > -torch.inf
    assert kept.tolist() == [True, True, False, False]


def test_processors_see_prompt_text_and_the_rounds_own_drafts(pair: Pair) -> None:
    """Every row that is processed is a prefix of a text: prompt and text so far, and drafts."""
    seen: list[tuple[int, ...]] = []

    def watch(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(input_ids[0].tolist()))
        return scores

    made = decoded(pair, "draft", 0, watch, prompts=pair.prompts[:1], new_tokens=8)
    (text,), (rounds,) = made.texts, made.rounds
    for ids in seen:
        pairs = enumerate(zip(ids, text.ids, strict=False))
        parts = next((at for at, (own, emitted) in pairs if own != emitted), None)
        assert parts is None or any(
            played.start <= parts and len(ids) <= played.start + played.drafted for played in rounds
        )
    assert {len(ids) for ids in seen} >= set(range(text.prompt_length, len(text.ids)))


class _Wrong(LogitsProcessor):  # type: ignore[misc]
    def __init__(self, returned: torch.Tensor) -> None:
        self.returned = returned

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return self.returned


@pytest.mark.parametrize(
    ("returned", "problem"),
    [(torch.zeros(4), r"returned scores \(4,\)"), (torch.full((1, 4), torch.nan), "returned NaN")],
)
def test_a_processor_that_returns_anything_else_is_refused(
    returned: torch.Tensor, problem: str
) -> None:
    with pytest.raises(RequestError, match=f"processor _Wrong {problem}"):
        TextProcessors([_Wrong(returned)])(torch.tensor([0]), torch.zeros(4))


def test_a_text_without_a_next_token_is_an_error(pair: Pair) -> None:
    def nothing(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return torch.full_like(scores, -torch.inf)

    for k, drafter in ((0, None), (K, pair.draft)):
        with pytest.raises(MeasurementError, match="leave no token"):
            decode(pair.target, drafter, pair.prompts[:1], k=k, new_tokens=4, processors=nothing)


def test_a_drafter_that_does_not_apply_them_is_refused(pair: Pair) -> None:
    drafter = DraftModel(pair.draft, 0)
    drafter.takes_processors = False
    penalty = RepetitionPenaltyLogitsProcessor(1.2)
    with pytest.raises(RequestError, match="does not apply logits processors to its drafts"):
        decode(pair.target, drafter, pair.prompts[:1], k=2, new_tokens=4, processors=penalty)
    alone = Processors((penalty,), on_drafts=False)
    made = decode(pair.target, drafter, pair.prompts[:1], k=2, new_tokens=4, processors=alone)
    assert len(made.texts) == 1


def test_what_is_no_processor_is_refused(pair: Pair) -> None:
    with pytest.raises(RequestError, match="is no logits processor"):
        decode(pair.target, pair.draft, pair.prompts[:1], k=2, processors=3)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="names token 5000"):
        decode(
            pair.target, pair.draft, pair.prompts[:1], k=2, processors={"logit_bias": {5000: 1.0}}
        )
