"""Block drafters against their definition, written out one block, row and head at a time."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.block_reference import BlockReference
from helpers.blocks import KINDS, SLIDING, write_block
from helpers.eagle3 import PROMPTS, Target, make_targets
from helpers.serial_drafting import Steps, serial_rounds
from helpers.tiers import some

from pytest_specdec import replay
from pytest_specdec.cases.case import Sampling
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.drafters import block_forcing
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

IDS = (1, 4)
NEW = 6


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return make_targets(tmp_path_factory.mktemp("targets"))


def check_probabilities(target: LoadedModel, folder: Path, k: int) -> None:
    """Every acceptance probability of every round start and draft within 1e-5, at temperature 1: of
    the text's own token, and of any draft in its context.
    """
    texts = decode(target, None, PROMPTS[:2], k=0, new_tokens=NEW, seed=5, batch_size=1).texts
    plan = DrafterPlan(str(folder), 0, k)
    (scores,) = text_scores(target, [plan], texts, Sampling(1.0), overlaps=True)
    reference = BlockReference(folder, target.model, IDS)
    compared = 0
    for row, text in enumerate(texts):
        tokens = list(text.ids)
        with torch.no_grad():
            p = target.model(torch.tensor([tokens])).logits[0].softmax(-1)
        states = reference.states(tokens)
        for newest in range(text.prompt_length, len(tokens) - 1):
            for step in range(min(k, len(tokens) - 1 - newest)):
                at = newest + 1 + step
                drafts = tokens[newest + 1 : at]
                q = reference.logits(states, tokens, newest, k, drafts).softmax(-1)
                overlap = float(torch.minimum(q, p[at - 1]).sum())
                assert scores.overlaps["rejection"][row, step, at] == pytest.approx(
                    overlap, abs=1e-5
                )
                expected = min(1.0, float(q[tokens[at]] / p[at - 1, tokens[at]]))
                apart = float(scores.draft[row, step, at] - scores.target[row, at])
                assert min(1.0, math.exp(apart)) == pytest.approx(expected, abs=1e-5)
                compared += 1
    assert compared == sum(min(k, NEW - 1 - start) for start in range(NEW)) * len(texts)


@pytest.mark.parametrize("form", KINDS.values(), ids=KINDS)
def test_every_acceptance_probability_is_that_of_the_definition(
    targets: dict[str, Target], tmp_path: Path, form: tuple[str, str, dict[str, Any]]
) -> None:
    folder = write_block(tmp_path / "head", targets["qwen3"].folder, *form)
    check_probabilities(targets["qwen3"].double, folder, 3)


SHAPES: dict[str, dict[str, Any]] = {
    "a sliding layer, causal": {"layer": SLIDING},
    "a sliding layer, bidirectional": {"layer": SLIDING, "top": {"is_causal": False}},
    "all causal": {"top": {"is_causal": True}},
    "windows from the anchor": {"packaging": "speculators", "layer": SLIDING},
    "windows from the anchor, bidirectional": {
        "packaging": "speculators",
        "layer": SLIDING,
        "top": {"sliding_window_non_causal": True},
    },
    "biases": {"layer": {"attention_bias": True}},
    "own embeddings": {"own_embeddings": True},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_other_shapes_are_those_of_the_definition(
    targets: dict[str, Target], tmp_path: Path, shape: dict[str, Any]
) -> None:
    target = targets["qwen3"]
    check_probabilities(target.double, write_block(tmp_path / "head", target.folder, **shape), 3)


def test_starts_are_taken_a_few_at_a_time(
    targets: dict[str, Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_forcing, "_SCORES", {"cpu": 700})
    target = targets["llama"]
    check_probabilities(target.double, write_block(tmp_path / "head", target.folder), 3)


def steps_of(reference: BlockReference, k: int) -> Steps:
    """The definition's drafts after a text, in a round of k."""

    def steps(ids: Sequence[int]) -> Generator[torch.Tensor, int, None]:
        tokens, drafts = [*ids], list[int]()
        states = reference.states(tokens)
        while True:
            drafts.append((yield reference.logits(states, tokens, len(tokens) - 1, k, drafts)))

    return steps


