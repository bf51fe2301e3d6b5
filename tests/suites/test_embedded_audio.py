"""What the embedded audio pair promises: the published report's shape and identities on our own
data, small files.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.support import EMBEDDED, ROOT

from pytest_specdec import load_baseline
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.interleaved import judged_tokens
from pytest_specdec.cases.case import JudgedRange
from pytest_specdec.cases.prompts import read_prompts

KS = (4, 8, 12, 16)
AUDIO = JudgedRange(31, 287, 2)


def stored(k: int) -> Counts:
    return load_baseline(
        ROOT / "baselines" / "audio" / f"audio-draft-k{k}-depth3-t1-ids31-286.json"
    ).as_counts()


@pytest.mark.parametrize("k", KS)
def test_rate_times_k_is_expected_accepted_and_efficiency_is_the_rate(k: int) -> None:
    counts = stored(k)
    assert counts.acceptance_rate * k == pytest.approx(counts.expected_accepted)
    assert counts.efficiency == pytest.approx(counts.acceptance_rate)
    assert counts.expected_accepted == pytest.approx(counts.survival.sum())


def test_the_rate_falls_and_expected_accepted_saturates() -> None:
    rates, accepted = (
        [getattr(stored(k), name) for k in KS] for name in ("acceptance_rate", "expected_accepted")
    )
    assert rates == sorted(rates, reverse=True)
    gains = np.diff(accepted)
    assert (gains > 0).all()
    assert (np.diff(gains) < 0).all()
    assert gains[-1] < 0.6 * gains[0]


def test_the_rates_come_near_the_published_report() -> None:
    assert stored(4).acceptance_rate > 0.75
    assert stored(16).acceptance_rate > 0.30


def test_the_stored_texts_are_steps_of_text_and_audio() -> None:
    texts = json.loads((ROOT / "baselines" / "audio" / "texts" / "t1-n128-s0.json").read_text())[
        "texts"
    ]
    judged = [len(judged_tokens(new, AUDIO)) for new in texts.values()]
    assert len(judged) == 64
    assert sum(judged) >= 0.99 * 64 * 64


def test_files_are_small_and_prompts_are_a_thousand() -> None:
    size = sum(path.stat().st_size for path in EMBEDDED.glob("audio-*/*"))
    assert size <= 10 * 2**20
    prompts = read_prompts(EMBEDDED.parent / "audio" / "prompts.jsonl")
    assert len(prompts) == 1000
    assert {prompt.category for prompt in prompts[:64]} == {
        "home",
        "travel",
        "weather",
        "market",
        "story",
    }
