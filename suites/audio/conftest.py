"""The fixture `utterance`: the case's first text as sound, attached to the .html report with its
spectrogram and written to the file that --utterance names.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_specdec import Attachment
from suites.audio.sound import Sound
from suites.models.codec import speak

UTTERANCE = pytest.StashKey[tuple[Sound, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("speech", "speech suites")
    group.addoption(
        "--utterance", type=Path, metavar="FILE.wav", help="Write an utterance of the target"
    )


@pytest.fixture
def utterance(request: pytest.FixtureRequest, specdec_texts, specdec_target) -> Sound:
    ids = specdec_texts[0].ids
    sound = Sound.decoded(speak, ids)
    request.node.stash[UTTERANCE] = sound, specdec_target.tokenizer.decode(ids)
    file = request.config.getoption("--utterance", default=None)
    if file is not None:
        file.write_bytes(sound.wav())
    return sound


def pytest_specdec_attachments(item: pytest.Item) -> list[Attachment]:
    if UTTERANCE not in item.stash:
        return []
    sound, tokens = item.stash[UTTERANCE]
    return [
        Attachment(
            title="An utterance of the target",
            media_type="audio/wav",
            content=sound.wav(),
            alternative_text=f"{sound.seconds:.2f} s of speech",
        ),
        Attachment(
            title="Spectrogram: time to the right, frequency upwards",
            media_type="image/png",
            content=sound.png(),
            alternative_text="Spectrogram of the utterance",
        ),
        Attachment(
            title=f"The utterance's {sound.seconds:.2f} s as tokens",
            media_type="text/plain",
            content=tokens.encode(),
        ),
    ]
