"""Which stored files no case would read or write."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from helpers.records import case, record, text_set

from pytest_specdec.baselines.evidence_and_tokens import EvidenceFile, TokenMap
from pytest_specdec.baselines.stale import stale_files
from pytest_specdec.baselines.store import BaselineStore, write_all
from pytest_specdec.baselines.writing import dumps
from pytest_specdec.cases.case import Case, JudgedRange
from pytest_specdec.records.record import SCHEMA

CASES = (case(k=4), case(k=8, depth=1))
EVIDENCE = EvidenceFile(schema=SCHEMA, baseline="x", runs=())
TOKENS = TokenMap(schema=SCHEMA, drafter="x", tokens={})


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    """All that the cases store, and nothing else."""
    baseline_store = BaselineStore(tmp_path)
    files = {baseline_store.record_path(stored_case): dumps(record()) for stored_case in CASES}
    files |= {
        baseline_store.evidence_path(stored_case): dumps(
            EvidenceFile(schema=SCHEMA, baseline="x", runs=())
        )
        for stored_case in CASES
    }
    files |= {
        baseline_store.tokens_path(stored_case, head): dumps(
            TokenMap(schema=SCHEMA, drafter="x", tokens={})
        )
        for stored_case in CASES
        for head in range(stored_case.heads)
    }
    files |= {
        baseline_store.texts_path(stored_case.texts): dumps(text_set()) for stored_case in CASES
    }
    write_all(files)
    return baseline_store


def names(
    store: BaselineStore, cases: tuple[Case, ...] = CASES, engine: str = "replay"
) -> list[str]:
    return [str(path.relative_to(store.folder)) for path in stale_files(cases, store, engine)]


def test_what_the_cases_store_is_not_stale(store: BaselineStore) -> None:
    assert names(store) == []


def test_all_that_belongs_to_a_case_that_is_gone_is(store: BaselineStore) -> None:
    assert names(store, CASES[:1]) == [
        "text/draft-k8-depth1-t1.json",
        "text/evidence/draft-k8-depth1-t1.json",
        "text/tokens/draft-head1-t1-n64-s0.json",
    ]


def test_other_engines_suites_and_unreadable_files_stay(store: BaselineStore) -> None:
    decode = record(engine="decode")
    write_all(
        {
            store.folder / "text" / "draft-k2-depth0-t1-decode.json": dumps(decode),
            store.folder / "text" / "damaged.json": "{",
            store.folder / "chat" / "draft-k2-depth0-t1.json": dumps(record()),
        }
    )
    assert names(store) == []
    assert names(store, engine="decode") == ["text/draft-k2-depth0-t1-decode.json"]


def test_texts_of_a_baselines_repeats_stay_and_those_of_other_seeds_go(
    store: BaselineStore,
) -> None:
    first = CASES[0]
    again = msgspec.structs.replace(record(), repeats=2, again=(record().counts,))
    texts = {
        store.folder / "text" / "texts" / f"t1-n64-s{seed}.json": dumps(text_set())
        for seed in (1, 2)
    }
    write_all({store.record_path(first): dumps(again), **texts})
    assert names(store) == ["text/texts/t1-n64-s2.json"]


def test_repeats_that_are_asked_for_keep_their_texts(store: BaselineStore) -> None:
    seeds = {seed: store.folder / "text" / "texts" / f"t1-n64-s{seed}.json" for seed in (1, 2)}
    write_all(dict.fromkeys(seeds.values(), dumps(text_set())))
    assert stale_files(CASES, store, "replay", repeats=3) == []
    assert stale_files(CASES, store, "replay", repeats=2) == [seeds[2]]


def test_evidence_without_a_record_is_stale(store: BaselineStore) -> None:
    write_all(
        {
            store.folder / "text" / "evidence" / "gone.json": dumps(
                EvidenceFile(schema=SCHEMA, baseline="x", runs=())
            )
        }
    )
    assert names(store) == ["text/evidence/gone.json"]


def test_unreadable_texts_and_tokens_stay(store: BaselineStore) -> None:
    write_all(
        {
            store.folder / "text" / name / "damaged.json": "<<<<<<< ours"
            for name in ("texts", "tokens")
        }
    )
    assert names(store) == []


def test_judged_tokens_are_stale_without_their_case_and_plain_ones_are_not(
    store: BaselineStore,
) -> None:
    judged = case(k=8, depth=3, judged=JudgedRange(4, 8, 2))
    tokens = {
        store.tokens_path(judged, head): dumps(TokenMap(schema=SCHEMA, drafter="x", tokens={}))
        for head in range(judged.heads)
    }
    write_all({store.record_path(judged): dumps(record(judged="4:8:2")), **tokens})
    assert names(store, (*CASES, judged)) == []
    assert names(store) == [
        "text/draft-k8-depth3-t1-ids4-7.json",
        "text/tokens/draft-head0-t1-n64-s0-ids4-7.json",
        "text/tokens/draft-head1-t1-n64-s0-ids4-7.json",
    ]


def test_files_of_other_devices_are_left_to_their_sessions(store: BaselineStore) -> None:
    """Of a case that is gone, a session deletes what its own device and all devices have."""
    gone = case(k=2)
    stores = [BaselineStore(store.folder, device) for device in ("cpu-bfloat16", "cuda-float32")]
    for place in stores:
        write_all(
            {
                path: content
                for one in (*CASES, gone)
                for path, content in (
                    (place.record_path(one), dumps(record())),
                    (place.evidence_path(one), dumps(EVIDENCE)),
                    (place.tokens_path(one, 0), dumps(TOKENS)),
                )
            }
        )
        write_all({place.folder / "text/tokens" / "gone@cpu-bfloat16.json": dumps(TOKENS)})
    write_all({store.record_path(gone): dumps(record())})
    assert names(store) == ["text/draft-k2-depth0-t1.json"]
    assert names(stores[0]) == [
        "text/draft-k2-depth0-t1.json",
        "text/draft-k2-depth0-t1@cpu-bfloat16.json",
        "text/evidence/draft-k2-depth0-t1@cpu-bfloat16.json",
        "text/tokens/gone@cpu-bfloat16.json",
    ]


def test_evidence_against_the_shared_baseline_of_a_living_case_stays(store: BaselineStore) -> None:
    of_device = BaselineStore(store.folder, "cpu-bfloat16")
    write_all({of_device.evidence_path(CASES[0]): dumps(EVIDENCE)})
    write_all({of_device.evidence_path(case(k=2)): dumps(EVIDENCE)})
    assert names(of_device) == ["text/evidence/draft-k2-depth0-t1@cpu-bfloat16.json"]
    assert names(store) == []


def test_texts_that_another_device_repeats_stay(store: BaselineStore) -> None:
    other = BaselineStore(store.folder, "cuda-bfloat16")
    again = msgspec.structs.replace(record(), repeats=2, again=(record().counts,))
    seeds = {seed: store.folder / "text" / "texts" / f"t1-n64-s{seed}.json" for seed in (1, 2)}
    write_all({other.record_path(CASES[0]): dumps(again)})
    write_all(dict.fromkeys(seeds.values(), dumps(text_set())))
    assert names(store) == ["text/texts/t1-n64-s2.json"]
