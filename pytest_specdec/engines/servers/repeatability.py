"""A sample of the texts, scored a second time in another order and another batch: a server must
repeat itself.

Two public engines have served log-probabilities that depended on what else was asked, on the order
and on the prefix cache (vllm#42245, vllm#42019). The second time each text is cut elsewhere, so
that the request differs from the one that was answered before.
"""

from __future__ import annotations

import concurrent.futures
import math
from collections.abc import Sequence

import numpy as np

from ...cases.texts import Text
from .scorer import ScoredText, Scorer

TEXTS = 4
"""Texts that are scored a second time, or all where there are fewer."""
PROBABILITY, SHARE = 0.1, 0.02
"""A token is answered otherwise from this difference of its probability on; so many tokens may be.

Rounding: bfloat16 logits between 16 and 32 are 0.125 apart, so two of them that each move by one
step change a probability by at most 0.0625. Mixture-of-experts models send a few tokens elsewhere
in another batch, and these move further.
"""
MEAN = 0.25
"""Largest mean difference of log-probabilities: two such steps for every token."""
_FLOOR = -20.0
"""Log-probabilities below are as good as this one."""


def ask_again(
    scorer: Scorer, texts: Sequence[Text], scored: Sequence[ScoredText], *, alone: bool
) -> str | None:
    """How the second answers differ, in words; None where they are the same but for rounding.

    At most `TEXTS` texts, evenly spaced, and of each at most `scorer.again` tokens are asked for,
    in reverse order: one at a time with `alone`, else all at once. `scored` are the first answers.
    Raises ServerError where the server fails.
    """
    rows = [row for row, text in enumerate(scored) if text.logprobs]
    rows = [
        rows[len(rows) * part // min(TEXTS, len(rows))] for part in range(min(TEXTS, len(rows)))
    ]
    parts = [
        _part(texts[row], scored[row], (number + 1) / len(rows), scorer.again)
        for number, row in enumerate(rows)
    ][::-1]
    with concurrent.futures.ThreadPoolExecutor(
        1 if alone else TEXTS, thread_name_prefix="specdec-again"
    ) as pool:
        answers = list(
            pool.map(lambda part: scorer.score(part[0], part[1].first, fresh=True), parts)
        )
    return apart([before for _, before in parts], answers)


def apart(before: Sequence[ScoredText], now: Sequence[ScoredText]) -> str | None:
    """How two answers on the same tokens differ, in words; None where rounding explains it."""
    old, new = (
        np.array([value for text in answers for value in text.logprobs])
        for answers in (before, now)
    )
    old_top, new_top = (
        np.array([row[0] for text in answers for row in text.top]) for answers in (before, now)
    )
    if not len(old):
        return None
    moved = (
        np.maximum(np.abs(np.exp(old) - np.exp(new)), np.abs(np.exp(old_top) - np.exp(new_top)))
        > PROBABILITY
    )
    mean = float(np.abs(np.maximum(old, _FLOOR) - np.maximum(new, _FLOOR)).mean())
    if moved.sum() <= max(1, SHARE * len(moved)) and mean <= MEAN:
        return None
    return (
        f"the probabilities of {moved.sum()} of {len(moved)} tokens change by more than "
        f"{PROBABILITY:g}, log-probabilities by {mean:.2g} on average"
    )


def _part(
    text: Text, scored: ScoredText, share: float, most: int
) -> tuple[tuple[int, ...], ScoredText]:
    """The beginning of a text, up to a share of what was scored, and the first answers on its last
    tokens.
    """
    end = math.ceil(len(scored.logprobs) * share)
    begin = max(0, end - most)
    place = slice(begin, end)
    before = ScoredText(
        first=scored.first + begin,
        logprobs=scored.logprobs[place],
        best=scored.best[place],
        top=scored.top[place],
    )
    return text.ids[: scored.first + end], before
