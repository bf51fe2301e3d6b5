"""The public names of the package, used without pytest's machinery."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import pytest
from helpers.support import ROOT, edit_config

import pytest_specdec
from pytest_specdec.baselines import store
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.common.errors import MeasurementError, RequestError


@pytest.mark.parametrize("name", pytest_specdec.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(pytest_specdec, name) is not None


def test_completion_and_star_imports_know_the_public_names() -> None:
    assert set(pytest_specdec.__all__) <= set(dir(pytest_specdec))
    assert "__version__" in dir(pytest_specdec)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pytest_specdec.nothing


def test_a_stored_baseline_knows_its_metrics() -> None:
    baseline = pytest_specdec.load_baseline(
        ROOT / "baselines" / "text" / "text-draft-k8-depth0-t1.json"
    )
    counts = baseline.as_counts()
    for name in ("acceptance_length", "acceptance_rate", "expected_accepted"):
        assert getattr(baseline, name) == getattr(counts, name)
    assert baseline.costs is not None
    assert baseline.speedup == baseline.costs.speedup(counts.acceptance_length)


def test_examples_of_docstrings_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    examples = doctest.DocTestFinder().find(store.load_baseline, "load_baseline", globs=vars(store))
    results = [doctest.DocTestRunner().run(example) for example in examples]
    assert sum(example.attempted for example in results) == 3
    assert sum(example.failed for example in results) == 0


def test_replay_takes_paths_and_gives_counts(tiny_target: Path, tiny_draft: Path) -> None:
    texts = texts_from_ids([[0, *range(2, 30)], [0, *range(5, 31)]], [3, 4])
    counts = pytest_specdec.replay(str(tiny_target), str(tiny_draft), texts, k=4)
    assert counts.k == 4
    assert 1 < counts.acceptance_length < 5
    assert pytest_specdec.replay(
        str(tiny_target), str(tiny_target), texts, k=4
    ).acceptance_length == pytest.approx(5)


def test_replay_refuses_what_it_cannot_measure(tiny_target: Path, tiny_draft: Path) -> None:
    texts = texts_from_ids([[0, *range(2, 12)]], [3])
    with pytest.raises(RequestError, match="needs 5 MTP layers"):
        pytest_specdec.replay(str(tiny_target), str(tiny_draft), texts, k=4, depth=5)
    with pytest.raises(RequestError, match="verification rule 'best' is unknown"):
        pytest_specdec.replay(str(tiny_target), str(tiny_draft), texts, k=4, rule="best")
    with pytest.raises(RequestError, match="rule 'greedy' does not go with temperature 1"):
        pytest_specdec.replay(str(tiny_target), str(tiny_draft), texts, k=4, rule="greedy")
    with pytest.raises(MeasurementError, match="no text is long enough for a round of k=40"):
        pytest_specdec.replay(str(tiny_target), str(tiny_draft), texts, k=40)
    with pytest.raises(RequestError, match="longer than the context"):
        pytest_specdec.replay(
            str(tiny_target), str(tiny_draft), texts_from_ids([[0] * 200], [3]), k=4
        )


def test_a_drafter_that_is_refused_costs_no_loading_of_its_target(
    tiny_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = edit_config(Path(shutil.copytree(tiny_target, tmp_path / "head")), draft_vocab_size=16)
    monkeypatch.setattr(
        "pytest_specdec.decoding.loading.load_model", lambda *arguments: pytest.fail("loaded")
    )
    with pytest.raises(RequestError, match=r"has no matrix fc\.weight"):
        pytest_specdec.replay(
            str(tiny_target), str(folder), texts_from_ids([[0, *range(2, 12)]], [3]), k=4
        )
