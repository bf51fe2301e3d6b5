"""Decode and replay of trees: the same rounds where nothing is random, the same mean otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.residual_heads import write_medusa
from helpers.tiers import crossed

from pytest_specdec import decode, decode_tree, load_model, replay_tree
from pytest_specdec.cases.tree import StaticTree, tree_of
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.loading import LoadedModel

pytestmark = pytest.mark.slow
MODELS = Path(__file__).parents[3] / "suites/models"
PROMPTS = ["The function returns", "A list of", "x"]
STATIC, DYNAMIC = "0 1 2 0.0 0.1 1.0 0.0.0 0.0.1", "topk=3,depth=4,nodes=12"
DRAFTERS = [("text-draft", 0), ("mtp", 3), ("mtp", 1), ("text-eagle3", 0)]


@pytest.fixture(scope="module")
def target() -> LoadedModel:
    return load_model(str(MODELS / "text-target"))


def source(drafter: str) -> str:
    return drafter if drafter == "mtp" else str(MODELS / drafter)


@pytest.mark.parametrize(("drafter", "depth"), DRAFTERS)
def test_a_tree_of_one_path_decodes_as_a_chain(
    target: LoadedModel, drafter: str, depth: int
) -> None:
    options: dict[str, Any] = {"depth": depth, "temperature": 0, "new_tokens": 24}
    chain = decode(target, source(drafter), PROMPTS, k=4, batch_size=1, **options)
    tree = decode_tree(target, source(drafter), PROMPTS, tree=StaticTree.chain(4), **options)
    assert tree.rounds == chain.rounds
    assert tree.texts == chain.texts


@crossed(
    drafting=DRAFTERS,
    how=[(STATIC, 0.0), (DYNAMIC, 1.0), (STATIC, 1.0), (DYNAMIC, 0.0)],
    ids=str,
)
def test_certain_trees_are_replayed_round_for_round(
    target: LoadedModel, drafting: tuple[str, int], how: tuple[str, float]
) -> None:
    (drafter, depth), (tree, temperature) = drafting, how
    options: dict[str, Any] = {"tree": tree, "depth": depth, "temperature": temperature}
    decoded = decode_tree(target, source(drafter), PROMPTS, new_tokens=24, **options)
    replayed = replay_tree(target, source(drafter), decoded.texts, **options)
    assert np.array_equal(decoded.counts.rounds, replayed.rounds)
    assert np.array_equal(decoded.counts.accepted, replayed.accepted)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("tree", [STATIC, DYNAMIC])
def test_medusa_heads(target: LoadedModel, tmp_path: Path, tree: str, temperature: float) -> None:
    heads = write_medusa(tmp_path / "medusa", MODELS / "text-target")
    options: dict[str, Any] = {"tree": tree, "temperature": temperature}
    decoded = decode_tree(target, f"medusa:{heads}", PROMPTS, new_tokens=24, **options)
    replayed = replay_tree(target, f"medusa:{heads}", decoded.texts, **options)
    assert np.array_equal(decoded.counts.accepted, replayed.accepted)


def test_greedy_texts_do_not_depend_on_the_tree(target: LoadedModel) -> None:
    plain = decode(target, None, PROMPTS, k=0, temperature=0, new_tokens=24).texts
    for tree in (STATIC, DYNAMIC):
        options: dict[str, Any] = {"tree": tree, "temperature": 0, "new_tokens": 24}
        assert decode_tree(target, source("text-draft"), PROMPTS, **options).texts == plain


@pytest.mark.parametrize(
    ("tree", "rule"),
    [
        ("0 1 0.0 sampled", "rejection"),
        ("0 1 0.0 replacement", "traversal"),
        ("0 1 0.0 replacement", "specinfer"),
    ],
)
def test_drawn_trees_are_replayed_in_the_mean(target: LoadedModel, tree: str, rule: str) -> None:
    prompts = [prompt for prompt in PROMPTS for _ in range(5)]
    options: dict[str, Any] = {"tree": tree, "rule": rule, "top_k": 20}
    result = decode_tree(target, source("text-draft"), prompts, new_tokens=24, **options)
    decoded = result.counts
    replayed = replay_tree(target, source("text-draft"), result.texts, **options)
    residual = decoded.accepted.sum(1) - replayed.expected_accepted * decoded.rounds
    error = residual.std(ddof=1) * np.sqrt(len(prompts))
    expected = replayed.accepted.sum(1) - replayed.expected_accepted * replayed.rounds
    assert abs(residual.sum() - expected.sum()) < 4 * error


def test_a_draft_model_with_heads_grows_no_trees(target: LoadedModel) -> None:
    with pytest.raises(RequestError, match="grows no trees"):
        decode_tree(target, source("text-draft"), ["x"], tree="0 1", depth=1, new_tokens=4)


def test_more_children_than_can_be_enumerated_are_refused(target: LoadedModel) -> None:
    texts = decode(target, None, ["The"], k=0, new_tokens=12).texts
    with pytest.raises(RequestError, match="cannot be enumerated"):
        replay_tree(target, source("text-draft"), texts, tree="0 1 2 3 4 sampled")


def test_rules_that_cannot_be_replayed_are_refused(target: LoadedModel) -> None:
    texts = decode(target, None, ["The"], k=0, new_tokens=12).texts
    for tree, rule in (("0 1 sampled", "traversal"), ("0 1", "naive")):
        with pytest.raises(RequestError, match="use --specdec-engine=decode"):
            replay_tree(target, source("text-draft"), texts, tree=tree_of(tree), rule=rule)
