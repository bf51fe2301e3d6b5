"""The codec's round trip, and how it stands alone."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import codec
import numpy as np
import pytest
from helpers.support import EMBEDDED, ROOT
from roundtrip import round_trip
from scipy.io import wavfile
from sentences import CATEGORIES, monologue
from speech import Speaker, synthesise


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    """Half a minute of speech that the codebook was not trained on."""
    rng = random.Random(99)
    return [
        synthesise(monologue(kind, 2, rng), Speaker.random(rng), rng).samples for kind in CATEGORIES
    ]


def test_the_round_trip_keeps_the_sound(sounds: list[np.ndarray]) -> None:
    kept = round_trip(sounds)
    assert kept["distance_db"] < 3.2
    assert kept["distance_db_95_percent"] < 6
    assert kept["mean_spectrum_db"] > 2 * kept["distance_db"]
    assert kept["random_token_db"] > 3 * kept["distance_db"]
    assert kept["same_token_when_encoded_again"] > 0.6
    assert kept["voicing_kept"] > 0.85
    assert kept["pitch_error_octaves"] < 0.15


def test_the_card_says_so() -> None:
    card = json.loads((EMBEDDED / "audio-codec" / "codec.json").read_text())
    assert (card["codes"], card["rate"], card["samples_per_token"]) == (
        codec.CODES,
        codec.RATE,
        codec.TOKEN_SAMPLES,
    )
    assert card["round_trip"]["distance_db"] < 2.6
    assert card["round_trip"]["entropy_bits"] > 6, "of 8: the codebook is used"


def test_the_codebook_is_small_and_finite() -> None:
    assert codec.codebook().shape == (codec.CODES, codec.SPECTRA * codec.BANDS + 2)
    assert np.isfinite(codec.codebook()).all()
    assert sum(path.stat().st_size for path in (EMBEDDED / "audio-codec").iterdir()) < 100_000


def test_a_pitch_is_found_and_given_back() -> None:
    hertz, at = 150.0, np.arange(codec.RATE) / codec.RATE
    tone = sum(
        0.1 / harmonic * np.sin(2 * np.pi * hertz * harmonic * at) for harmonic in range(1, 20)
    )
    measured = codec.features(tone)[2:-2]
    np.testing.assert_allclose(measured[:, -1], np.log2(hertz / 100), atol=0.02)
    assert (measured[:, -2] > 0.9).all()


def test_a_louder_sound_has_higher_levels(sounds: list[np.ndarray]) -> None:
    bands = [codec.features(gain * sounds[0])[:, :-2] for gain in (1.0, 2.0)]
    loud = bands[0] > -70
    np.testing.assert_allclose((bands[1] - bands[0])[loud], 20 * np.log10(2), atol=0.01)


def test_decoding_is_deterministic_and_as_long_as_its_codes() -> None:
    codes = list(np.random.default_rng(1).integers(0, codec.CODES, 50))
    decoded = codec.decode(codes)
    assert decoded.shape == (50 * codec.TOKEN_SAMPLES,)
    np.testing.assert_array_equal(decoded, codec.decode(codes))


def test_nothing_clicks_where_tokens_meet(sounds: list[np.ndarray]) -> None:
    decoded = np.concatenate([codec.decode(codec.encode(sound)) for sound in sounds])
    jumps = np.abs(np.diff(decoded, 2))
    borders = np.arange(codec.TOKEN_SAMPLES, len(decoded) - 2, codec.TOKEN_SAMPLES)
    elsewhere = borders[:-1] + codec.TOKEN_SAMPLES // 2
    assert jumps[borders - 1].mean() < 1.2 * jumps[elsewhere].mean()


def test_speak_takes_the_audio_tokens_of_a_stream() -> None:
    rate, samples = codec.speak([0, 4, codec.FIRST_AUDIO + 7, 2, codec.FIRST_AUDIO + 9, 5])
    assert rate == codec.RATE == 16_000
    np.testing.assert_array_equal(samples, codec.decode([7, 9]))
    assert codec.text_of([0, 12, 31, 2, 40, 13, 31, 3, 31, 4]) == "hi ."


@pytest.mark.parametrize("codes", [[], [256], [-1]])
def test_codes_out_of_range_are_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match="from 0 to 255; pass those of encode"):
        codec.decode(codes)


def test_speech_is_distinguished_from_other_sound(sounds: list[np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    for sound in sounds[:3]:
        codes = codec.encode(sound)
        assert codec.speech_like(codec.decode(codes))
        assert not codec.speech_like(codec.decode(rng.permutation(codes))), (
            "the same tokens, shuffled"
        )
        assert not codec.speech_like(codec.decode(rng.integers(0, codec.CODES, len(codes))))
        assert not codec.speech_like(codec.decode(np.repeat(codes, 4))), "four times too slow"
        assert not codec.speech_like(0.1 * rng.standard_normal(len(sound)))
        assert not codec.speech_like(np.zeros(len(sound)))
    with pytest.raises(ValueError, match=r"0\.5 s are too short to judge; pass at least 2 s"):
        codec.speech_like(np.zeros(8000))


def test_it_stands_alone_without_torch() -> None:
    code = (
        "import sys; from suites.models.codec import speak; speak([31]); print('torch' in "
        "sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_command_line_writes_a_wav(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("h<a12>~<a40>i<a200>")
    command = [
        sys.executable,
        str(EMBEDDED / "codec.py"),
        str(tmp_path / "tokens.txt"),
        str(tmp_path / "out.wav"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    rate, samples = wavfile.read(tmp_path / "out.wav")
    assert (rate, samples.shape) == (16_000, (3 * codec.TOKEN_SAMPLES,))
    (tmp_path / "tokens.txt").write_text("nothing")
    failed = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "pass those of encode()" in failed.stderr
    assert "Traceback" not in failed.stderr
