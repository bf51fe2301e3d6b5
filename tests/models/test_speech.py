"""The formant synthesiser: alike for the same seed, alive for another, and aligned."""

from __future__ import annotations

import random

import numpy as np
import pytest
import speech
from codec import LETTERS, RATE, features, speech_like
from sentences import CATEGORIES, monologue

SAID = "the ship left the harbor at three. please wait."


def utterance(seed: int, text: str = SAID) -> speech.Utterance:
    rng = random.Random(seed)
    return speech.synthesise(text, speech.Speaker.random(rng), rng)


def test_the_same_seed_gives_the_same_sound() -> None:
    first, second = utterance(3), utterance(3)
    np.testing.assert_array_equal(first.samples, second.samples)
    assert first.starts == second.starts


def test_speakers_differ_in_pitch_and_tempo() -> None:
    spoken = [utterance(seed) for seed in range(12)]
    pitch = [
        float(np.median(frames[frames[:, -2] > 0.8, -1]))
        for frames in (features(each.samples) for each in spoken)
    ]
    assert max(pitch) - min(pitch) > 0.6, "octaves between the lowest and the highest voice"
    seconds = [len(each.samples) / RATE for each in spoken]
    assert max(seconds) / min(seconds) > 1.08


@pytest.mark.parametrize("seed", range(4))
def test_letters_begin_in_order_within_the_sound(seed: int) -> None:
    spoken = utterance(seed)
    starts = np.array(spoken.starts)
    assert len(starts) == len(SAID)
    assert starts[0] == 0
    assert (np.diff(starts) >= 0).all()
    assert (np.diff(starts) > 0).mean() > 0.9, "only silent letters begin with the next one"
    assert starts[-1] < len(spoken.samples) / RATE
    assert 8 < len(SAID) * RATE / len(spoken.samples) < 20, "letters a second"


def test_the_alignment_gives_the_places_of_the_sounds() -> None:
    """A fricative's frames hiss (power above 4 kHz), a vowel's do not, the pause at the full stop
    is silent.
    """
    spoken = utterance(1, "she sees us. so.")

    def share_above(letter_at: int, ms: float = 60) -> float:
        begin = int((spoken.starts[letter_at] + 0.02) * RATE)
        power = np.abs(np.fft.rfft(spoken.samples[begin : begin + int(ms * RATE / 1000)])) ** 2
        return float(power[len(power) // 2 :].sum() / power.sum())

    assert share_above(spoken.text.index("sees")) > 0.5
    assert share_above(spoken.text.index("ees")) < 0.1
    pause = spoken.samples[
        int((spoken.starts[11] + 0.06) * RATE) : int((spoken.starts[11] + 0.16) * RATE)
    ]
    assert pause.std() < 0.05 * spoken.samples.std()


def test_digraphs_are_one_sound_and_a_final_e_is_silent() -> None:
    assert list(speech.spelled("three cheese")) == [
        ("th", "th"),
        ("r", "r"),
        ("ee", "ee"),
        (" ", " "),
        ("ch", "ch"),
        ("ee", "ee"),
        ("s", "s"),
        ("e", ""),
    ]
    assert [name for _, name in speech.spelled("he")] == ["h", "e"], "a word's only vowel sounds"


def test_every_letter_and_every_phoneme_can_be_spoken() -> None:
    names = {name for letter in LETTERS for _, name in speech.spelled(f"a{letter}a")} | set(
        speech._SPELLINGS.values()
    )
    assert names - {""} <= set(speech.PHONEMES)
    assert np.isfinite(utterance(0, LETTERS).samples).all()


def test_what_cannot_be_spoken_is_named() -> None:
    with pytest.raises(ValueError, match="'7' cannot be spoken; use lower-case letters"):
        utterance(0, "at 7")


@pytest.mark.parametrize("category", CATEGORIES)
def test_sentences_of_all_kinds_sound_like_speech(category: str) -> None:
    samples = utterance(5, monologue(category, 2, random.Random(7))).samples
    assert speech_like(samples)
    assert 0.02 < samples.std() < 0.2
    assert np.abs(samples).max() <= 1
