"""An utterance as WAV and as a picture, read back by others."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import wavfile

from suites.audio.sound import Sound

RATE = 16_000


def tone(hertz: float, seconds: float = 0.5) -> Sound:
    return Sound(RATE, 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE))


def unpacked(png: bytes) -> np.ndarray:
    """(rows, columns) of a grey PNG, chunk by chunk."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length]) == (
            zlib.crc32(kind + body),
        )
        parts[kind] = body
        at += 12 + length
    columns, rows, depth, colour = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    assert (depth, colour) == (8, 0)
    return np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(rows, columns + 1)[
        :, 1:
    ]


def test_the_wav_file_holds_the_samples() -> None:
    sound = tone(440)
    rate, samples = wavfile.read(io.BytesIO(sound.wav()))
    assert rate == RATE
    np.testing.assert_allclose(samples / 32767, sound.samples, atol=1e-4)
    assert sound.seconds == 0.5


def test_louder_than_full_scale_is_clipped_not_wrapped() -> None:
    _, samples = wavfile.read(io.BytesIO(Sound(RATE, np.array([2.0, -3.0] * 50)).wav()))
    assert set(samples.tolist()) == {32767, -32767}


@pytest.mark.parametrize("hertz", [500, 2000, 6000])
def test_the_spectrogram_shows_a_tone_at_its_frequency(hertz: float) -> None:
    levels = tone(hertz).spectrogram()
    loudest = levels.mean(1).argmax() / (len(levels) - 1) * RATE / 2
    assert loudest == pytest.approx(hertz, abs=RATE / 2 / (len(levels) - 1))
    assert levels.max() == pytest.approx(0)
    assert levels.min() >= -70


def test_the_picture_is_the_spectrogram_with_high_frequencies_on_top() -> None:
    sound = tone(7000)
    picture = unpacked(sound.png())
    assert picture.shape == sound.spectrogram().shape
    assert picture.mean(1).argmax() < len(picture) // 4
    np.testing.assert_allclose(picture[::-1], (sound.spectrogram() / 70 + 1) * 255, atol=0.51)


def test_silence_is_a_picture_too() -> None:
    assert unpacked(Sound(RATE, np.zeros(100)).png()).size


@pytest.mark.parametrize(
    "samples",
    [
        None,
        3,
        (RATE, []),
        (RATE, [[0.1]]),
        (RATE, [float("nan")]),
        (0, [0.1]),
        (RATE, "sound"),
        (-RATE, [0.1]),
        (None, [0.1]),
        ("fast", [0.1]),
        (0.5, [0.1]),
        (float("nan"), [0.1]),
        (float("inf"), [0.1]),
        (RATE, [[0.1], [0.1, 0.2]]),
        (RATE, [None]),
    ],
)
def test_a_decoder_that_gives_no_sound_is_told_what_to_return(samples: object) -> None:
    with pytest.raises(ValueError, match=r"return \(rate, samples\)"):
        Sound.decoded(lambda ids: samples, [1])  # type: ignore[arg-type, return-value]


def test_a_tensor_with_gradients_is_refused_too() -> None:
    import torch

    with pytest.raises(ValueError, match=r"requires grad.*return \(rate, samples\)"):
        Sound.decoded(lambda ids: (RATE, torch.ones(3, requires_grad=True)), [1])
    assert Sound.decoded(lambda ids: (RATE, torch.ones(3)), [1]).samples.tolist() == [1, 1, 1]


def test_an_error_of_the_decoder_itself_is_its_own() -> None:
    with pytest.raises(ValueError, match=r"^no such code$"):
        Sound.decoded(broken, [1])


def broken(ids: object) -> None:
    raise ValueError("no such code")


@given(
    samples=st.lists(st.floats(-1, 1), min_size=1, max_size=64),
    rate=st.sampled_from([1, 8, 60, 63, 8_000, 22_050, 192_000]),
)
@PROPERTY
def test_any_sound_at_any_rate_is_a_wav_file_and_a_picture(samples: list[float], rate: int) -> None:
    sound = Sound.decoded(lambda ids: (rate, samples), [1])
    read, heard = wavfile.read(io.BytesIO(sound.wav()))
    assert read == rate
    np.testing.assert_allclose(heard / 32767, samples, atol=0.51 / 32767)
    picture = unpacked(sound.png())
    assert picture.size
    assert picture.shape == sound.spectrogram().shape


def test_time_goes_to_the_right() -> None:
    late = Sound(RATE, np.concatenate([np.zeros(RATE), tone(1000, 1.0).samples]))
    picture = unpacked(late.png()).mean(0)
    assert picture[: len(picture) // 2 - 2].max() == 0
    assert picture[len(picture) // 2 + 2 : -2].min() > 0
