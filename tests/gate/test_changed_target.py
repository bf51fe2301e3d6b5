"""Verdicts where the target's weights changed: in the same contexts, and on fresh texts."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from helpers.records import record, scaled, steady_counts

from pytest_specdec.acceptance.contexts import ContextCounts
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate.judge import judge
from pytest_specdec.gate.verdict import Verdict
from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.records.measured import MeasuredCase
from pytest_specdec.records.same_contexts import SameContexts

MARGIN = 0.01
PROMPTS = 24
FRESH = "text-2"


def shifted(drop: float, jitter: float = 0.0, prompts: int = PROMPTS) -> Counts:
    """Counts whose acceptance length fell by a share, each prompt by a little more or less."""
    before = steady_counts(prompts)
    factor = 1 - drop * before.acceptance_length / before.expected_accepted
    moved = scaled(before, factor)
    noise = np.random.default_rng(1).normal(size=(prompts, 1))
    noise -= noise.mean()
    return dataclasses.replace(moved, accepted=moved.accepted * (1 + jitter * noise))


def stored(*, contexts: bool = True) -> MeasuredCase:
    case = record(steady_counts(PROMPTS)).as_measured()
    (run,) = case.runs
    kept = steady_counts(PROMPTS) if contexts else None
    return dataclasses.replace(case, runs=(dataclasses.replace(run, contexts=kept),))


def fresh(counts: Counts, drafter: str = "drafter-1") -> MeasuredCase:
    case = record(counts, text=FRESH).as_measured()
    return dataclasses.replace(case, fingerprints=Fingerprints(target="target-2", drafter=drafter))


def in_contexts(
    drop: float,
    *,
    jitter: float = 0.001,
    share: float = 0.9,
    unseen: float = 0.0,
    target: str = "target-1",
    text: str | None = None,
) -> list[SameContexts]:
    (run,) = stored().runs
    texts = run.text_fingerprints
    return [
        SameContexts(
            target=target,
            text_fingerprints=texts if text is None else dict.fromkeys(texts, text),
            measured=ContextCounts(
                counts=shifted(drop, jitter), effective_share=share, unseen=unseen
            ),
        )
    ]


def verdict(
    contexts: list[SameContexts] | None,
    *,
    now: Counts | None = None,
    before: MeasuredCase | None = None,
    margin: float = MARGIN,
) -> Verdict:
    """By default the fresh texts say nothing: prompts moved either way."""
    counts = shifted(0.0, jitter=0.1) if now is None else now
    return judge(
        fresh(counts),
        stored() if before is None else before,
        margin=margin,
        contexts=lambda: contexts,
    )


@pytest.mark.parametrize(
    ("drop", "outcome"),
    [
        (0.0, "pass"),
        (0.008, "pass"),
        (0.012, "regressed"),
        (0.2, "regressed"),
        (-0.02, "improved"),
    ],
)
def test_the_same_contexts_decide(drop: float, outcome: str) -> None:
    found = verdict(in_contexts(drop))
    assert (found.outcome, found.regime) == (outcome, "target changed")
    assert found.estimate is not None
    assert found.estimate.name == "in the same contexts"
    assert found.estimate.drop == pytest.approx(drop, abs=1e-4)
    assert found.estimate.effective_share == 0.9
    assert found.smallest_detectable_drop is not None
    assert found.smallest_detectable_drop < 2 * MARGIN


def test_fresh_texts_are_reported_beside_them() -> None:
    found = verdict(in_contexts(0.0), now=shifted(0.02, jitter=0.1))
    assert found.drop == pytest.approx(0.02, abs=1e-3)
    assert found.estimate is not None
    assert found.estimate.drop == pytest.approx(0.0, abs=1e-4)


def test_a_clear_fall_of_fresh_texts_fails_though_the_contexts_are_the_same() -> None:
    found = verdict(in_contexts(0.0), now=shifted(0.1))
    assert (found.outcome, found.regime) == ("regressed", "target changed")
    assert "fell on fresh texts of the new target" in found.reason
    assert "not in the same contexts" in found.reason
    assert found.estimate is None  # the headline has the numbers of the fresh texts
    assert found.drop == pytest.approx(0.1)
    assert found.p_value is not None


def test_contexts_that_spread_too_much_are_inconclusive() -> None:
    found = verdict(in_contexts(0.0, jitter=0.2))
    assert found.outcome == "inconclusive"
    assert "about 1" in found.reason  # finite, though nothing fell
    found = verdict(in_contexts(0.02, jitter=0.2))
    assert found.outcome == "inconclusive"
    assert "prompts would settle it" in found.reason


def test_no_drop_fails_that_unseen_tokens_could_explain() -> None:
    found = verdict(in_contexts(0.02, unseen=0.05))
    assert found.outcome == "inconclusive"
    assert "tokens that the old target could not emit" in found.reason
    assert verdict(in_contexts(0.1, unseen=0.05)).outcome == "regressed"


@pytest.mark.parametrize(
    ("contexts", "before", "reason"),
    [
        pytest.param(None, None, "with its log-probabilities", id="none-stored"),
        pytest.param(
            in_contexts(0.1),
            stored(contexts=False),
            "no acceptance in the contexts",
            id="old-record",
        ),
        pytest.param(
            in_contexts(0.1, target="target-0"),
            None,
            "no longer those of the old target",
            id="elsewhere",
        ),
        pytest.param(
            in_contexts(0.1, text="another"),
            None,
            "no acceptance in the contexts",
            id="other-texts",
        ),
        pytest.param(in_contexts(0.1, share=0.05), None, "too unlike", id="few-effective"),
    ],
)
def test_fresh_texts_alone_decide_where_contexts_cannot_be_compared(
    contexts: list[SameContexts] | None, before: MeasuredCase | None, reason: str
) -> None:
    found = verdict(contexts, before=before)
    assert found.regime == "sampled"
    assert found.outcome == "inconclusive"
    assert found.estimate is None
    assert "judged on fresh texts alone" in found.reason
    assert reason in found.reason


def test_contexts_are_measured_only_where_the_target_changed() -> None:
    def never() -> None:
        raise AssertionError("measured though the target is the same")

    same = stored()
    assert judge(same, same, margin=MARGIN, contexts=never).outcome == "pass"


def test_log_probabilities_that_cannot_be_the_old_targets_are_an_error() -> None:
    (measured,) = in_contexts(0.0)
    found = verdict([dataclasses.replace(measured, problem="they are edited")])
    assert (found.outcome, found.reason) == ("error", "they are edited")


def test_a_record_with_other_contexts_than_its_texts_have_is_an_error() -> None:
    before = stored()
    (run,) = before.runs
    assert run.contexts is not None
    more = dataclasses.replace(run.contexts, rounds=run.contexts.rounds * 1.2)
    edited = dataclasses.replace(before, runs=(dataclasses.replace(run, contexts=more),))
    found = verdict(in_contexts(0.03), before=edited)
    assert found.outcome == "error"
    assert "contexts that its texts do not have" in found.reason


def test_a_target_that_emits_the_very_same_texts_is_judged_in_the_same_contexts() -> None:
    case = record(steady_counts(PROMPTS)).as_measured()
    now = dataclasses.replace(
        case, fingerprints=Fingerprints(target="target-2", drafter="drafter-1")
    )
    found = judge(now, stored(), margin=MARGIN, contexts=lambda: in_contexts(0.02))
    assert (found.outcome, found.regime) == ("regressed", "target changed")
    found = judge(now, stored(), margin=MARGIN)
    assert (found.outcome, found.regime) == ("pass", "drafter changed")
    assert "judged on fresh texts alone" in found.reason


def test_contexts_smoothed_at_another_temperature_are_not_compared() -> None:
    def greedy(case: MeasuredCase, smoothing: float) -> MeasuredCase:
        conditions = msgspec.structs.replace(case.conditions, temperature=0, rule="greedy")
        return dataclasses.replace(case, conditions=conditions, smoothing=smoothing)

    now, before = fresh(shifted(0.0, jitter=0.1)), stored()
    same = judge(
        greedy(now, 0.1), greedy(before, 0.1), margin=MARGIN, contexts=lambda: in_contexts(0.02)
    )
    assert same.outcome == "regressed"
    assert same.estimate is not None
    assert same.estimate.name == "in the same contexts, smoothed"
    assert same.estimate.effective_share is None
    other = judge(
        greedy(now, 0.1), greedy(before, 0.2), margin=MARGIN, contexts=lambda: in_contexts(0.02)
    )
    assert other.estimate is None
    assert "smoothed at another temperature" in other.reason


@pytest.mark.parametrize(
    ("jitter", "drop", "outcome"),
    [
        pytest.param(0.0, 0.02, "pass", id="surely-no-fall"),
        pytest.param(0.1, 0.02, "regressed", id="a-fall-perhaps"),
        pytest.param(0.0, -0.02, "pass", id="surely-no-gain"),
        pytest.param(0.1, -0.02, "improved", id="a-gain-perhaps"),
    ],
)
def test_greedy_texts_overrule_smoothed_contexts_where_their_bound_leaves_no_doubt(
    jitter: float, drop: float, outcome: str
) -> None:
    """A target whose logits are all scaled emits the same texts and looks worse, or better, when
    smoothed.
    """

    def greedy(case: MeasuredCase) -> MeasuredCase:
        conditions = msgspec.structs.replace(case.conditions, temperature=0, rule="greedy")
        return dataclasses.replace(case, conditions=conditions, smoothing=0.1)

    found = judge(
        greedy(fresh(shifted(0.0, jitter=jitter))),
        greedy(stored()),
        margin=MARGIN,
        contexts=lambda: in_contexts(drop),
    )
    assert (found.outcome, found.regime) == (outcome, "target changed")
    assert (found.estimate is None) == (outcome == "pass")
    moved = "rose" if drop < 0 else "fell"
    assert (f"on greedy texts {moved} by less" in found.reason) == (outcome == "pass")
