"""The .wav report: the utterance itself, or one clear message."""

from __future__ import annotations

import base64

import pytest
from helpers.records import row

from pytest_specdec.common.errors import RequestError
from pytest_specdec.report import render


def spoken(wav: bytes) -> dict[str, object]:
    return {"text": "h", "seconds": 1.0, "wav": base64.b64encode(wav).decode(), "spectrogram": ""}


def test_the_first_case_with_an_utterance_is_heard() -> None:
    rows = [
        row(id="b", utterance=spoken(b"two")),
        row(id="a"),
        row(id="a2", utterance=spoken(b"one")),
    ]
    assert render(".wav", rows) == b"one"


def test_without_an_utterance_the_fixture_is_named() -> None:
    with pytest.raises(
        RequestError,
        match=r"no test made an utterance .* select one that uses the fixture specdec_speech",
    ):
        render(".wav", [row()])


def test_a_case_that_could_not_be_measured_can_be_heard() -> None:
    assert render(".wav", [row(verdict="error", rounds=None, utterance=spoken(b"one"))]) == b"one"
