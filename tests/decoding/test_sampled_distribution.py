"""Sampled speculative decoding follows the target: the distribution of the first three tokens over
10,000 runs.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.support import llama
from helpers.tiers import crossed, exhaustive
from scipy import stats

from pytest_specdec.cases.case import LOOKUP, OWN_HEADS, Sampling
from pytest_specdec.decoding.decode import Decoded, decode
from pytest_specdec.decoding.distributions import log_scores
from pytest_specdec.decoding.drafters.registry import DrafterSource
from pytest_specdec.decoding.loading import LoadedModel, load_model

RUNS, VOCABULARY, FIRST = 10_000, 7, 3
PROMPT = [1, 4, 2, 4, 1, 4]
PLAIN = Sampling()
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
        load_model(
            str(
                llama(
                    folder / name, seed=seed, vocabulary=VOCABULARY, width=16, layers=1, context=32
                )
            ),
            "cpu",
        )
        for name, seed in (("target", 5), ("draft", 6))
    )


@pytest.fixture(scope="module")
def distribution(models: tuple[LoadedModel, LoadedModel]) -> np.ndarray:
    return exact_distribution(models[0], PLAIN)


def exact_distribution(target: LoadedModel, sampling: Sampling) -> np.ndarray:
    """The target's exact probability of every three tokens after the prompt."""
    texts = torch.tensor(
        [[*PROMPT, *three] for three in itertools.product(range(VOCABULARY), repeat=FIRST)]
    )
    start = len(PROMPT)
    with torch.inference_mode():
        logits = target.model(texts).logits[:, start - 1 : -1].double()
    exact: np.ndarray = log_scores(logits, texts[:, start:], sampling).sum(1).exp().double().numpy()
    assert exact.sum() == pytest.approx(1)
    return exact / exact.sum()


def first_tokens(
    models: tuple[LoadedModel, LoadedModel], drafter: str, rule: str, sampling: Sampling = PLAIN
) -> np.ndarray:
    """How often each three tokens came first."""
    role, depth, k = DRAFTERS[drafter]
    target, draft = models
    return emitted_first(
        target, draft if role == "draft" else role, k, depth=depth, rule=rule, sampling=sampling
    )


def emitted_first(
    target: LoadedModel,
    drafter: DrafterSource,
    k: int,
    *,
    depth: int = 0,
    rule: str = "rejection",
    sampling: Sampling = PLAIN,
) -> np.ndarray:
    """How often each three tokens came first after the prompt."""
    decoded = decode(
        target,
        drafter,
        [PROMPT] * RUNS,
        k=k,
        depth=depth,
        rule=rule,
        new_tokens=FIRST + k,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        batch_size=2500,
        seed=11,
    )
    return tokens_first(decoded)


def tokens_first(decoded: Decoded) -> np.ndarray:
    """How often each three tokens came first after the prompt in decoded texts."""
    start = len(PROMPT)
    assert any(played.accepted for rounds in decoded.rounds for played in rounds)
    assert any(played.accepted < played.drafted for rounds in decoded.rounds for played in rounds)
    first = np.array([text.ids[start : start + FIRST] for text in decoded.texts])
    cells = np.ravel_multi_index(first.T, (VOCABULARY,) * FIRST)
    return np.bincount(cells, minlength=VOCABULARY**FIRST)


def p_value(seen: np.ndarray, distribution: np.ndarray) -> float:
    """Goodness of fit, 0 where the impossible was seen; cells that expect fewer than 5 runs are
    taken together.
    """
    if seen[distribution == 0].any():
        return 0.0
    expected = RUNS * distribution
    rare = expected < 5
    seen, expected = (np.append(values[~rare], values[rare].sum()) for values in (seen, expected))
    assert len(seen) > 30
    return float(stats.chisquare(seen[expected > 0], expected[expected > 0]).pvalue)


@crossed(drafter=DRAFTERS, rule=["rejection", "sample-match", "block"])
def test_lossless_rules_follow_the_target(
    models, distribution: np.ndarray, drafter: str, rule: str
) -> None:
    assert p_value(first_tokens(models, drafter, rule), distribution) > FLOOR


@pytest.mark.parametrize(
    ("drafter", "rule"), [("draft model with heads", "rejection"), ("own heads", "block")]
)
def test_temperature_and_filters_bend_what_the_target_emits(
    models, distribution: np.ndarray, drafter: str, rule: str
) -> None:
    """Target and drafter leave out tokens, and not the same ones."""
    filtered = Sampling(0.8, 5, 0.9)
    seen = first_tokens(models, drafter, rule, filtered)
    assert p_value(seen, exact_distribution(models[0], filtered)) > FLOOR
    assert p_value(seen, distribution) < 1e-12


@pytest.mark.parametrize(
    "drafter",
    ["draft model", exhaustive("own heads, last one reused"), exhaustive("prompt lookup")],
)
def test_a_lossy_rule_does_not(models, distribution: np.ndarray, drafter: str) -> None:
    assert p_value(first_tokens(models, drafter, "typical"), distribution) < 1e-12
