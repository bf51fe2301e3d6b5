"""Noise of sampled texts as a pure function of seed, prompt, step and token, the same on every
device.

A token drawn as argmax(log p + G), with G of independent standard Gumbel noise, follows p. Where G
is a function of (seed, prompt, step, token) alone, a prompt's text does not depend on the prompts
beside it, and the texts of two targets differ only where the targets do (Gumbel coupling). The bits
are SplitMix64's (Steele, Lea and Flood, 2014), in integer arithmetic that CPUs and GPUs agree on;
each text has a stream for each step, keyed by SHA-256. Token ids count from the stream's beginning,
so a padded vocabulary has the noise of the plain one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from ..cases.case import Sampling
from .distributions import filtered

_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_AT_ONCE = 1 << 18
"""Numbers mixed at once on a CPU, so that they stay in its caches."""


def text_keys(
    seed: int, prompts: Sequence[str], device: torch.device | str = "cpu"
) -> torch.Tensor:
    """(prompts,) 64-bit keys: the hash of the seed and each prompt's own key."""
    digests = [hashlib.sha256(f"{seed} {prompt}".encode()).digest() for prompt in prompts]
    return torch.tensor(
        [int.from_bytes(digest[:8], "little", signed=True) for digest in digests], device=device
    )


def gumbel_noise(keys: torch.Tensor, step: int, tokens: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise in float32 for token ids at a step of texts with these keys; the two
    shapes broadcast.

    Uniform numbers have 52 bits, so that also tokens of probability 1e-12 are drawn as often as
    they should be.
    """
    streams = _mixed(keys + _signed(_GAMMA * (step + 1)))
    bits = _mixed(streams + (tokens + 1) * _signed(_GAMMA))
    uniform = (
        bits.bitwise_right_shift_(12).bitwise_and_((1 << 52) - 1).double().add_(0.5).mul_(2.0**-52)
    )
    return uniform.log_().neg_().float().log_().neg_()


class KeyedNoise(LogitsProcessor):  # type: ignore[misc]
    """Logits to log-probabilities (up to a constant) after temperature and filters, plus keyed
    Gumbel noise.

    As `generate`'s last processor, with greedy selection: a sample of the target.
    """

    def __init__(self, sampling: Sampling, keys: torch.Tensor, prompt_length: int) -> None:
        """`keys` (rows,) of the batch's texts, whose prompts are padded to one length."""
        self._sampling, self._keys, self._prompt_length = sampling, keys, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(rows, vocabulary) to the same."""
        step, kept = input_ids.shape[1] - self._prompt_length, filtered(scores, self._sampling)
        if self._sampling.top_k or self._sampling.top_p < 1:
            rows, tokens = (kept > -torch.inf).nonzero(as_tuple=True)
            return kept.index_put(
                (rows, tokens), kept[rows, tokens] + gumbel_noise(self._keys[rows], step, tokens)
            )
        tokens = torch.arange(kept.shape[1], device=kept.device)
        rows_at_once = len(kept) if kept.device.type != "cpu" else max(_AT_ONCE // kept.shape[1], 1)
        parts = [
            gumbel_noise(keys[:, None], step, tokens)
            for keys in torch.split(self._keys, rows_at_once)
        ]
        return torch.cat(parts).add_(kept)


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser, in place; products wrap around, and shifts are made logical by
    masks.
    """
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        bits.bitwise_xor_((bits >> shift).bitwise_and_((1 << (64 - shift)) - 1)).mul_(
            _signed(factor)
        )
    return bits.bitwise_xor_((bits >> 31).bitwise_and_((1 << 33) - 1))


def _signed(value: int) -> int:
    """The 64 lowest bits as the signed integer that torch knows."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
