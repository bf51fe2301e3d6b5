"""A formant synthesiser: lower-case English-like text to sound at 16 kHz, and when each letter
begins.

Letters become phonemes by a small table of digraphs and letters; a phoneme is a target for three
formants, voice and noise, held for its time. Targets are smoothed into one another
(coarticulation), the pitch falls along a sentence and rises on its words, and every speaker has a
pitch, a vocal tract and a tempo. The vocoder of `codec.py` makes the sound.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter1d

try:
    from .codec import LETTERS, RATE, STEP, Array, render
except ImportError:  # a script of this folder runs
    from codec import LETTERS, RATE, STEP, Array, render

FRAME_MS = 1000 * STEP / RATE
GRID = np.linspace(0.0, 7600.0, 96)
_HIGH_FORMANTS = (3500.0, 4500.0, 5600.0)
_SILENT = -95.0


@dataclasses.dataclass(frozen=True)
class Phoneme:
    """A target: formants in Hz, levels of voice and noise in dB (None: without), noise as (centre,
    width) in Hz.
    """

    ms: float
    formants: tuple[float, float, float]
    voice: float | None = None
    noise: float | None = None
    band: tuple[float, float] = (2500.0, 4000.0)
    burst_ms: float = 0.0
    """Where not 0, a closure and then a burst of so long."""


def _vowel(first: float, second: float, third: float, ms: float = 105) -> Phoneme:
    return Phoneme(ms, (first, second, third), voice=0.0)


def _stop(locus: float, centre: float, width: float, voice: float | None) -> Phoneme:
    return Phoneme(75, (300.0, locus, 2500.0), voice, -16.0, (centre, width), burst_ms=20)


_NEUTRAL = (500.0, 1500.0, 2500.0)
PHONEMES = {
    "a": _vowel(660, 1720, 2410),
    "e": _vowel(530, 1840, 2480, 90),
    "i": _vowel(390, 1990, 2550, 85),
    "o": _vowel(730, 1090, 2440),
    "u": _vowel(640, 1190, 2390, 90),
    "ee": _vowel(270, 2290, 3010, 125),
    "oo": _vowel(300, 870, 2240, 125),
    "or": _vowel(570, 840, 2410, 130),
    "er": _vowel(490, 1350, 1690, 115),
    "ai": _vowel(430, 2050, 2650, 135),
    "ow": _vowel(450, 880, 2350, 135),
    "ar": _vowel(710, 1150, 2300, 130),
    "m": Phoneme(75, (250, 1100, 2200), -9),
    "n": Phoneme(70, (250, 1600, 2600), -9),
    "ng": Phoneme(85, (250, 2000, 2700), -10),
    "l": Phoneme(70, (360, 1100, 2600), -5),
    "r": Phoneme(75, (330, 1200, 1600), -5),
    "w": Phoneme(70, (290, 650, 2200), -6),
    "y": Phoneme(65, (260, 2250, 3000), -6),
    "s": Phoneme(105, (320, 1700, 2600), None, -11, (5600, 1700)),
    "sh": Phoneme(110, (320, 1900, 2600), None, -9, (3300, 1300)),
    "f": Phoneme(95, (320, 1100, 2400), None, -22, (4500, 4000)),
    "th": Phoneme(85, (320, 1400, 2500), None, -23, (6000, 3500)),
    "h": Phoneme(65, _NEUTRAL, None, -17, (1500, 1800)),
    "v": Phoneme(70, (300, 1100, 2400), -12, -27, (4500, 4000)),
    "z": Phoneme(85, (300, 1700, 2600), -13, -18, (5600, 1700)),
    "ch": Phoneme(115, (320, 1900, 2600), None, -9, (3500, 1500), 65),
    "j": Phoneme(95, (300, 1900, 2600), -16, -14, (3300, 1500), 40),
    "p": _stop(900, 900, 1200, None),
    "t": _stop(1800, 4500, 2200, None),
    "k": _stop(2000, 1900, 1000, None),
    "b": _stop(900, 700, 900, -18),
    "d": _stop(1800, 4000, 2200, -18),
    "g": _stop(2000, 1800, 1000, -18),
    " ": Phoneme(45, _NEUTRAL),
    ".": Phoneme(240, _NEUTRAL),
}
_SPELLINGS = {
    "th": "th",
    "sh": "sh",
    "ch": "ch",
    "ng": "ng",
    "ee": "ee",
    "ea": "ee",
    "oo": "oo",
    "ou": "ow",
    "ow": "ow",
    "ai": "ai",
    "ay": "ai",
    "er": "er",
    "ir": "er",
    "or": "or",
    "ar": "ar",
    "ck": "k",
    "ll": "l",
    "ss": "s",
    "tt": "t",
    "wh": "w",
    "c": "k",
    "q": "k",
    "x": "s",
}


@dataclasses.dataclass(frozen=True)
class Speaker:
    """How somebody speaks."""

    pitch: float
    """Hz at a sentence's middle."""
    tract: float
    """Factor on all formants."""
    tempo: float
    """Factor on all durations."""
    loudness: float
    """dB."""

    @classmethod
    def random(cls, rng: random.Random) -> Speaker:
        low = rng.random() < 0.5
        pitch = rng.gauss(112, 5) if low else rng.gauss(196, 8)
        return cls(
            pitch, rng.gauss(1.0 if low else 1.13, 0.015), rng.uniform(0.9, 1.1), rng.uniform(-2, 2)
        )


