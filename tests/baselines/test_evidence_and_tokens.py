"""The stored forms: canonical text, and what makes a stored record unusable."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.records import ENVIRONMENT, PROPERTY, counts, record, steady_counts, text_set
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.baselines.evidence_and_tokens import EvidenceFile, TokenMap, TokenRow
from pytest_specdec.baselines.store import load
from pytest_specdec.baselines.writing import dumps
from pytest_specdec.records.accumulated import AccumulatedRun
from pytest_specdec.records.conditions import Environment
from pytest_specdec.records.measured import MeasuredRun
from pytest_specdec.records.prompt_counts import PromptCounts, PromptRows, rows_of_run
from pytest_specdec.records.record import SCHEMA, Record
from pytest_specdec.records.text_set import TextSet


def stored_rows(of: Counts, texts: Mapping[str, str]) -> PromptRows:
    """Counts as they are stored."""
    return rows_of_run(MeasuredRun(counts=of, text_fingerprints=texts).rounded())


def shuffled(stored: Any, field: str) -> Any:
    """The same record or texts with the rows in another order."""
    return msgspec.structs.replace(
        stored, **{field: dict(reversed(getattr(stored, field).items()))}
    )


def with_row(**changes: Any) -> Record:
    """A record of one prompt with k = 3."""
    row = PromptCounts(category="all", text="t", rounds=10.0, accepted=(8.0, 6.0, 4.0))
    return record(counts={"p0": msgspec.structs.replace(row, **changes)})


@pytest.mark.parametrize(
    ("stored", "field"), [(record(), "counts"), (text_set(), "texts")], ids=["record", "texts"]
)
def test_text_is_canonical(stored: Record | TextSet, field: str) -> None:
    text = dumps(stored)
    data = json.loads(text)
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")
    names = [name for name in data if name != field]
    assert names == sorted(names)
    assert list(data[field]) == sorted(data[field])
    assert text == dumps(shuffled(stored, field))


@pytest.mark.parametrize(
    ("stored", "field"), [(record(), "counts"), (text_set(), "texts")], ids=["record", "texts"]
)
def test_each_prompt_has_a_line_of_its_own(stored: Record | TextSet, field: str) -> None:
    lines = dumps(stored).splitlines()
    for key, value in json.loads(dumps(stored))[field].items():
        (line,) = [line for line in lines if line.strip().startswith(f'"{key}":')]
        assert json.loads("{" + line.rstrip(",") + "}") == {key: value}


def test_one_changed_prompt_is_a_diff_of_its_line_and_the_digest() -> None:
    before, after = steady_counts(), steady_counts()
    after.accepted[3] += 1
    pairs = zip(dumps(record(before)).splitlines(), dumps(record(after)).splitlines(), strict=True)
    assert [old.split(":")[0].strip() for old, new in pairs if old != new] == ['"digest"', '"p3"']


def test_a_record_that_drafted_k_tokens_a_round_stores_no_drafted() -> None:
    assert '"drafted"' not in dumps(record())
    assert '"drafted": [9' in dumps(with_row(drafted=(9.0, 8.0, 7.0)))


def test_whole_counts_are_stored_as_integers() -> None:
    text = dumps(record(counts([10, 2.5], [[8, 4], [1.25, 0]])))
    assert '"accepted": [8, 4], "category": "all", "rounds": 10,' in text
    assert '"accepted": [1.25, 0], "category": "all", "rounds": 2.5,' in text


def test_counts_are_stored_to_a_millionth_of_a_token() -> None:
    rows = stored_rows(counts([3 + 1e-7], [[2 + 1e-8, 1 / 3]]), {"p0": "a"})
    assert rows["p0"] == PromptCounts(category="all", text="a", rounds=3, accepted=(2, 0.333333))


@st.composite
def measured(draw: st.DrawFn) -> Counts:
    rounds = draw(st.lists(st.floats(0, 1e4), min_size=1, max_size=5))
    accepted = [
        sorted(draw(st.lists(st.floats(0, number), min_size=3, max_size=3)), reverse=True)
        for number in rounds
    ]
    drafted = [[number * draw(st.sampled_from([1.0, 0.5])) for _ in range(3)] for number in rounds]
    return counts(rounds, accepted, drafted=drafted)


@given(measured())
@PROPERTY
def test_stored_counts_come_back_as_they_were(of: Counts) -> None:
    stored = record(counts=stored_rows(of, dict.fromkeys(of.prompts, "text")))
    back = stored.as_counts()
    assert (back.prompts, back.categories, back.k) == (of.prompts, of.categories, of.k)
    for name in ("rounds", "drafted", "accepted"):
        assert_allclose(getattr(back, name), getattr(of, name), atol=5.1e-7)


def test_what_whole_requests_took_is_stored_and_read_back() -> None:
    of = dataclasses.replace(
        counts([3, 4], [[2], [2]]), emitted=np.array([5.0, 6.0]), passes=np.array([3.25, 4.0])
    )
    rows = stored_rows(of, {"p0": "a", "p1": "b"})
    assert [(row.tokens, row.passes) for row in rows.values()] == [(6, 3.25), (7, 4.0)]
    back = record(counts=rows, k=1).as_counts()
    assert back.request_length == of.request_length == 11 / 7.25
    bare = msgspec.structs.replace(rows["p0"], tokens=None, passes=None)
    assert np.isnan(record(counts={**rows, "p0": bare}, k=1).as_counts().request_length)


def test_a_record_from_before_requests_were_kept_is_the_same_measurement() -> None:
    before = steady_counts()
    now = dataclasses.replace(
        before, emitted=before.rounds + before.accepted.sum(1), passes=before.rounds
    )
    rows = stored_rows(now, {key: f"text-1-{key}" for key in before.prompts})
    assert record(before).repeated_by(record(counts=rows))
    moved = {
        key: msgspec.structs.replace(row, passes=(row.passes or 0.0) + 1)
        for key, row in rows.items()
    }
    assert not record(counts=rows).repeated_by(record(counts=moved))


def test_prompts_are_stored_sorted_with_their_own_numbers() -> None:
    rows = stored_rows(
        counts([1, 2], [[1], [2]], prompts=["z", "a"], categories=["prose", "code"]),
        {"a": "ta", "z": "tz"},
    )
    assert list(rows) == ["a", "z"]
    assert rows["a"] == PromptCounts(category="code", text="ta", rounds=2, accepted=(2,))


def test_environments_differ_field_by_field() -> None:
    now = msgspec.structs.replace(ENVIRONMENT, device="cuda", threads=4)
    assert now.differences(ENVIRONMENT) == ("device: cpu -> cuda", "threads: 1 -> 4")
    assert Environment(**msgspec.structs.asdict(now)).differences(now) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "other"},
        {"tokenizer": "other"},
        {"template": "t"},
        {"new_tokens": 4},
        {"temperature": 0.5},
        {"seed": 1},
    ],
)
def test_texts_of_other_settings_do_not_fit(changes: dict[str, Any]) -> None:
    assert not text_set(**changes).fits(text_set())


def test_texts_of_other_prompts_fit() -> None:
    assert text_set(texts={"p7": (9,)}).fits(text_set())


def test_as_counts_follows_the_stored_order() -> None:
    back = with_row(drafted=(10.0, 9.0, 8.0)).as_counts()
    assert back.drafted.tolist() == [[10, 9, 8]]
    assert np.isclose(back.expected_accepted, 1.8)


def test_evidence_is_written_one_prompt_a_line_and_read_back(tmp_path: Path) -> None:
    run = AccumulatedRun(0.25, record().fingerprints, record().counts)
    stored = EvidenceFile(schema=SCHEMA, baseline="baseline", runs=(run, run))
    text = dumps(stored)
    assert text.count('"category"') == 24
    assert max(line.count('"category"') for line in text.splitlines()) == 1
    path = tmp_path / "evidence.json"
    path.write_text(text)
    assert load(path, EvidenceFile) == stored


def test_acceptance_by_token_is_written_one_prompt_a_line_and_read_back(tmp_path: Path) -> None:
    stored = TokenMap(
        schema=SCHEMA,
        drafter="drafter",
        tokens={"p1": TokenRow("text", "0-Z"), "p0": TokenRow("text", "")},
    )
    path = tmp_path / "tokens.json"
    path.write_text(dumps(stored))
    assert load(path, TokenMap) == stored
    assert [line.split('"')[1] for line in path.read_text().splitlines() if "accept" in line] == [
        "p0",
        "p1",
    ]


def test_records_that_judge_every_token_are_written_as_before() -> None:
    """Stored baselines did not change when judged tokens came."""
    assert '"judged"' not in dumps(record())
    assert json.loads(dumps(record(judged="41:297:2")))["conditions"]["judged"] == "41:297:2"


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({}, True),
        ({"threads": 7, "torch": "3.0"}, True),
        ({"drafter": "other"}, False),
        ({"repeats": 2}, False),
        ({"text": "text-2"}, False),
    ],
)
def test_the_same_measurement_again_may_come_from_elsewhere(
    changes: dict[str, Any], again: bool
) -> None:
    assert record().repeated_by(record(**changes)) is again


@pytest.mark.parametrize(("by", "again"), [(1e-5, True), (0.01, False)])
def test_the_same_measurement_again_differs_in_last_digits_alone(by: float, again: bool) -> None:
    before = steady_counts()
    moved = Counts(
        before.prompts, before.categories, before.rounds + by, before.drafted + by, before.accepted
    )
    assert record(before).repeated_by(record(moved)) is again
    assert not record(before).repeated_by(
        record(before.select(list(range(1, len(before.prompts)))))
    )
