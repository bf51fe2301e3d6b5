"""A speech codec of our own: 25 tokens a second, each one of 256 entries of a codebook.

A token stands for 40 ms of sound: two spectra of 32 mel bands (20 ms apart), how voiced it is, and
its pitch. The decoder is a vocoder: harmonics of the pitch and noise, both shaped by the spectra.
Needs numpy, scipy and safetensors only.

    python suites/models/codec.py TOKENS.txt out.wav     # what one text's tokens sound like
"""

from __future__ import annotations

import argparse
import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.io import wavfile

Array = NDArray[np.float64]

RATE = 16_000
TOKEN_SAMPLES = 640
"""40 ms: 25 tokens a second."""
SPECTRA, BANDS = 2, 32
CODES = 256
LETTERS = " .abcdefghijklmnopqrstuvwxyz"
GOING_ON = "~"
"""The text token of a step in which no letter begins."""
SYMBOLS = ("<s>", "</s>", GOING_ON, *LETTERS)
"""The models' vocabulary before the audio tokens, by id."""
FIRST_AUDIO = len(SYMBOLS)
"""Smallest id of an audio token in the models' vocabulary, 31; code 0 has this id, code 255 has
286.
"""
STEP = 80
"""Samples (5 ms) between the vocoder's frames."""

_FOLDER = Path(__file__).parent / "audio-codec"
_WINDOW, _PITCH_WINDOW = 512, 1024
_FLOOR_DB, _SILENCE_DB = -90.0, -75.0
_PITCH_RANGE = (70.0, 330.0)
_WEIGHTS = {"bands": 0.1, "voicing": 3.0, "pitch": 5.0}
"""How much a dB, full voicing and an octave count in the distance between two sounds."""


@functools.cache
def band_centres() -> Array:
    """(BANDS,) centre frequencies in Hz, evenly spaced in mel."""
    return _from_mel(np.linspace(_to_mel(60.0), _to_mel(7600.0), BANDS + 2))[1:-1]


def _to_mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _from_mel(mel: Array) -> Array:
    return 700 * (10 ** (mel / 2595) - 1)


@functools.cache
def _filters() -> Array:
    """(BANDS, bins): triangles of at least 180 Hz, so that single harmonics do not show, each
    summing to one.
    """
    edges = _from_mel(np.linspace(_to_mel(60.0), _to_mel(7600.0), BANDS + 2))
    bins = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    centre = edges[1:-1, None]
    half = np.maximum(np.maximum(edges[2:] - edges[1:-1], edges[1:-1] - edges[:-2]), 180.0)[:, None]
    triangles = np.maximum(0.0, 1 - np.abs(bins - centre) / half)
    return triangles / triangles.sum(1, keepdims=True)


def _frames(samples: Array, width: int, centres: NDArray[np.int64]) -> Array:
    """(centres, width) pieces of the sound around each centre, silence beyond its ends."""
    padded = np.pad(samples, width)
    return padded[centres[:, None] + width // 2 + np.arange(width)]


def features(samples: Array) -> Array:
    """(tokens, SPECTRA * BANDS + 2) of sound between -1 and 1: band levels in dB, voicing 0..1,
    pitch in octaves over 100 Hz.
    """
    tokens = len(samples) // TOKEN_SAMPLES
    hop = TOKEN_SAMPLES // SPECTRA
    centres = np.arange(tokens * SPECTRA) * hop + hop // 2
    window = np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(_frames(samples, _WINDOW, centres) * window)) ** 2 / (
        RATE * (window**2).sum()
    )
    bands = 10 * np.log10(np.maximum(power @ _filters().T, 10 ** (_FLOOR_DB / 10)))
    voicing, pitch = _voicing_and_pitch(
        samples, np.arange(tokens) * TOKEN_SAMPLES + TOKEN_SAMPLES // 2
    )
    return np.concatenate([bands.reshape(tokens, -1), voicing[:, None], pitch[:, None]], axis=1)


