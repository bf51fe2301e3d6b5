"""Labellings: all of them where they are few, else random ones that prompts share."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pytest_specdec.gate.labellings import Labellings

STRUCTURES = [(2, 1), (3, 1), (4, 2)]


def labels(prompts: str, number: int, runs: int = 2, now_runs: int = 1, **more: int) -> np.ndarray:
    """(labellings, prompts, runs): whether a run is called now; each letter is a prompt's key."""
    of = Labellings(tuple(prompts), runs=runs, now_runs=now_runs, number=number, **more)
    others = np.concatenate(list(of)).swapaxes(1, 2)
    assert len(others) == of.number
    first = now_runs - others.sum(2, keepdims=True)
    assert set(first.ravel().tolist()) <= {0, 1}
    return np.concatenate([first.astype(bool), others], axis=2)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_few_labellings_are_all_there(structure: tuple[int, int]) -> None:
    runs, now_runs = structure
    every = math.comb(runs, now_runs) ** 3
    of = labels("abc", every, runs, now_runs)
    called = itertools.combinations(range(runs), now_runs)
    expected = set(itertools.product([frozenset(subset) for subset in called], repeat=3))
    seen = [tuple(frozenset(np.flatnonzero(row).tolist()) for row in labelling) for labelling in of]
    assert len(seen) == every
    assert set(seen) == expected


def test_it_says_whether_they_are_all() -> None:
    assert Labellings("abc", runs=2, now_runs=1, number=8).complete
    assert not Labellings("abc", runs=2, now_runs=1, number=7).complete


@pytest.mark.parametrize("structure", STRUCTURES)
def test_drawn_labellings_are_uniform_and_prompts_independent(structure: tuple[int, int]) -> None:
    runs, now_runs = structure
    of = labels("abcdefghij", 1000, runs, now_runs)
    subsets = (of * 2 ** np.arange(runs)).sum(2)
    for prompt in range(10):
        seen = np.unique(subsets[:, prompt], return_counts=True)[1]
        assert len(seen) == math.comb(runs, now_runs)
        assert stats.chisquare(seen).pvalue > 1e-5
    for one, other in itertools.combinations(range(10), 2):
        table = stats.contingency.crosstab(subsets[:, one], subsets[:, other]).count
        assert stats.chi2_contingency(table).pvalue > 1e-5


def test_a_prompt_has_the_same_labels_in_every_case_and_with_any_number() -> None:
    one, other = labels("abcdefghij", 500), labels("fghijklmno", 200)
    np.testing.assert_array_equal(one[:200, 5:], other[:, :5])


def test_another_seed_gives_other_labels() -> None:
    assert (labels("abcdefghij", 500) != labels("abcdefghij", 500, seed=1)).any()


def test_labellings_are_the_same_every_time_and_where_they_do_not_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = labels("abcdefghij", 300)
    monkeypatch.setattr("pytest_specdec.gate.labellings._KEPT", 100)
    monkeypatch.setattr("pytest_specdec.gate.labellings._BLOCK", 70)
    of = Labellings("abcdefghij", runs=2, now_runs=1, number=300)
    for _ in range(2):
        blocks = list(of)
        assert max(map(len, blocks)) == 7
        np.testing.assert_array_equal(np.concatenate(blocks)[:, 0], whole[..., 1])


def test_one_who_stops_early_leaves_the_rest_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_specdec.gate.labellings._BLOCK", 70)
    of = Labellings("abcdefghij", runs=2, now_runs=1, number=300)
    next(iter(of))
    assert sum(map(len, of)) == sum(map(len, of)) == 300
