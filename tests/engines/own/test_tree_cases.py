"""Cases whose rounds draft trees, replayed and decoded."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.fruit import decoded, decoding, heads_case, replayed, with_texts

from pytest_specdec.cases.case import Case
from pytest_specdec.cases.tree import StaticTree, tree_of
from pytest_specdec.common.errors import RequestError
from pytest_specdec.engines.counting.oracle import agreement
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine

TREES = ("0 1 0.0 1.0", "topk=2,depth=2,nodes=5")


def tree_case(case: Case, tree: str, **changes: object) -> Case:
    shape = tree_of(tree)
    return dataclasses.replace(case, tree=shape, k=shape.depth, **changes)


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("drafter", ["draft", "heads"])
def test_decoding_counts_what_replay_of_its_texts_expects(
    case: Case, tree: str, drafter: str
) -> None:
    of_drafter = case if drafter == "draft" else heads_case(case)
    (measured,) = decoded(decoding(tree_case(of_drafter, tree)))
    assert measured.expected is not None
    assert np.array_equal(measured.expected.accepted, measured.counts.accepted)
    assert measured.counts.accepted.sum() > 0


@pytest.mark.parametrize("tree", TREES)
def test_replayed_trees_accept_more_than_their_chain(case: Case, tree: str) -> None:
    wide = tree_case(case, tree)
    chain = dataclasses.replace(wide, tree=StaticTree.chain(wide.k))
    of_tree, of_chain, without = replayed(wide, chain, dataclasses.replace(case, k=wide.k))
    assert of_tree.counts.acceptance_length > of_chain.counts.acceptance_length
    assert of_tree.text_fingerprints == without.text_fingerprints
    assert of_tree.references is not None


def test_a_tree_is_in_the_cases_name(case: Case) -> None:
    wide = tree_case(case, TREES[0])
    assert "-tree4x2-" in wide.name
    assert wide.verified == 4
    assert wide.drafted == 2


def test_greedy_trees_are_replayed_as_decoded(case: Case) -> None:
    greedy = dataclasses.replace(with_texts(case, temperature=0.0), rule="greedy")
    wide = tree_case(greedy, TREES[1])
    (one,), (other,) = replayed(wide), decoded(decoding(wide))
    assert np.array_equal(one.counts.accepted, other.counts.accepted)


def test_a_rule_that_cannot_be_replayed_is_decoded_without_an_expectation(case: Case) -> None:
    drawn = tree_case(case, "0 1 sampled", rule="traversal")
    (measured,) = decoded(decoding(drawn))
    assert measured.expected is None
    with pytest.raises(RequestError, match="siblings"):
        replayed(drawn)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_oracle_judges_rounds_of_trees(case: Case, temperature: float) -> None:
    rule = "rejection" if temperature else "greedy"
    wide = decoding(tree_case(with_texts(case, temperature=temperature), TREES[1], rule=rule))
    pool = ModelPool("cpu")
    run = DecodeEngine(pool).counted(wide)
    models = pool.target(wide.target), pool.drafting(wide)
    assert agreement(run, *models, 0.01).agrees
    first, *others = run.reported
    assert first.rounds is not None
    at = next(number for number, played in enumerate(first.rounds[:-2]) if played.accepted < wide.k)
    tampered = list(first.rounds)
    tampered[at] = tampered[at]._replace(accepted=tampered[at].accepted + 1)
    wrong = dataclasses.replace(
        run, reported=[dataclasses.replace(first, rounds=tuple(tampered)), *others]
    )
    found = agreement(wrong, *models, 0.01)
    assert found.exact
    assert not found.agrees
