"""How much of the sound the codec keeps: encode, decode, and compare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

try:
    from .codec import Array, codebook, decode, encode, features
except ImportError:  # a script of this folder runs
    from codec import Array, codebook, decode, encode, features

_FLOOR_DB = -80.0
"""Levels below count as silence."""


def distances(one: Array, two: Array) -> Array:
    """(tokens,) log-spectral distance in dB: the root of the mean square over the bands of two
    feature arrays.
    """
    bands = [np.maximum(vectors[:, :-2], _FLOOR_DB) for vectors in (one, two)]
    return np.sqrt(((bands[0] - bands[1]) ** 2).mean(1))


def round_trip(sounds: Sequence[Array]) -> dict[str, float]:
    """Figures of the round trip, with what a random token of the same speech and the mean spectrum
    would give beside it.
    """
    before = np.concatenate([features(sound) for sound in sounds])
    codes = [encode(sound) for sound in sounds]
    again = [decode(own) for own in codes]
    after = np.concatenate([features(sound) for sound in again])
    flat = np.concatenate(codes)
    own, shuffled = distances(before, after), codebook()[np.random.default_rng(0).permutation(flat)]
    voiced = before[:, -2] > 0.5, after[:, -2] > 0.5
    pitch = np.abs(before[:, -1] - after[:, -1])[voiced[0] & voiced[1]]
    figures = {
        "distance_db": own.mean(),
        "distance_db_95_percent": np.percentile(own, 95),
        "quantiser_alone_db": distances(before, codebook()[flat]).mean(),
        "random_token_db": distances(before, shuffled).mean(),
        "mean_spectrum_db": distances(before, np.tile(before.mean(0), (len(before), 1))).mean(),
        "same_token_when_encoded_again": np.mean(
            np.concatenate([encode(sound) for sound in again]) == flat
        ),
        "voicing_kept": np.mean(voiced[0] == voiced[1]),
        "pitch_error_octaves": np.median(pitch),
        "tokens": len(flat),
        "entropy_bits": _entropy(flat),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


def _entropy(codes: NDArray[np.int64]) -> float:
    share = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(-(share * np.log2(share)).sum())
