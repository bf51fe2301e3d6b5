"""What a decision stores of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from helpers.engines import SMALL_CASE, measurement
from helpers.records import record, scaled, steady_counts, text_set

from pytest_specdec.baselines.evidence_and_tokens import EvidenceFile
from pytest_specdec.baselines.store import BaselineStore, load, write_all
from pytest_specdec.baselines.writing import dumps
from pytest_specdec.gate.verdict import Verdict
from pytest_specdec.judging.comparison import Baseline, Run
from pytest_specdec.judging.decisions import Decision
from pytest_specdec.judging.pending_files import PendingFiles
from pytest_specdec.records.case_costs import CaseCosts
from pytest_specdec.records.record import Record
from pytest_specdec.records.text_set import TextSet

VERDICT = Verdict(outcome="pass", metric="acceptance_length", reason="unchanged")
STORED = record(case=SMALL_CASE.name)
TEXTS = text_set(new_tokens=512)


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path)


def added(
    store: BaselineStore, stored: Record | None, texts: TextSet | None = TEXTS, **decision: Any
) -> dict[Path, str]:
    judge: Any = None
    baseline = Baseline(SMALL_CASE, stored, path=store.record_path(SMALL_CASE), judge=judge)
    run = Run(SMALL_CASE, [measurement(steady_counts(), texts=texts)], engine="replay")
    pending = PendingFiles(store)
    pending.add(run, baseline, Decision(verdict=VERDICT, **decision))
    return pending.contents


def test_a_verdict_alone_stores_nothing(store: BaselineStore) -> None:
    assert added(store, STORED) == {}


def test_a_new_baseline_is_stored_with_its_texts(store: BaselineStore) -> None:
    contents = added(store, None, stores="record")
    assert contents == {
        store.record_path(SMALL_CASE): dumps(STORED),
        store.texts_path(SMALL_CASE.texts): dumps(TEXTS),
    }


def test_an_engine_that_emits_its_own_texts_stores_none(store: BaselineStore) -> None:
    assert list(added(store, None, texts=None, stores="record")) == [store.record_path(SMALL_CASE)]


@pytest.mark.parametrize(
    ("stored_texts", "before", "rewritten"),
    [
        (TEXTS, STORED, False),
        (text_set(new_tokens=512, target="target-0"), STORED, True),
        (text_set(new_tokens=512, target="target-0"), None, False),
    ],
)
def test_stored_texts_are_rewritten_only_with_the_record_that_they_belong_to(
    store: BaselineStore, stored_texts: TextSet, before: Record | None, rewritten: bool
) -> None:
    path = store.texts_path(SMALL_CASE.texts)
    write_all({path: dumps(stored_texts)})
    assert (path in added(store, before, stores="record")) == rewritten


SCORED = msgspec.structs.replace(
    TEXTS, logprobs={key: (-1.0,) * len(tokens) for key, tokens in TEXTS.texts.items()}
)
ROUNDED = msgspec.structs.replace(
    TEXTS, logprobs={key: (-1.01,) * len(tokens) for key, tokens in TEXTS.texts.items()}
)


@pytest.mark.parametrize(
    ("device", "stored", "rewritten"),
    [
        (None, SCORED, True),
        ("cpu-bfloat16", SCORED, False),
        ("cpu-bfloat16", TEXTS, True),
        ("cpu-bfloat16", msgspec.structs.replace(SCORED, target="target-0"), True),
        ("cpu-bfloat16", msgspec.structs.replace(SCORED, texts={"p0": (1,)}, logprobs={}), True),
    ],
)
def test_a_device_of_its_own_keeps_texts_that_it_only_rounds_otherwise(
    tmp_path: Path, device: str | None, stored: TextSet, rewritten: bool
) -> None:
    store = BaselineStore(tmp_path, device)
    path = store.texts_path(SMALL_CASE.texts)
    write_all({path: dumps(stored)})
    assert (path in added(store, STORED, texts=ROUNDED, stores="record")) == rewritten


def test_a_record_keeps_what_its_baseline_replaced_and_its_costs(store: BaselineStore) -> None:
    costs = CaseCosts(target_ms=10.0, verify_ms=12.0, draft_ms=4.0)
    earlier = record(scaled(steady_counts(), 1.1)).as_replaced()
    before = msgspec.structs.replace(STORED, costs=costs, replaced=(earlier,))
    contents = added(store, before, stores="record")
    assert contents[store.record_path(SMALL_CASE)] == dumps(before)


def test_a_record_remembers_what_it_replaces_and_the_commit(
    store: BaselineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "1a2b3c4d5e" * 4
    asked: list[Path] = []

    def head_commit(folder: Path) -> str:
        asked.append(folder)
        return commit

    monkeypatch.setattr("pytest_specdec.judging.pending_files.head_commit", head_commit)
    better = record(scaled(steady_counts(), 1.1), case=SMALL_CASE.name)
    contents = added(store, better, stores="record")
    write_all(contents)
    stored = load(store.record_path(SMALL_CASE), Record)
    assert stored == msgspec.structs.replace(STORED, replaced=(better.as_replaced(commit),))
    assert asked == [store.folder]
    added(store, None, stores="record")
    assert len(asked) == 1


def test_evidence_grows_by_the_run(store: BaselineStore) -> None:
    path = store.evidence_path(SMALL_CASE)
    for number, p_value in enumerate((0.25, 0.75), 1):
        contents = added(store, STORED, p_value=p_value)
        assert list(contents) == [path]
        write_all(contents)
        evidence = load(path, EvidenceFile)
        assert evidence is not None
        assert len(evidence.runs) == number
        assert evidence.runs[-1].p_value == p_value
        assert evidence.runs[-1].counts == STORED.counts


def test_evidence_against_another_baseline_starts_again(store: BaselineStore) -> None:
    write_all(added(store, record(rule="block"), p_value=0.5))
    write_all(added(store, STORED, p_value=0.5))
    evidence = load(store.evidence_path(SMALL_CASE), EvidenceFile)
    assert evidence is not None
    assert len(evidence.runs) == 1
