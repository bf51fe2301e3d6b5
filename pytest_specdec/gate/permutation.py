"""The test for records on different texts: swap the labels before/now prompt by prompt.

If nothing changed, a prompt's two records are exchangeable, so every swapping is as likely as the observed one and
the p-value is exact for any number of prompts, however rounds cluster within a prompt.
"""

from __future__ import annotations

import math

import numpy as np

from .paired import Pair

_BATCH = 512


def swap_p_value(pair: Pair, *, level: float, seed: int) -> float:
    """One-sided p-value of a drop of the pooled acceptance length, (1 + #) / (1 + B) as in Phipson and Smyth (2010).

    B is ten times what `level` needs for resolution; with few prompts all swappings are enumerated.
    """
    from scipy import stats

    if pair.prompts < 2:
        return 1.0
    before, now = pair.before, pair.now
    accepted = np.concatenate([before.accepted.sum(1), now.accepted.sum(1)])
    rounds = np.concatenate([before.rounds, now.rounds])

    def drop(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        x, y = x.astype(int), y.astype(int)
        lengths = [accepted[side].sum(axis) / np.maximum(rounds[side].sum(axis), 1e-12) for side in (x, y)]
        result: np.ndarray = lengths[0] - lengths[1]
        return result

    rows = np.arange(pair.prompts)
    result = stats.permutation_test(
        (rows, rows + pair.prompts),
        drop,
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=math.ceil(10 / level),
        batch=_BATCH,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def can_resolve(prompts: int, level: float) -> bool:
    """Whether so many prompts can ever give a p-value at the level: 2 ** -prompts <= level."""
    return prompts * math.log(2) >= -math.log(level)