@pytest.mark.parametrize("form", some(KINDS, 2))
def test_at_temperature_0_decode_and_replay_are_serial_decoding(
    targets: dict[str, Target], tmp_path: Path, form: str
) -> None:
    target = targets["llama"].double
    folder = write_block(tmp_path / "head", targets["llama"].folder, *KINDS[form])
    check_greedy_rounds(target, folder, 3)


@pytest.mark.parametrize("shape", some(SHAPES, 2))
def test_rounds_of_other_shapes_are_those_of_serial_decoding(
    targets: dict[str, Target], tmp_path: Path, shape: str
) -> None:
    folder = write_block(tmp_path / "head", targets["qwen3"].folder, **SHAPES[shape])
    check_greedy_rounds(targets["qwen3"].double, folder, 3)


def check_greedy_rounds(target: LoadedModel, folder: Path, k: int) -> None:
    """Decode in any batch counts the rounds of serial decoding, one by one, and replay their sum."""
    reference, new = BlockReference(folder, target.model, IDS), 10
    prompts = PROMPTS[:3]
    steps = steps_of(reference, k)
    serial = [serial_rounds(target, steps, prompt, k, new) for prompt in prompts]
    for batch_size in (1, len(prompts)):
        decoded = decode(
            target,
            str(folder),
            prompts,
            k=k,
            temperature=0,
            new_tokens=new,
            batch_size=batch_size,
        )
        assert [list(text.ids) for text in decoded.texts] == [ids for ids, _ in serial]
        assert [list(rounds) for rounds in decoded.rounds] == [rounds for _, rounds in serial]
    counts = replay(target, str(folder), decoded.texts, k=k, temperature=0)
    assert counts.accepted.tolist() == decoded.counts.accepted.tolist()
    assert counts.rounds.tolist() == decoded.counts.rounds.tolist()


def test_k_is_no_prefix_of_a_larger_k(targets: dict[str, Target], tmp_path: Path) -> None:
    target = targets["llama"].single
    folder = write_block(tmp_path / "head", targets["llama"].folder)
    texts = decode(target, None, PROMPTS, k=0, new_tokens=12).texts
    small, large = (
        text_scores(target, [DrafterPlan(str(folder), 0, k)], texts, Sampling(1.0))[0].draft
        for k in (2, 4)
    )
    first = texts[0].prompt_length + 1
    apart = abs(small[0, 0, first : first + 8] - large[0, 0, first : first + 8])
    assert apart.max() > 0.01


def test_more_drafts_than_the_block_are_refused(targets: dict[str, Target], tmp_path: Path) -> None:
    target = targets["llama"].single
    folder = write_block(tmp_path / "head", targets["llama"].folder, block=4)
    texts = decode(target, None, PROMPTS, k=0, new_tokens=12).texts
    assert replay(target, str(folder), texts, k=3).total_rounds > 0
    with pytest.raises(RequestError, match=r"k=4: .* was trained to draft 3 tokens"):
        replay(target, str(folder), texts, k=4)
    with pytest.raises(RequestError, match="head was trained to draft 3 tokens"):
        decode(target, str(folder), PROMPTS, k=4, new_tokens=12)


def test_longer_blocks_are_measured_where_they_are_asked_for(
    targets: dict[str, Target], tmp_path: Path
) -> None:
    target = targets["llama"].double
    folder = write_block(tmp_path / "head", targets["llama"].folder, block=3)
    asked: dict[str, Any] = {"k": 4, "temperature": 0, "drafting": "longer-blocks"}
    decoded = decode(target, str(folder), PROMPTS[:2], new_tokens=12, **asked)
    reference = BlockReference(folder, target.model, IDS)
    steps = steps_of(reference, 4)
    serial = [serial_rounds(target, steps, prompt, 4, 12) for prompt in PROMPTS[:2]]
    assert [list(rounds) for rounds in decoded.rounds] == [rounds for _, rounds in serial]
    counts = replay(target, str(folder), decoded.texts, **asked)
    assert counts.accepted.tolist() == decoded.counts.accepted.tolist()