@dataclasses.dataclass(frozen=True)
class Utterance:
    """Sound between -1 and 1, and the second at which each letter of the text begins."""

    text: str
    samples: Array
    starts: tuple[float, ...]


def spelled(text: str) -> Iterator[tuple[str, str]]:
    """(letters, phoneme) pieces of a text; a silent final e has no phoneme. Raises ValueError for
    an unknown character.
    """
    at = 0
    while at < len(text):
        pair, letter = text[at : at + 2], text[at]
        if letter not in LETTERS:
            raise ValueError(
                f"{letter!r} cannot be spoken; use lower-case letters, spaces and full stops"
            )
        ends = at + 1 == len(text) or text[at + 1] in " ."
        vowels_before = any(before in "aeiou" for before in text[:at].split(" ")[-1])
        if letter == "e" and ends and vowels_before:
            yield letter, ""
        elif len(pair) == 2 and pair in _SPELLINGS:
            yield pair, _SPELLINGS[pair]
            at += 1
        else:
            yield letter, _SPELLINGS.get(letter, letter)
        at += 1


def synthesise(text: str, speaker: Speaker, rng: random.Random) -> Utterance:
    """Speak a text. The same speaker and generator state give the same sound. Raises ValueError for
    unknown characters.
    """
    pieces = list(spelled(text))
    targets, starts, frame = [], [], 0
    for letters, name in pieces:
        count = 0
        if name:
            phoneme = PHONEMES[name]
            count = max(3, round(phoneme.ms * speaker.tempo * rng.gauss(1, 0.08) / FRAME_MS))
            targets.append((phoneme, count, rng.gauss(0, 0.8)))
        starts += [
            (frame + number * count / len(letters)) * FRAME_MS / 1000
            for number in range(len(letters))
        ]
        frame += count
    pitch = _melody(pieces, targets, speaker, rng)
    levels, voicing = _spectra(targets, speaker)
    return Utterance(
        text, render(levels, GRID, pitch, voicing, seed=rng.getrandbits(32)), tuple(starts)
    )


def _melody(
    pieces: list[tuple[str, str]],
    targets: list[tuple[Phoneme, int, float]],
    speaker: Speaker,
    rng: random.Random,
) -> Array:
    """(frames,) in Hz: falls by a quarter along each sentence, and rises by a tone or so on each
    word's first vowel.
    """
    names = [name for _, name in pieces if name]
    contour, level, accent = [], 0.0, 0.0
    for name, (_, count, _) in zip(names, targets, strict=True):
        if name == ".":
            level = 0.0
        if name == " ":
            accent = rng.choice((0.0, 0.06, 0.12))
        level -= 0.0025 * count * FRAME_MS / 10
        shown = accent if name[0] in "aeiou" else accent / 2
        contour += [max(level, -0.4) + 0.12 + shown] * count
    return np.asarray(speaker.pitch * 2.0 ** gaussian_filter1d(np.array(contour), 8))


def _spectra(targets: list[tuple[Phoneme, int, float]], speaker: Speaker) -> tuple[Array, Array]:
    """(frames, grid) levels in dB and (frames,) voicing."""
    rows = [row for target in targets for row in _rows(*target)]
    moving = gaussian_filter1d(np.array([row[0] for row in rows]), 4.5, axis=0)
    formants = (
        np.concatenate([moving, np.tile(_HIGH_FORMANTS, (len(rows), 1))], axis=1) * speaker.tract
    )
    voice, noise = (gaussian_filter1d(np.array([row[at] for row in rows]), 1.6) for at in (1, 2))
    bands = gaussian_filter1d(np.array([row[3] for row in rows]), 2, axis=0)
    widths = 50 + 0.05 * formants
    squares = formants[:, :, None] ** 2
    peaks = squares**2 / (
        (squares - GRID**2) ** 2 + (widths[:, :, None] * np.maximum(GRID, 1)) ** 2
    )
    tilt = 4.5 * np.log2(np.maximum(GRID, 300) / 300)
    voiced = 10 * np.log10(peaks.prod(1)) - tilt + voice[:, None] - 56
    rough = noise[:, None] - 38 - 10 * ((GRID - bands[:, :1]) / bands[:, 1:]) ** 2
    powers = 10 ** (np.maximum(voiced, _SILENT) / 10), 10 ** (np.maximum(rough, _SILENT) / 10)
    share = powers[0].sum(1) / (powers[0].sum(1) + powers[1].sum(1))
    quiet = voice < -45
    return 10 * np.log10(powers[0] + powers[1]) + speaker.loudness, np.where(quiet, 0.0, share)


def _rows(
    phoneme: Phoneme, count: int, loudness: float
) -> Iterator[tuple[tuple[float, ...], float, float, tuple[float, float]]]:
    """A phoneme's frames: formants, level of voice, level of noise, band of noise."""
    burst = round(phoneme.burst_ms / FRAME_MS)
    for frame in range(count):
        sounding = not burst or frame >= count - burst
        voice = -60.0 if phoneme.voice is None else phoneme.voice + loudness
        noise = -60.0 if phoneme.noise is None or not sounding else phoneme.noise + loudness
        yield phoneme.formants, voice, noise, phoneme.band