def _voicing_and_pitch(samples: Array, centres: NDArray[np.int64]) -> tuple[Array, Array]:
    """The highest peak of the normalised autocorrelation: its height, and its lag as octaves over
    100 Hz (0 if unvoiced).
    """
    window = np.hanning(_PITCH_WINDOW)
    spectra = (
        np.abs(np.fft.rfft(_frames(samples, _PITCH_WINDOW, centres) * window, 2 * _PITCH_WINDOW))
        ** 2
    )
    spectra[:, np.fft.rfftfreq(2 * _PITCH_WINDOW, 1 / RATE) > 1200] = (
        0  # the pitch lies in the low harmonics
    )
    own = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * _PITCH_WINDOW)) ** 2)
    correlation = np.fft.irfft(spectra)
    first, last = (int(RATE / hertz) for hertz in reversed(_PITCH_RANGE))
    lags = np.arange(first, last + 1)
    ratio = correlation[:, lags] / np.maximum(correlation[:, :1], 1e-9) / (own[lags] / own[0])
    best = ratio.argmax(1)
    height = np.clip(ratio[np.arange(len(best)), best], 0.0, 1.0)
    loud = correlation[:, 0] > 1e-3
    voicing = np.where(loud, np.clip((height - 0.4) / 0.45, 0.0, 1.0), 0.0)
    return voicing, np.where(voicing > 0, np.log2(RATE / lags[best] / 100), 0.0)


def weighted(vectors: Array) -> Array:
    """Features in the space where distances count; pitch counts as far as there is voice."""
    bands, voicing, pitch = vectors[:, :-2], vectors[:, -2:-1], vectors[:, -1:]
    parts = (
        _WEIGHTS["bands"] * bands,
        _WEIGHTS["voicing"] * voicing,
        _WEIGHTS["pitch"] * pitch * voicing,
    )
    return np.concatenate(parts, axis=1)


def train_codebook(vectors: Array, seed: int, rounds: int = 30) -> Array:
    """(CODES, dimensions) of features: k-means in the weighted space (Lloyd, from a k-means++
    start).
    """
    from scipy.cluster.vq import kmeans2

    points = weighted(vectors)
    _, labels = kmeans2(points, CODES, iter=rounds, minit="++", rng=np.random.default_rng(seed))
    kept = [np.flatnonzero(labels == code) for code in range(CODES)]
    voiced = vectors[:, -2]
    book = np.stack([vectors[rows].mean(0) if rows.size else vectors[0] for rows in kept])
    weights = [voiced[rows].sum() for rows in kept]
    pitch = [(vectors[rows, -1] * voiced[rows]).sum() for rows in kept]
    book[:, -1] = [
        high / weight if weight > 0 else 0.0 for high, weight in zip(pitch, weights, strict=True)
    ]
    return book


@functools.cache
def codebook() -> Array:
    """The committed codebook."""
    return load_file(_FOLDER / "codebook.safetensors")["codebook"].astype(np.float64)


def save_codebook(book: Array, card: dict[str, object]) -> None:
    """Write the codebook and what is known of it."""
    _FOLDER.mkdir(exist_ok=True)
    save_file({"codebook": book.astype(np.float16)}, _FOLDER / "codebook.safetensors")
    (_FOLDER / "codec.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")


def encode(samples: Array) -> NDArray[np.int64]:
    """(tokens,) codes 0..255 of sound at 16 kHz between -1 and 1; what does not fill a token is
    dropped.
    """
    points, centres = (
        weighted(features(np.asarray(samples, dtype=np.float64))),
        weighted(codebook()),
    )
    distances = (centres**2).sum(1) - 2 * points @ centres.T
    return distances.argmin(1)


