"""Keyed noise: Gumbel, a pure function of seed, prompt, step and token, and what that means for
sampled texts.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.embedded import Pair
from helpers.support import EMBEDDED, add_noise
from scipy import stats

from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding import sampling as sampling_module
from pytest_specdec.decoding.distributions import filtered
from pytest_specdec.decoding.keyed_noise import KeyedNoise, gumbel_noise, text_keys
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.sampling import sample_new_tokens

NEW = 48
PLAIN = Sampling(1.0)
MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def splitmix(state: int) -> int:
    """SplitMix64's output from its state, as published: the reference for the arithmetic on
    tensors.
    """
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & MASK
    return state ^ (state >> 31)


def test_the_reference_is_splitmix64() -> None:
    """First outputs for the seed 1234567, as its authors' C code prints them."""
    assert [splitmix(1234567 + step * GAMMA & MASK) for step in (1, 2)] == [
        6457827717110365317,
        3203168211198807973,
    ]


@pytest.mark.parametrize("step", [0, 7, 100_000])
def test_noise_is_the_gumbel_transform_of_the_streams_bits(step: int) -> None:
    keys, tokens = text_keys(3, ["a", "b"]), torch.tensor([0, 1, 31, 200_000])
    noise = gumbel_noise(keys[:, None], step, tokens)
    assert noise.dtype == torch.float32
    for row, key in enumerate(keys.tolist()):
        stream = splitmix(key + (step + 1) * GAMMA & MASK)
        for column, token in enumerate(tokens.tolist()):
            uniform = ((splitmix(stream + (token + 1) * GAMMA & MASK) >> 12) + 0.5) * 2.0**-52
            assert noise[row, column].item() == pytest.approx(
                -math.log(-math.log(uniform)), abs=1e-5
            )


def test_noise_is_standard_gumbel_and_independent() -> None:
    noise = gumbel_noise(
        text_keys(0, [str(row) for row in range(40)])[:, None], 3, torch.arange(5000)
    ).numpy()
    assert stats.kstest(noise.ravel(), "gumbel_r").pvalue > 1e-3
    uniform = stats.gumbel_r.cdf(noise)
    for left, right in ((uniform[0::2], uniform[1::2]), (uniform[:, :-1], uniform[:, 1:])):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 4 / math.sqrt(left.size)


def test_seed_prompt_step_and_token_each_change_the_noise() -> None:
    tokens = torch.arange(64)
    noise = [
        gumbel_noise(text_keys(seed, [prompt])[:, None], step, tokens)
        for seed, prompt, step in (
            (0, "a", 0),
            (1, "a", 0),
            (0, "b", 0),
            (0, "a", 1),
            (0, "1 a", 0),
            (10, "a", 0),
        )
    ]
    together = torch.cat(noise)
    assert len(together.unique()) == together.numel()


def test_a_padded_vocabulary_does_not_shift_the_noise() -> None:
    keys = text_keys(0, ["a", "b", "c"])
    plain, padded = torch.randn(3, 1000), torch.full((3, 1100), -torch.inf)
    padded[:, :1000] = plain
    ids = torch.zeros(3, 9, dtype=torch.long)
    narrow, wide = (KeyedNoise(PLAIN, keys, 4)(ids, scores) for scores in (plain, padded))
    assert torch.equal(narrow, wide[:, :1000])
    assert (wide[:, 1000:] == -torch.inf).all()


