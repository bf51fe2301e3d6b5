"""The replay engine: one pass for all cases, texts reused or sampled, failures kept to their own cases."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support import edit_config, llama

from pytest_specdec.acceptance.case import Case, TextKey
from pytest_specdec.baselines.schema import TextSet
from pytest_specdec.engines import local
from pytest_specdec.engines.local import ReplayEngine
from pytest_specdec.errors import MeasurementError, RequestError

WORDS = ("apple", "banana", "cherry", "elder")


@pytest.fixture
def case(tiny_target: Path, tiny_draft: Path, tmp_path: Path) -> Case:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"category": "fruit", "prompt": word}) + "\n" for word in WORDS))
    texts = TextKey("suite", str(tiny_target), prompts, None, 24, 1.0, 0)
    return Case(texts, str(tiny_draft), "draft", 4, 0, "rejection", 0.01)


def grid(case: Case, *cells: tuple[int, int]) -> list[Case]:
    return [dataclasses.replace(case, k=k, depth=depth) for k, depth in cells]


def test_one_pass_serves_every_k_and_depth(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    measure = local.text_scores
    monkeypatch.setattr(local, "text_scores", lambda *args: passes.append(args) or measure(*args))
    cases = grid(case, (4, 0), (4, 2), (8, 0), (8, 2))
    engine = ReplayEngine(cases, device="cpu")
    lengths = [engine.measure(own).counts.acceptance_length for own in cases]
    assert len(passes) == 1
    assert len(set(lengths)) == 4


def test_a_case_measures_the_same_alone_and_in_a_grid(case: Case) -> None:
    cases = grid(case, (4, 0), (4, 2), (8, 0), (8, 2))
    together = ReplayEngine(cases, device="cpu")
    for own in cases:
        alone = ReplayEngine([own], device="cpu").measure(own)
        np.testing.assert_allclose(alone.counts.accepted, together.measure(own).counts.accepted, atol=1e-5)


def test_own_heads_share_the_texts_and_reuse_their_last_layer(case: Case) -> None:
    heads = dataclasses.replace(case, drafter="mtp", label="mtp", depth=2)
    cases = [*grid(case, (4, 0)), *grid(heads, (2, 2), (6, 2))]
    engine = ReplayEngine(cases, device="cpu")
    short, long = (engine.measure(own) for own in cases[1:])
    assert short.text_fingerprints == engine.measure(cases[0]).text_fingerprints
    assert long.counts.acceptance_length > short.counts.acceptance_length


def stored(case: Case) -> TextSet:
    return ReplayEngine([case], device="cpu").measure(case).texts


def test_stored_texts_are_used_as_they_are(case: Case) -> None:
    texts = stored(case)
    first = next(iter(texts.texts))
    kept = msgspec.structs.replace(texts, texts={**texts.texts, first: tuple(range(2, 26))})
    used = ReplayEngine([case], device="cpu", stored_texts=lambda key: kept).measure(case)
    assert used.texts == kept


def test_only_missing_texts_are_sampled(case: Case) -> None:
    texts = stored(case)
    keys = sorted(texts.texts)
    part = msgspec.structs.replace(texts, texts={key: texts.texts[key] for key in keys[:3]})
    used = ReplayEngine([case], device="cpu", stored_texts=lambda key: part).measure(case).texts
    assert set(used.texts) == set(keys)
    assert all(used.texts[key] == texts.texts[key] for key in keys[:3])


def test_texts_of_another_target_are_not_used(case: Case, tmp_path: Path) -> None:
    other = llama(tmp_path / "other", seed=9)
    elsewhere = dataclasses.replace(case, texts=dataclasses.replace(case.texts, target=str(other)))
    texts = stored(case)
    used = ReplayEngine([elsewhere], device="cpu", stored_texts=lambda key: texts).measure(elsewhere).texts
    assert used.target != texts.target
    assert used.texts != texts.texts


def test_a_bad_drafter_fails_alone(case: Case, tmp_path: Path) -> None:
    bad = edit_config(llama(tmp_path / "bad", seed=3, mtp_layers=0), num_mtp_layers=2)
    broken = dataclasses.replace(case, drafter=str(bad), label="bad", depth=2)
    engine = ReplayEngine([case, broken], device="cpu")
    assert engine.measure(case).counts.total_rounds > 0
    with pytest.raises(RequestError, match="hold none"):
        engine.measure(broken)


def test_texts_too_short_for_a_round_are_an_error(case: Case) -> None:
    (long,) = grid(case, (40, 0))
    with pytest.raises(MeasurementError, match=r"raise --specdec-new-tokens"):
        ReplayEngine([long], device="cpu").measure(long)