def decode(codes: Sequence[int]) -> Array:
    """(640 * tokens,) samples at 16 kHz. Raises ValueError for a code outside 0..255."""
    rows = np.asarray(codes, dtype=np.int64)
    if rows.size == 0 or rows.min() < 0 or rows.max() >= CODES:
        raise ValueError(
            f"codes must be at least one number from 0 to {CODES - 1}; pass those of encode()"
        )
    vectors = codebook()[rows]
    samples = len(rows) * TOKEN_SAMPLES
    frames = np.arange(0, samples, STEP) + STEP / 2
    hop = TOKEN_SAMPLES // SPECTRA
    at = np.arange(len(rows) * SPECTRA) * hop + hop / 2
    bands = vectors[:, :-2].reshape(-1, BANDS)
    levels = np.stack([np.interp(frames, at, bands[:, band]) for band in range(BANDS)], axis=1)
    middle = np.arange(len(rows)) * TOKEN_SAMPLES + TOKEN_SAMPLES / 2
    voicing, pitch = vectors[:, -2], _carried(vectors[:, -1], vectors[:, -2] > 0.2)
    return render(
        levels,
        band_centres(),
        100 * 2 ** np.interp(frames, middle, pitch),
        np.interp(frames, middle, voicing),
    )


def _carried(pitch: Array, voiced: NDArray[np.bool_]) -> Array:
    """Pitch with unvoiced places filled from their voiced neighbours."""
    if not voiced.any():
        return np.zeros_like(pitch)
    places = np.arange(len(pitch))
    return np.interp(places, places[voiced], pitch[voiced])


def render(levels: Array, frequencies: Array, pitch: Array, voicing: Array, seed: int = 0) -> Array:
    """Sound from frames 5 ms apart: harmonics of the pitch and noise under one spectrum.

    `levels` (frames, points) are dB of power density at `frequencies` (points,) in Hz, `pitch`
    (frames,) is in Hz and `voicing` (frames,) the share of the power below 4 kHz that is harmonic;
    above, noise takes over. Returns 80 samples a frame.
    """
    size = len(levels) * STEP
    at, frames = np.arange(size), np.arange(len(levels)) * STEP + STEP / 2
    hertz = np.interp(at, frames, pitch)
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    sound = np.zeros(size)
    for harmonic in range(1, int(7600 / pitch.min()) + 1):
        own = harmonic * pitch
        if own.min() > 7600:
            break
        power = 10 ** (_at(levels, frequencies, own) / 10) * _harmonic_share(voicing, own)
        amplitude = np.sqrt(2 * power * pitch) * (own < 7600)
        # A spread of phases keeps the peaks of the pulses low.
        sound += np.interp(at, frames, amplitude) * np.sin(harmonic * phase + 0.6 * harmonic**2)
    return sound + _noise(levels, frequencies, voicing, size, seed)


def _harmonic_share(voicing: Array, hertz: Array) -> Array:
    return np.clip(voicing, 0, 1) * np.clip((5500 - hertz) / 3000, 0.0, 1.0)


def _at(levels: Array, frequencies: Array, hertz: Array) -> Array:
    """(frames,): each frame's level at a frequency of its own."""
    above = np.clip(np.searchsorted(frequencies, hertz), 1, len(frequencies) - 1)
    low, high = frequencies[above - 1], frequencies[above]
    share = np.clip((hertz - low) / (high - low), 0.0, 1.0)
    rows = np.arange(len(levels))
    return levels[rows, above - 1] * (1 - share) + levels[rows, above] * share


