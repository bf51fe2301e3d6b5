"""Numbers that look like a valid measurement but are not one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.records import counts, scaled, steady_counts

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate.refusals import dead_drafter, looping_texts, same_model, too_good
from pytest_specdec.records.conditions import Fingerprints


def accepting(share: float, prompts: int = 40) -> Counts:
    return steady_counts(prompts, shares=(share,), rounds=100)


@pytest.mark.parametrize("share", [0.0, 0.0097, 0.04, 0.0499])
def test_a_length_within_noise_of_one_is_dead(share: float) -> None:
    reason = dead_drafter(accepting(share))
    assert reason is not None
    assert reason.endswith("check the drafter, its tokenizer and its prompts")


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_a_drafter_that_works_is_not(share: float) -> None:
    assert dead_drafter(accepting(share)) is None


def test_few_lucky_prompts_do_not_make_a_drafter() -> None:
    """One prompt in forty has all that is accepted: 2.5 times the limit, and within noise of
    nothing.
    """
    lucky = counts([100] * 40, [[0]] * 39 + [[500 * 0.01 * 100]])
    assert lucky.expected_accepted > 0.1
    reason = dead_drafter(lucky)
    assert reason is not None
    assert reason.startswith("40 prompts are too few to tell the acceptance length 1.1250 from 1")


def test_a_healthy_drafter_on_two_prompts_is_not_called_dead() -> None:
    reason = dead_drafter(counts([100] * 2, [[60], [110]]))
    assert reason is not None
    assert reason.endswith("use at least 4 prompts like these")
    assert dead_drafter(counts([100] * 4, [[60], [110], [60], [110]])) is None


@pytest.mark.parametrize(
    ("drafter", "same"), [("a", True), ("a-heads", True), ("b", False), ("b-a", False)]
)
@pytest.mark.parametrize("target", ["a", "a-eos5"])
def test_a_drafter_that_is_the_target_is_no_pair(target: str, drafter: str, same: bool) -> None:
    reason = same_model(Fingerprints(target=target, drafter=drafter))
    assert (reason is not None) is same
    assert reason is None or reason.startswith(
        "drafter and target are the same model (fingerprint a)"
    )


def test_served_models_without_weights_are_not_the_same() -> None:
    assert same_model(Fingerprints(target="served", drafter="served")) is None


def test_a_single_prompt_is_judged_by_its_length() -> None:
    assert dead_drafter(accepting(0.5, prompts=1)) is None
    assert dead_drafter(accepting(0.01, prompts=1)) is not None


@pytest.mark.parametrize(
    ("looping", "texts", "refused"), [(0, 80, False), (20, 80, False), (21, 80, True), (1, 1, True)]
)
def test_more_than_a_quarter_of_looping_texts_is_refused(
    looping: int, texts: int, refused: bool
) -> None:
    reason = looping_texts(looping, texts)
    assert (reason is not None) is refused
    assert reason is None or (
        reason.startswith(f"{looping} of {texts} texts") and "use the chat template" in reason
    )


EXPECTED = steady_counts(40, shares=(0.7, 0.5), rounds=60)


def counted(rng: np.random.Generator, excess: float = 1.0) -> Counts:
    """Whole rounds around the expectation."""
    rounds = EXPECTED.rounds.astype(int)
    first = rng.binomial(rounds, 0.7 * excess)
    return counts(
        rounds.tolist(),
        np.stack([first, rng.binomial(first, 5 / 7)], axis=1).tolist(),
        prompts=EXPECTED.prompts,
    )


def test_correct_decoders_are_never_refused() -> None:
    rng = np.random.default_rng(4)
    assert [
        reason for _ in range(500) if (reason := too_good(counted(rng), EXPECTED, gates=16))
    ] == []


def test_more_than_the_models_allow_is_refused_with_both_numbers() -> None:
    reason = too_good(counted(np.random.default_rng(5), excess=1.25), EXPECTED, gates=16)
    assert reason is not None
    assert f"allow {EXPECTED.acceptance_length:.4f} on the same texts" in reason
    assert reason.endswith("check that drafts are drawn from the q that the acceptance test uses")


def test_less_or_the_same_is_not_refused() -> None:
    assert too_good(EXPECTED, EXPECTED, gates=1) is None
    assert too_good(scaled(EXPECTED, 0.9), EXPECTED, gates=1) is None


def test_without_noise_any_excess_is_impossible() -> None:
    more = dataclasses.replace(EXPECTED, accepted=EXPECTED.accepted * 1.01)
    reason = too_good(more, EXPECTED, gates=1)
    assert reason is not None
    assert "in every prompt" in reason or "standard errors above" in reason
