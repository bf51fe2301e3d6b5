"""Histories that wrong engines keep for logits processors: what they are, that they do not know the token
that is bet on, and that texts of such engines are found by them, and those of right ones are not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.support import EMBEDDED
from hypothesis import given, settings
from hypothesis import strategies as st
from processor_power import (
    PENALTY,
    STRONG,
    AcceptedCountTwice,
    RejectedCount,
    Verifying,
    WrongProcessors,
)

from pytest_specdec import decode
from pytest_specdec.acceptance.rounds import Round
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text
from pytest_specdec.common.errors import RequestError
from pytest_specdec.lossless import conformance
from pytest_specdec.lossless.texts.histories import REJECTED, ROUNDS_START, TWICE, RoundHistories

TARGET, DRAFT = str(EMBEDDED / "text-target"), str(EMBEDDED / "text-draft")
PROMPTS = ["def read(path):", "The standard library", "for name in", "import os", "The value"]


def text(ids: list[int]) -> Text:
    return Text(key="0", category="all", ids=tuple(ids), prompt_length=2)


def test_histories_are_those_of_the_defects() -> None:
    """Prompt 1 2, token 3; drafts 4 5 9 of which 4 5 are kept, then 6; drafts 7 9 9, then 8."""
    found = RoundHistories(
        text([1, 2, 3, 4, 5, 6, 7, 8, 0]),
        [Round(3, 3, 2), Round(6, 3, 1)],
        [(4, 5, 9), (7, 9, 10)],
        0,
    )
    assert found.before(2) == dict.fromkeys((REJECTED, TWICE, ROUNDS_START), (1, 2))
    assert found.before(5) == {
        REJECTED: (1, 2, 3, 4, 5),
        TWICE: (1, 2, 3, 4, 5),
        ROUNDS_START: (1, 2, 3),
    }
    assert found.before(7) == {
        REJECTED: (1, 2, 3, 4, 5, 9, 6, 7),
        TWICE: (1, 2, 3, 4, 5, 4, 5, 6, 7),
        ROUNDS_START: (1, 2, 3, 4, 5, 6),
    }
    assert found.before(8) == {
        REJECTED: (1, 2, 3, 4, 5, 9, 6, 7, 9, 10, 8),
        TWICE: (1, 2, 3, 4, 5, 4, 5, 6, 7, 7, 8),
        ROUNDS_START: (1, 2, 3, 4, 5, 6, 7, 8),
    }


rounds_of = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6)


@given(rounds_of, st.integers(0, 30), st.data())
@settings(deadline=None, max_examples=80)
def test_a_history_does_not_know_its_token_and_none_behind_it(
    sizes: list[tuple[int, int]], place: int, data: Any
) -> None:
    """Other tokens, drafts and acceptances from the token on leave what is bet on it as it is."""
    rounds, start = [], 3
    for drafted, accepted in sizes:
        rounds.append(Round(start, max(drafted, accepted), accepted))
        start += accepted + 1
    position = 2 + place % (start - 2)
    ids = data.draw(st.lists(st.integers(0, 9), min_size=start, max_size=start))
    drafts = [tuple(data.draw(st.integers(0, 9)) for _ in range(one.drafted)) for one in rounds]
    over = [one.start + one.accepted < position for one in rounds]
    other_ids = [*ids[:position], *(token + 10 for token in ids[position:])]
    other_drafts = [
        one if ended else tuple(token + 10 for token in one)
        for one, ended in zip(drafts, over, strict=True)
    ]
    reached = [
        one if ended else Round(one.start, one.drafted + 1, max(position - one.start, 0))
        for one, ended in zip(rounds, over, strict=True)
        if ended or one.start <= position
    ]
    longer = [(*one, 77) for one in other_drafts]
    first = RoundHistories(text(ids), rounds, drafts, 0).before(position)
    second = RoundHistories(text(other_ids), reached, longer[: len(reached)], 0).before(position)
    assert first == second


def test_an_unknown_rejected_draft_is_drawn_where_the_drafter_has_more_than_the_target() -> None:
    found = RoundHistories(text([1, 2, 3, 4, 5]), [Round(3, 2, 0)], None, 0)
    p, q = torch.tensor([0.0, -50.0, -50.0]), torch.tensor([-50.0, 0.0, -50.0])
    found.before(3)
    found.draw(3, p, q, Sampling())
    assert found.before(4)[REJECTED] == (1, 2, 3, 1, 4)


WRONG = {
    "rejected drafts count": (RejectedCount, REJECTED, STRONG, 1),
    "accepted drafts count twice": (AcceptedCountTwice, TWICE, PENALTY, 4),
}


def decoded(
    way: type[Verifying],
    new_tokens: int,
    *,
    seed: int = 0,
    penalty: Any = STRONG,
    times: int = 1,
) -> Any:
    options: dict[str, Any] = {"processors": WrongProcessors((penalty,), way=way), "seed": seed}
    return decode(TARGET, DRAFT, PROMPTS * times, k=3, new_tokens=new_tokens, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_history_is_found_and_named(name: str) -> None:
    way, suspect, penalty, times = WRONG[name]
    run = decoded(way, 110, penalty=penalty, times=times)
    known: dict[str, Any] = {"rounds": run.rounds, "drafts": run.drafts}
    found = conformance(TARGET, run.texts, drafter=DRAFT, processors=penalty, **known)
    assert not found.conforms
    assert found.suspect.removeprefix("some tokens: ") == suspect
    assert found.message.endswith("the emitted tokens and the drafts before it, each once")


def test_the_right_twin_conforms() -> None:
    for seed in range(3):
        run = decoded(Verifying, 60, seed=seed)
        known: dict[str, Any] = {"rounds": run.rounds, "drafts": run.drafts}
        found = conformance(TARGET, run.texts, drafter=DRAFT, processors=STRONG, **known)
        assert found.conforms, found.message


class OfPlaces:
    """Masks by place, of so many places."""

    def __init__(self, places: int) -> None:
        self._allowed = [range(1024)] * places

    def for_prompt(self, prompt: Any) -> Callable[..., torch.Tensor]:
        def mask(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            kept = torch.full_like(scores, -torch.inf)
            chosen = self._allowed[ids.shape[1] - len(prompt)]
            kept[:, chosen] = scores[:, chosen]
            return kept

        return mask


def test_processors_that_cannot_have_another_history_bet_nothing() -> None:
    """And it is said; a processor with room for these histories says nothing."""
    run = decode(TARGET, DRAFT, PROMPTS, k=3, new_tokens=8, processors=OfPlaces(12))
    known = {"drafter": DRAFT, "rounds": run.rounds, "drafts": run.drafts}
    found = conformance(TARGET, run.texts, processors=OfPlaces(9), **known)
    assert found.conforms
    assert "tokens of 5 texts conform to the target; the logits processors failed" in found.message
    assert "(IndexError: list index out of range), and nothing was bet there" in found.message
    assert found.unbet in found.report()
    roomy = conformance(TARGET, run.texts, processors=OfPlaces(64), **known)
    assert roomy.message.endswith("conform to the target; nothing to do")
    assert roomy.evidence >= found.evidence


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("places", [0, 5])
def test_processors_that_fail_after_a_text_of_the_engine_are_an_error(
    known: bool, places: int
) -> None:
    """Always, or behind some place."""
    run = decode(TARGET, DRAFT, PROMPTS, k=3, new_tokens=8, processors=OfPlaces(12))
    options: dict[str, Any] = {"rounds": run.rounds, "drafts": run.drafts} if known else {}
    with pytest.raises(IndexError):
        conformance(TARGET, run.texts, processors=OfPlaces(places), **options)


def test_a_processor_that_a_wrong_history_breaks_still_judges_the_text() -> None:
    """State is apart: what fails once fails for ever in this processor."""

    class Fragile(OfPlaces):
        def for_prompt(self, prompt: Any) -> Callable[..., torch.Tensor]:
            broken, mask = [], super().for_prompt(prompt)

            def fragile(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
                if broken or ids.shape[1] < len(prompt):
                    broken.append(True)
                    raise ValueError("broken")
                return mask(ids, scores)

            return fragile

    run = decode(TARGET, DRAFT, PROMPTS, k=3, new_tokens=8, processors=OfPlaces(12))
    found = conformance(
        TARGET, run.texts, processors=Fragile(64), rounds=run.rounds, drafts=run.drafts
    )
    assert found.conforms
    assert "(ValueError: broken)" in found.unbet


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        ({"drafts": ()}, "drafts need their rounds"),
        ({"rounds": ()}, "rounds of 0 texts were passed for 5"),
        ({"rounds": "same", "drafts": [()] * 5}, "pass the drafts of each round"),
    ],
)
def test_rounds_and_drafts_that_do_not_fit_are_refused(
    known: dict[str, Any], sentence: str
) -> None:
    run = decoded(Verifying, 6)
    if known.get("rounds") == "same":
        known = {**known, "rounds": run.rounds}
    with pytest.raises(RequestError, match=sentence):
        conformance(TARGET, run.texts, processors=STRONG, **known)


def test_decode_says_what_was_drafted() -> None:
    run = decode(TARGET, DRAFT, PROMPTS, k=3, new_tokens=12)
    for one, rounds, drafts in zip(run.texts, run.rounds, run.drafts, strict=True):
        for round_, tokens in zip(rounds, drafts, strict=True):
            assert len(tokens) == round_.drafted
            kept = one.ids[round_.start : round_.start + round_.accepted]
            assert tokens[: round_.accepted] == kept
    assert dataclasses.is_dataclass(run)