def _noise(levels: Array, frequencies: Array, voicing: Array, size: int, seed: int) -> Array:
    """Seeded white noise, shaped frame by frame (windows of 10 ms, half overlapping)."""
    width = 2 * STEP
    white = np.random.default_rng(seed).standard_normal(size + width)
    pieces = white[np.arange(len(levels))[:, None] * STEP + np.arange(width)]
    bins = np.fft.rfftfreq(width, 1 / RATE)
    gain = np.stack(
        [_at(levels, frequencies, np.full(len(levels), hertz)) for hertz in bins], axis=1
    )
    share = np.stack(
        [1 - _harmonic_share(voicing, np.full(len(levels), hertz)) for hertz in bins], axis=1
    )
    window = np.sin(np.pi * (np.arange(width) + 0.5) / width)
    shaped = (
        np.fft.irfft(
            np.fft.rfft(pieces * window) * np.sqrt(10 ** (gain / 10) * share * RATE / 2), width
        )
        * window
    )
    out = np.zeros(size + width)
    for begin, piece in zip(range(0, size, STEP), shaped, strict=True):
        out[begin : begin + width] += piece
    return out[STEP // 2 : STEP // 2 + size]


def speak(ids: Sequence[int]) -> tuple[int, Array]:
    """(samples a second, samples) of a text of the audio pair: its audio tokens, decoded. Raises
    ValueError without any.
    """
    codes = [token - FIRST_AUDIO for token in ids if FIRST_AUDIO <= token < FIRST_AUDIO + CODES]
    return RATE, decode(codes)


def text_of(ids: Sequence[int]) -> str:
    """What a text of the audio pair says: its letters."""
    first = SYMBOLS.index(LETTERS[0])
    return "".join(SYMBOLS[token] for token in ids if first <= token < FIRST_AUDIO)


def convention(samples: Array) -> dict[str, float]:
    """What tells speech from other sound; at least two seconds of it.

    `syllables`: share of the loudness's modulation from 0.5 to 20 Hz that lies at 2 to 8 Hz, the
    pace of syllables. `voiced`: share of tokens with a pitch. `flow`: distance of neighbouring
    tokens' spectra over that of tokens drawn at random, 1 where each sound is independent of the
    one before and 0 where nothing changes.
    """
    vectors = features(np.asarray(samples, dtype=np.float64))
    bands = np.maximum(vectors[:, :-2], _SILENCE_DB)
    drawn = np.random.default_rng(0).permutation(len(bands))
    spread = _spectral_distance(bands, bands[drawn])
    pieces = np.asarray(samples)[: len(samples) // 160 * 160].reshape(-1, 160)
    loudness = np.sqrt((pieces**2).mean(1)) ** 0.33
    power = np.abs(np.fft.rfft((loudness - loudness.mean()) * np.hanning(len(loudness)))) ** 2
    hertz = np.fft.rfftfreq(len(loudness), 160 / RATE)
    pace, whole = (
        power[(low <= hertz) & (hertz <= high)].sum() for low, high in ((2, 8), (0.5, 20))
    )
    return {
        "syllables": float(pace / max(whole, 1e-12)),
        "voiced": float((vectors[:, -2] > 0.5).mean()),
        "flow": _spectral_distance(bands[1:], bands[:-1]) / max(spread, 1e-12),
    }


def _spectral_distance(one: Array, two: Array) -> float:
    return float(np.sqrt(((one - two) ** 2).mean(1)).mean())


def speech_like(samples: Array) -> bool:
    """Whether a sound has the manner of speech: syllables, voice that comes and goes, sounds that
    flow into one another.

    Each bound lies between what our synthesised speech shows and what noise, random tokens or
    shuffled tokens do.
    """
    if len(samples) < 2 * RATE:
        raise ValueError(f"{len(samples) / RATE:.1f} s are too short to judge; pass at least 2 s")
    shown = convention(samples)
    return shown["syllables"] > 0.35 and 0.25 < shown["voiced"] < 0.85 and 0.3 < shown["flow"] < 0.8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "tokens",
        type=Path,
        help="a file with audio tokens like <a17>, whatever stands between them",
    )
    parser.add_argument("output", type=Path, help="the WAV file to write")
    asked = parser.parse_args()
    codes = [
        int(code) for code in re.findall(r"<a(\d+)>", asked.tokens.read_text(encoding="utf-8"))
    ]
    try:
        sound = decode(codes)
    except ValueError as problem:
        raise SystemExit(f"{asked.tokens}: {problem}") from None
    wavfile.write(asked.output, RATE, np.rint(np.clip(sound, -1, 1) * 32767).astype(np.int16))


if __name__ == "__main__":
    main()