@pytest.mark.parametrize(
    "sampling",
    [PLAIN, Sampling(0.7), Sampling(1.3, 5), Sampling(1.0, 0, 0.8), Sampling(0.8, 20, 0.9)],
)
def test_scores_are_filtered_logits_plus_noise(sampling: Sampling) -> None:
    """Also for wide vocabularies, of which a few rows are computed at once."""
    logits, keys = (
        3 * torch.randn(5, 200_000, generator=torch.Generator().manual_seed(1)),
        text_keys(2, list("abcde")),
    )
    expected = filtered(logits, sampling) + gumbel_noise(keys[:, None], 2, torch.arange(200_000))
    assert torch.equal(
        KeyedNoise(sampling, keys, 3)(torch.zeros(5, 5, dtype=torch.long), logits), expected
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; run on a machine with CUDA")
def test_a_gpu_has_the_same_noise() -> None:
    keys, tokens = text_keys(5, list("abc")), torch.arange(50_000)
    there = gumbel_noise(keys.cuda()[:, None], 9, tokens.cuda()).cpu()
    torch.testing.assert_close(there, gumbel_noise(keys[:, None], 9, tokens), rtol=1e-5, atol=1e-5)


def sampled(
    pair: Pair, rows: list[int], seed: int = 0, sampling: Sampling = PLAIN
) -> dict[int, tuple[int, ...]]:
    """New tokens of some of the embedded suite's prompts, by the prompt's row, which is its key."""
    prompts, keys = [pair.prompts[row] for row in rows], [str(row) for row in rows]
    texts = sample_new_tokens(
        pair.target, prompts, new_tokens=NEW, sampling=sampling, seed=seed, keys=keys
    )
    return dict(zip(rows, texts, strict=True))


@pytest.mark.parametrize(
    "sampling", [PLAIN, Sampling(0.8, 20, 0.9)], ids=lambda sampling: sampling.suffix
)
def test_a_text_does_not_depend_on_the_other_prompts(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, sampling: Sampling
) -> None:
    rows = list(range(0, 80, 4))
    together = sampled(pair, rows, sampling=sampling)
    assert sampled(pair, rows[::-1], sampling=sampling) == together
    assert sampled(pair, rows[7:9], sampling=sampling) == {row: together[row] for row in rows[7:9]}
    assert sampled(pair, rows[3:4], sampling=sampling) == {rows[3]: together[rows[3]]}
    monkeypatch.setattr(sampling_module, "SAMPLED_TOGETHER", 7)
    assert sampled(pair, rows, sampling=sampling) == together


def equal_tokens(texts: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> float:
    """Share of steps at which two lists of texts, paired, have the same token."""
    pairs = [zip(text, repeat, strict=False) for text, repeat in zip(texts, others, strict=True)]
    return float(np.mean([left == right for pair in pairs for left, right in pair]))


def test_prompts_added_later_have_noise_of_their_own(pair: Pair) -> None:
    """Rows drawn again from the first rows' noise have equal tokens at equal steps four times as
    often as chance.
    """
    first = list(sampled(pair, list(range(40))).values())
    added = list(sampled(pair, list(range(40, 80))).values())
    chance = np.mean([equal_tokens(first, added[shift:] + added[:shift]) for shift in range(1, 40)])
    assert equal_tokens(first, added) < 2 * chance


def test_seeds_have_noise_of_their_own(pair: Pair) -> None:
    first, second = (list(sampled(pair, list(range(20)), seed=seed).values()) for seed in (0, 1))
    assert all(text != again for text, again in zip(first, second, strict=True))


def test_texts_of_two_targets_part_only_where_the_targets_differ(
    pair: Pair, tmp_path: Path
) -> None:
    """Weights with 0.1 % noise: most texts are the same throughout, and most steps lie before the
    first difference.
    """
    near = load_model(str(add_noise(EMBEDDED / "text-target", tmp_path / "near", 0.001)), "cpu")
    rows = list(range(24))
    ours = list(sampled(pair, rows).values())
    prompts, keys = [pair.prompts[row] for row in rows], [str(row) for row in rows]
    theirs = sample_new_tokens(near, prompts, new_tokens=NEW, sampling=PLAIN, seed=0, keys=keys)
    same = [
        next((at for at, (a, b) in enumerate(zip(*both, strict=False)) if a != b), NEW)
        for both in zip(ours, theirs, strict=True)
    ]
    assert np.mean(same) > 0.8 * NEW


def test_prompts_without_keys_are_keyed_by_their_tokens(pair: Pair) -> None:
    """Copies of a prompt have texts of their own, and a copy's text does not depend on what lies
    between.
    """
    first, second = pair.prompts[:2]

    def sampled_texts(prompts: list[list[int]]) -> list[tuple[int, ...]]:
        return sample_new_tokens(pair.target, prompts, new_tokens=16, sampling=PLAIN, seed=0)

    texts = sampled_texts([first, second, first, first])
    assert len(set(texts)) == 4
    assert sampled_texts([first, first]) == [texts[0], texts[2]]
    assert sampled_texts([second]) == [texts[1]]
