"""Decoding as an engine: it counts its own rounds."""

from __future__ import annotations

import dataclasses

import pytest
from helpers.fruit import (
    WORDS,
    decoded,
    decoding,
    grid,
    heads_case,
    lookup_case,
    prompt_ids,
    replayed,
    same,
    with_texts,
)

from pytest_specdec.cases.case import Case
from pytest_specdec.common.errors import MeasurementError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.gate.comparability import incomparable
from pytest_specdec.judging.comparison import Run

DRAFTERS = {"draft": lambda case: case, "heads": heads_case, "lookup": lookup_case}


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_decoding_counts_whole_rounds_of_texts_that_it_does_not_keep(
    case: Case, drafter: str
) -> None:
    (measured,) = decoded(decoding(DRAFTERS[drafter](case)))
    counts = measured.counts
    for array in (counts.rounds, counts.drafted, counts.accepted):
        assert (array == array.round()).all()
    assert (counts.drafted <= counts.rounds[:, None]).all()
    assert (counts.drafted == counts.rounds[:, None]).all() == (drafter != "lookup")
    assert 0 < counts.accepted.sum() < counts.drafted.sum()
    assert counts.categories == ("fruit",) * len(WORDS)
    assert measured.texts is None
    assert set(measured.text_fingerprints) == set(counts.prompts)
    assert len(set(measured.text_fingerprints.values())) == len(WORDS)


def test_each_batch_size_has_the_same_greedy_texts_and_conditions_of_its_own(case: Case) -> None:
    greedy = dataclasses.replace(with_texts(decoding(case), temperature=0.0), rule="greedy")
    runs = [dataclasses.replace(greedy, batch=size) for size in (1, 3, 16)]
    measured = [decoded(run)[0] for run in runs]
    assert len({tuple(one.text_fingerprints.items()) for one in measured}) == 1
    assert len({one.counts.accepted.tobytes() for one in measured}) == 1
    assert [one.times.batch_size for one in measured if one.times] == [1, 3, min(16, len(WORDS))]
    conditions = [
        Run(run, [one], engine="decode").measured.conditions
        for run, one in zip(runs, measured, strict=True)
    ]
    assert [one.batch for one in conditions] == [1, 3, 16]


def test_decoding_takes_time_and_replay_decodes_nothing(case: Case) -> None:
    (measured,) = decoded(decoding(case))
    times = Run(decoding(case), [measured], engine="decode").times
    assert times == measured.times
    assert min(times.draft_ms, times.verify_ms, times.tokens_per_second) > 0
    assert times.batch_size >= 1
    assert replayed(case)[0].times is None


def test_the_seed_decides_what_decoding_counts(case: Case) -> None:
    first, again = (decoded(decoding(case))[0] for _ in range(2))
    other = decoded(decoding(with_texts(case, seed=1)))[0]
    assert first.text_fingerprints == again.text_fingerprints
    assert (first.counts.accepted == again.counts.accepted).all()
    assert (first.counts.rounds == again.counts.rounds).all()
    assert other.counts.prompts == first.counts.prompts
    assert all(
        other.text_fingerprints[key] != first.text_fingerprints[key]
        for key in first.text_fingerprints
    )


def test_a_case_decodes_the_same_alone_and_beside_others(case: Case) -> None:
    cases = [
        decoding(cell)
        for cell in (*grid(case, (4, 0), (4, 2), (2, 0)), heads_case(case), lookup_case(case))
    ]
    for cell, together in zip(cases, decoded(*cases), strict=True):
        (alone,) = decoded(cell)
        assert alone.text_fingerprints == together.text_fingerprints
        assert (alone.counts.accepted == together.counts.accepted).all()


@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block", "typical"])
def test_conditions_say_how_it_was_decoded(case: Case, rule: str) -> None:
    asked = with_texts(decoding(case, rule=rule, depth=2), top_k=5, top_p=0.9, temperature=0.7)
    (measured,) = decoded(asked)
    record = Run(asked, [measured], engine=DecodeEngine.name).record
    conditions = record.conditions
    assert (conditions.engine, conditions.rule, conditions.drafter) == ("decode", rule, "draft")
    assert (conditions.k, conditions.depth) == (4, 2)
    assert (conditions.temperature, conditions.top_k, conditions.top_p) == (0.7, 5, 0.9)
    assert conditions.new_tokens == 24
    assert {key: row.text for key, row in record.counts.items()} == measured.text_fingerprints
    assert record.as_counts().total_rounds == measured.counts.total_rounds


def test_what_was_decoded_is_not_compared_with_what_was_replayed(case: Case) -> None:
    """Same models, same fingerprints, other numbers: one is counted and the other expected."""
    (counted,), (expected,) = decoded(decoding(case)), replayed(case)
    assert counted.fingerprints == expected.fingerprints
    assert (counted.tokenizer, counted.template) == (expected.tokenizer, expected.template)
    now, before = (
        Run(decoding(case), [counted], engine="decode").measured,
        Run(case, [expected], engine="replay").measured,
    )
    assert incomparable(now, before) == ["engine was 'replay' in the baseline and is 'decode'"]


def test_the_measured_rounds_are_those_of_decode_itself(case: Case) -> None:
    asked = with_texts(decoding(case, rule="block", depth=2), top_k=5, seed=3)
    engine = DecodeEngine(ModelPool("cpu"))
    direct = decode(
        case.target,
        case.drafter,
        prompt_ids(),
        k=4,
        depth=2,
        rule="block",
        top_k=5,
        new_tokens=24,
        seed=3,
        batch_size=16,
    )
    measured = engine.measure(asked)
    assert (measured.counts.accepted == direct.counts.accepted).all()
    assert list(measured.text_fingerprints.values()) == [text.fingerprint for text in direct.texts]
    assert same(engine.models.decode(asked, prompt_ids()), direct)


def test_decoding_texts_too_short_for_a_round_is_an_error(case: Case) -> None:
    with pytest.raises(
        MeasurementError,
        match=r"no text is long enough for a round of k=40; raise --specdec-new-tokens",
    ):
        decoded(decoding(case, k=40))


def test_decoding_reports_its_progress(case: Case) -> None:
    seen: list[tuple[str, int, int]] = []
    models = ModelPool("cpu", report=lambda *progress: seen.append(progress))
    DecodeEngine(models).measure(decoding(case))
    loading = [(f"loading tiny-{role}", done, 1) for role in ("target", "draft") for done in (0, 1)]
    assert sorted(seen[:4]) == sorted(loading)
    assert seen[4:] == [
        (f"suite/draft-k4-depth0-t1-decode: {what}", done, len(WORDS))
        for what, done in (("decode", len(WORDS)), ("replay", 0), ("replay", len(WORDS)))
    ]
