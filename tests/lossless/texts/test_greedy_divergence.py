"""Greedy texts: bugs and numerical ties, and tokens at the cut-off of top-k and top-p."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.embedded import Pair

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.lossless.texts.conformance import conformance
from pytest_specdec.lossless.texts.greedy_divergence import TOLERANCES, greedy_gaps, near_cutoff


@pytest.fixture(scope="module")
def texts(pair: Pair) -> tuple[Text, ...]:
    """Greedy texts of a few prompts, decoded with the draft model."""
    return decode(
        pair.target, pair.draft, pair.prompts[:12], k=4, temperature=0, new_tokens=48
    ).texts


def changed(text: Text, position: int, token: int) -> Text:
    return Text(
        text.key,
        text.category,
        (*text.ids[:position], token, *text.ids[position + 1 :]),
        text.prompt_length,
    )


def logits_at(target: LoadedModel, text: Text, position: int) -> torch.Tensor:
    with torch.inference_mode():
        return target.model(torch.tensor([text.ids[:position]])).logits[0, -1]


def test_greedy_decoding_conforms(pair: Pair, texts: tuple[Text, ...]) -> None:
    result = conformance(pair.target, texts, temperature=0)
    assert result.conforms
    assert (result.verdict, result.divergences, result.ties, result.p_value) == (
        "conforms",
        (),
        0,
        1.0,
    )
    assert result.tokens == sum(len(text.ids) - text.prompt_length for text in texts)
    assert "0 texts leave the arg-max" in result.report()


def test_a_changed_token_is_a_bug_at_its_position(pair: Pair, texts: tuple[Text, ...]) -> None:
    """What follows it in the text is not reported: after the bug the text is another."""
    position = texts[3].prompt_length + 20
    wrong = [*texts[:3], changed(texts[3], position, 17), *texts[4:]]
    result = conformance(pair.target, wrong, temperature=0)
    assert result.verdict == "violates"
    (bug,) = result.divergences
    assert (bug.text, bug.position, bug.token, bug.expected, bug.tie) == (
        3,
        position,
        17,
        texts[3].ids[position],
        False,
    )
    logits = logits_at(pair.target, texts[3], position)
    assert bug.gap == pytest.approx(float(logits.max() - logits[17]), abs=1e-4)
    assert f"text 3 leaves the target at position {position}" in result.message
    assert (result.p_value, result.e_value) == (0.0, float("inf"))


def test_the_runner_up_within_the_tolerance_is_a_tie(pair: Pair, texts: tuple[Text, ...]) -> None:
    """The last token is changed, so that nothing follows from it; the tolerance is put on either
    side of the gap.
    """
    text = texts[5]
    last = len(text.ids) - 1
    values, tokens = logits_at(pair.target, text, last).topk(2)
    gap = float(values[0] - values[1])
    wrong = [changed(text, last, int(tokens[1]))]
    tie = conformance(pair.target, wrong, temperature=0, tolerance=gap + 0.01)
    assert tie.conforms
    assert tie.ties == 1
    assert tie.divergences[0].tie
    assert "1 numerical ties" in tie.report()
    assert not conformance(pair.target, wrong, temperature=0, tolerance=gap - 0.01).conforms


def test_an_engine_in_bfloat16_needs_the_tolerance_of_its_dtype(
    pair: Pair, texts: tuple[Text, ...], tmp_path: Path
) -> None:
    coarse = load_model(str(pair.target.checkpoint.folder), "cpu", "bfloat16")
    emitted = decode(coarse, None, pair.prompts[:40], k=0, temperature=0, new_tokens=48).texts
    strict = conformance(pair.target, emitted, temperature=0)
    assert not strict.conforms, (
        "these texts were to hold a near-tie that bfloat16 decides otherwise"
    )
    result = conformance(pair.target, emitted, temperature=0, tolerance=TOLERANCES[torch.bfloat16])
    assert result.conforms
    assert result.ties >= len(strict.bugs)
    assert max(divergence.gap for divergence in result.divergences) < TOLERANCES[torch.bfloat16]


def test_gaps_are_measured_from_the_arg_max() -> None:
    logits = torch.tensor([[1.0, 4.0, 3.5], [2.0, 2.0, -torch.inf]])
    best, gaps = greedy_gaps(logits, torch.tensor([2, 1]))
    assert best.tolist() == [1, 0]
    assert gaps.tolist() == [0.5, 0.0]
    assert greedy_gaps(logits, torch.tensor([0, 2]))[1].tolist() == [3.0, float("inf")]


@pytest.mark.parametrize(
    ("gap", "temperature", "near"), [(0.009, 1.0, True), (0.011, 1.0, False), (0.009, 0.3, True)]
)
def test_a_token_just_below_the_top_k_is_near(gap: float, temperature: float, near: bool) -> None:
    """The tolerance is one of logits, so temperature does not change who is near."""
    logits = torch.tensor([[3.0, 2.0, 1.0, 1.0 - gap]])
    assert near_cutoff(logits, torch.tensor([3]), Sampling(temperature, 3), 0.01).tolist() == [near]


def test_a_token_just_outside_the_mass_of_top_p_is_near() -> None:
    """Mass 0.9 comes before token 2: it is left out at top-p 0.9, and a breath less mass would let
    it in.
    """
    logits = torch.tensor([[0.6, 0.3, 0.06, 0.04]]).log()
    tokens = torch.tensor([2])
    assert near_cutoff(logits, tokens, Sampling(1.0, 0, 0.8999), 0.01).tolist() == [True]
    assert near_cutoff(logits, tokens, Sampling(1.0, 0, 0.89), 0.01).tolist() == [False]
    assert near_cutoff(logits, torch.tensor([3]), Sampling(1.0, 0, 0.8999), 0.01).tolist() == [
        False
    ]


def test_both_filters_must_be_near() -> None:
    logits = torch.tensor([[0.6, 0.3, 0.06, 0.04]]).log()
    assert near_cutoff(logits, torch.tensor([2]), Sampling(1.0, 3, 0.95), 0.01).tolist() == [True]
    assert near_cutoff(logits, torch.tensor([2]), Sampling(1.0, 2, 0.95), 0.01).tolist() == [False]
