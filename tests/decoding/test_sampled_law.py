"""Sampled speculative decoding follows the target: the law of the first three tokens over 20,000 runs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from support import llama

from pytest_specdec.acceptance.case import LOOKUP, OWN_HEADS
from pytest_specdec.decoding.generate import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model

RUNS, VOCABULARY, FIRST = 20_000, 7, 3
PROMPT = [1, 4, 2, 4, 1, 4]
FLOOR = 1e-4
"""Least p-value; the seed is fixed, so a pass is a pass for good."""
DRAFTERS = {
    "draft model": ("draft", 0, 2),
    "draft model with heads": ("draft", 2, 3),
    "own heads": (OWN_HEADS, 2, 2),
    "own heads, last one reused": (OWN_HEADS, 1, 3),
    "prompt lookup": (LOOKUP, 0, 2),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, LoadedModel]:
    folder: Path = tmp_path_factory.mktemp("narrow")
    return tuple(
        load_model(str(llama(folder / name, seed=seed, vocabulary=VOCABULARY, width=16, layers=1, context=32)), "cpu")
        for name, seed in (("target", 5), ("draft", 6))
    )


@pytest.fixture(scope="module")
def law(models: tuple[LoadedModel, LoadedModel]) -> np.ndarray:
    """The target's exact probability of every three tokens after the prompt."""
    texts = torch.tensor([[*PROMPT, *three] for three in itertools.product(range(VOCABULARY), repeat=FIRST)])
    with torch.inference_mode():
        scores = models[0].model(texts).logits.double().log_softmax(-1)
    start = len(PROMPT)
    steps = [scores[:, start - 1 + step].gather(1, texts[:, start + step, None])[:, 0] for step in range(FIRST)]
    exact: np.ndarray = torch.stack(steps).sum(0).exp().numpy()
    assert exact.sum() == pytest.approx(1)
    return exact


def p_value(models: tuple[LoadedModel, LoadedModel], law: np.ndarray, drafter: str, rule: str) -> float:
    """Goodness of fit of the first three tokens; cells that expect fewer than 5 runs are taken together."""
    role, depth, k = DRAFTERS[drafter]
    target, draft = models
    decoded = decode(
        target, draft if role == "draft" else role, [PROMPT] * RUNS, k=k, depth=depth, rule=rule, new_tokens=FIRST + k,
        batch_size=2500, seed=11,
    )  # fmt: skip
    start = len(PROMPT)
    assert any(one.accepted for rounds in decoded.rounds for one in rounds)
    assert any(one.accepted < one.drafted for rounds in decoded.rounds for one in rounds)
    cells = [np.ravel_multi_index(text.ids[start : start + FIRST], (VOCABULARY,) * FIRST) for text in decoded.texts]
    seen, expected = np.bincount(cells, minlength=len(law)), RUNS * law
    rare = expected < 5
    seen, expected = (np.append(values[~rare], values[rare].sum()) for values in (seen, expected))
    assert len(seen) > 100
    return float(stats.chisquare(seen[expected > 0], expected[expected > 0]).pvalue)


@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block"])
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_lossless_rules_follow_the_target(models, law: np.ndarray, drafter: str, rule: str) -> None:
    assert p_value(models, law, drafter, rule) > FLOOR


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_a_lossy_rule_does_not(models, law: np.ndarray, drafter: str) -> None:
    assert p_value(models, law, drafter, "typical") < 1e-12
