"""Cases under logits processors: replay and decode measure them alike, and their texts and records
are never those of other ones.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
from helpers.fruit import decoded, decoding, heads_case, replayed, texts_of, with_texts

from pytest_specdec.baselines.store import BaselineStore, write_all
from pytest_specdec.baselines.writing import dumps
from pytest_specdec.cases.case import Case
from pytest_specdec.cases.processors import ProcessorSpec
from pytest_specdec.common.errors import BaselineError
from pytest_specdec.engines.counting.oracle import agreement
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.gate.comparability import incomparable
from pytest_specdec.judging.comparison import Run

PENALTIES = ProcessorSpec(repetition_penalty=1.4, frequency_penalty=0.3)


@pytest.fixture
def penalised(case: Case) -> Case:
    return with_texts(case, processors=PENALTIES)


def greedy(case: Case) -> Case:
    return dataclasses.replace(with_texts(case, temperature=0.0), rule="greedy")


@pytest.mark.parametrize("of", [lambda case: case, heads_case], ids=["draft", "heads"])
def test_replay_and_decode_measure_the_same(penalised: Case, of) -> None:
    case = greedy(of(penalised))
    (replay,), (decode,) = replayed(case), decoded(decoding(case))
    np.testing.assert_array_equal(replay.counts.accepted, decode.counts.accepted)
    assert replay.text_fingerprints == decode.text_fingerprints
    assert decode.expected is not None
    np.testing.assert_array_equal(decode.expected.accepted, decode.counts.accepted)
    (plain,) = replayed(with_texts(case, processors=None))
    assert plain.text_fingerprints != replay.text_fingerprints


def test_their_texts_are_their_own(penalised: Case, case: Case, tmp_path: Path) -> None:
    texts = texts_of(penalised)
    assert texts.processors == PENALTIES.name
    (measured,) = replayed(penalised, texts=texts)
    assert measured.texts is not None
    assert measured.texts.texts == texts.texts
    plain = msgspec.structs.replace(texts, processors=None)
    (resampled,) = replayed(penalised, texts=plain)
    assert resampled.texts is not None
    assert resampled.texts.processors == PENALTIES.name
    store = BaselineStore(tmp_path)
    assert store.texts_path(penalised.texts) != store.texts_path(case.texts)
    write_all({store.texts_path(penalised.texts): dumps(plain)})
    with pytest.raises(BaselineError, match="texts of other logits processors"):
        store.texts(penalised.texts)


def test_records_under_other_processors_are_never_compared(penalised: Case, case: Case) -> None:
    (now,), (before,) = replayed(penalised), replayed(case)
    run, other = Run(penalised, [now], engine="replay"), Run(case, [before], engine="replay")
    problems = incomparable(run.measured, other.measured)
    assert problems[0] == "processors was None in the baseline and is 'rep1.4-freq0.3'"


def test_the_oracle_replays_under_them(penalised: Case) -> None:
    engine = DecodeEngine(ModelPool("cpu"))
    for case in (decoding(penalised), decoding(greedy(penalised))):
        counted = engine.counted(case)
        target = engine.models.model(case.target)
        found = agreement(counted, target, engine.models.drafting(case), 1e-3)
        assert found.agrees, found.message
        other = dataclasses.replace(counted, case=with_texts(case, processors=None))
        if case.temperature == 0:
            assert not agreement(other, target, engine.models.drafting(case), 1e-3).agrees
