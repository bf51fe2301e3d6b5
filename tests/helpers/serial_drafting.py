"""Speculative decoding step by step, by whole passes and without caches, with any drafter that
gives logits: what decode and replay are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pytest_specdec import replay
from pytest_specdec.acceptance.rounds import Round
from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

PROMPTS = [[0, 2, 3, 4], [0, 5, 6], [0, 7, 8, 9, 10], [0, 11]]
Steps = Callable[[Sequence[int]], Generator[torch.Tensor, int, None]]
"""Called with a text; yields the logits (vocabulary,) of each draft after it and receives the
draft.
"""


def check_probabilities(
    target: LoadedModel, drafter: str | Path, steps: Steps, k: int, *, new: int = 10
) -> None:
    """Every acceptance probability of every round start and step within 1e-5, at temperature 1: of
    the text's own token, and of any draft in its context.
    """
    texts = decode(target, None, PROMPTS[:2], k=0, new_tokens=new, seed=5, batch_size=1).texts
    plan = DrafterPlan(str(drafter), 0, k)
    (scores,) = text_scores(target, [plan], texts, Sampling(1.0), overlaps=True)
    compared = 0
    for row, text in enumerate(texts):
        tokens = list(text.ids)
        with torch.no_grad():
            p = target.model(torch.tensor([tokens])).logits[0].softmax(-1)
        for start in range(text.first_draft, len(tokens)):
            drafting, token = steps(tokens[:start]), None
            for step in range(min(k, len(tokens) - start)):
                logits = next(drafting) if token is None else drafting.send(token)
                at, q = start + step, logits.softmax(-1)
                head = step % scores.draft.shape[1]
                token = tokens[at]
                overlap = float(torch.minimum(q, p[at - 1]).sum())
                assert scores.overlaps["rejection"][row, head, at] == pytest.approx(
                    overlap, abs=1e-5
                )
                apart = float(scores.draft[row, head, at] - scores.target[row, at])
                expected = min(1.0, float(q[token] / p[at - 1, token]))
                assert min(1.0, math.exp(apart)) == pytest.approx(expected, abs=1e-5)
                compared += 1
    assert compared == sum(min(k, new - start) for start in range(1, new)) * len(texts)


def serial_rounds(
    target: LoadedModel, steps: Steps, prompt: list[int], k: int, new: int
) -> tuple[list[int], list[Round]]:
    """Greedy speculative decoding of one text by whole passes."""

    def choices(ids: list[int]) -> list[int]:
        with torch.no_grad():
            found: list[int] = target.model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        return found

    ids, limit, rounds = [*prompt, choices(prompt)[-1]], len(prompt) + new, []
    while (left := limit - len(ids)) > 0:
        drafting, drafts = steps(ids), []
        while len(drafts) < (k if left >= k else left - 1):
            logits = drafting.send(drafts[-1]) if drafts else next(drafting)
            drafts.append(int(logits.argmax()))
        verified = choices([*ids, *drafts])[len(ids) - 1 :]
        accepted = 0
        while accepted < len(drafts) and drafts[accepted] == verified[accepted]:
            accepted += 1
        rounds.append(Round(len(ids), len(drafts), accepted))
        ids += verified[: accepted + 1]
    return ids[:limit], rounds


def check_greedy_rounds(
    target: LoadedModel, drafter: str | Path, steps: Steps, k: int, *, new: int = 16
) -> None:
    """At temperature 0 decode in any batch and replay count the rounds of serial decoding, one by
    one.
    """
    serial = [serial_rounds(target, steps, prompt, k, new) for prompt in PROMPTS]
    options = {"k": k, "temperature": 0}
    for batch_size in (1, len(PROMPTS)):
        decoded = decode(
            target, str(drafter), PROMPTS, new_tokens=new, batch_size=batch_size, **options
        )
        assert [list(text.ids) for text in decoded.texts] == [ids for ids, _ in serial]
        assert [list(rounds) for rounds in decoded.rounds] == [rounds for _, rounds in serial]
        counts = replay(target, str(drafter), decoded.texts, **options)
        for field in ("rounds", "drafted", "accepted"):
            assert np.array_equal(getattr(counts, field), getattr(decoded.counts, field)), field


def check_sampled_rounds(
    target: LoadedModel,
    drafter: str | Path | LoadedModel,
    k: int,
    *,
    texts: int = 240,
    new: int = 24,
    errors: float = 3.0,
    **options: object,
) -> None:
    """Decode's accepted tokens at each position lie within so many standard errors of what replay
    expects on its texts.
    """
    drafter = str(drafter) if isinstance(drafter, Path) else drafter
    prompts = (PROMPTS * (texts // len(PROMPTS) + 1))[:texts]
    decoded = decode(
        target, drafter, prompts, k=k, new_tokens=new, batch_size=120, seed=7, **options
    )
    expected = replay(target, drafter, decoded.texts, k=k, **options)
    apart = decoded.counts.accepted - expected.accepted
    enough = expected.accepted.sum(0) > 10
    assert enough[0]
    # Where drafts are certain, the text decides the rounds, and nothing may lie apart.
    spread = np.sqrt((apart**2).sum(0))
    assert (np.abs(apart.sum(0)) <= errors * spread)[enough].all()
