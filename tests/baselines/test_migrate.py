"""Files of schema 1 become files of schema 2, and say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.records import case, record, text_set

from pytest_specdec.__main__ import main
from pytest_specdec.baselines.evidence_and_tokens import EvidenceFile, TokenMap, TokenRow
from pytest_specdec.baselines.store import (
    BaselineStore,
    current_evidence,
    fingerprint,
    load,
    write_all,
)
from pytest_specdec.baselines.writing import dumps
from pytest_specdec.records.accumulated import AccumulatedRun
from pytest_specdec.records.record import SCHEMA, Record
from pytest_specdec.records.text_set import TextSet

OLD = record(schema=1, seed=None)
TOKENS = TokenMap(
    schema=1, drafter="drafter-1", tokens={"p0": TokenRow(text="text-1-p0", accept="0Z")}
)


def texts(seed: int, schema: int = 1) -> TextSet:
    return text_set(
        schema=schema,
        seed=seed,
        new_tokens=OLD.conditions.new_tokens,
        texts=dict.fromkeys(OLD.counts, (1,)),
    )


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    """A record with texts, tokens and an accumulated run, all of schema 1."""
    baseline_store, old_case = BaselineStore(tmp_path), case(new_tokens=OLD.conditions.new_tokens)
    evidence = EvidenceFile(
        schema=1,
        baseline=fingerprint(OLD),
        runs=(AccumulatedRun(0.5, OLD.fingerprints, OLD.counts),),
    )
    files = {
        baseline_store.record_path(old_case): OLD,
        baseline_store.texts_path(old_case.texts): texts(0),
        baseline_store.evidence_path(old_case): evidence,
    }
    write_all(
        {
            path: dumps(stored)
            for path, stored in {**files, baseline_store.tokens_path(old_case, 0): TOKENS}.items()
        }
    )
    return baseline_store


def test_every_file_is_rewritten_and_says_the_same(
    store: BaselineStore, capsys: pytest.CaptureFixture[str]
) -> None:
    old_case = case(new_tokens=OLD.conditions.new_tokens)
    assert main(["baseline", "migrate", str(store.folder)]) == 0
    assert capsys.readouterr().out == "4 files rewritten as schema 2\n"
    now = store.record(old_case)
    assert now is not None
    assert (now.schema, now.case, now.seed, now.counts) == (SCHEMA, old_case.name, 0, OLD.counts)
    assert store.texts(old_case.texts) == texts(0, SCHEMA)
    assert len(current_evidence(store, old_case, now)) == 1
    before = {path: path.read_text() for path in store.folder.rglob("*.json")}
    assert all('"digest"' in text for text in before.values())
    assert main(["baseline", "migrate", str(store.folder)]) == 0
    assert capsys.readouterr().out == "every file is of schema 2 already\n"
    assert {path: path.read_text() for path in store.folder.rglob("*.json")} == before


def test_a_record_of_a_device_gets_the_name_of_its_case(store: BaselineStore) -> None:
    one = case(new_tokens=OLD.conditions.new_tokens)
    of_device = BaselineStore(store.folder, "cpu-bfloat16")
    write_all({of_device.record_path(one): store.record_path(one).read_text()})
    assert main(["baseline", "migrate", str(store.folder)]) == 0
    now = of_device.record(one)
    assert now is not None
    assert (now.schema, now.case, now.seed) == (SCHEMA, one.name, 0)


def test_a_seed_that_is_a_guess_stays_unknown(store: BaselineStore) -> None:
    old_case = case(new_tokens=OLD.conditions.new_tokens)
    path = store.texts_path(old_case.texts)
    write_all({path.with_name("t1-n512-s1.json"): dumps(texts(1))})
    assert main(["baseline", "migrate", str(store.folder)]) == 0
    now = load(store.record_path(old_case), Record)
    assert now is not None
    assert now.seed is None


def test_nothing_is_written_where_one_file_cannot_be_read(
    store: BaselineStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.folder / "text" / "zz.json").write_text("{")
    before = {path: path.read_text() for path in store.folder.rglob("*.json")}
    assert main(["baseline", "migrate", str(store.folder)]) == 2
    assert "zz.json:1 is truncated or not JSON" in capsys.readouterr().err
    assert {path: path.read_text() for path in store.folder.rglob("*.json")} == before


def test_a_folder_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "migrate", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.endswith("none; name the one that holds the baselines\n")
