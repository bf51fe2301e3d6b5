"""Soaks: levels and power of the e-process, mixtures and changes by name, cold and warm caches."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.common.errors import RequestError
from pytest_specdec.engines.adapter_api import Totals
from pytest_specdec.engines.adapters.server import ServerReply
from pytest_specdec.gate.evidence import accumulate
from pytest_specdec.output.results import CheckOutcome, OutputResult
from pytest_specdec.output.served_soak import SoakLimits, check_soak
from pytest_specdec.output.soak import (
    SoakRequest,
    change_evidence,
    conformal_ranks,
    drift,
    greedy_split,
)
from pytest_specdec.output.text_server import ServedText

pytestmark = pytest.mark.slow

PROMPTS = tuple(Prompt(f"p{row}", "all", f"prompt {row}") for row in range(4))
TOKENS = 60


def test_evidence_in_one_pass_is_the_gates_evidence() -> None:
    rng = np.random.default_rng(0)
    p_values = [*rng.random(20), *(rng.random(20) ** 3)]
    ours, theirs = change_evidence(p_values), accumulate(p_values)
    assert ours.values[-1] == pytest.approx(theirs.value)
    assert max(ours.values) == pytest.approx(theirs.highest)
    assert ours.since == theirs.since


def test_ranks_of_exchangeable_scores_are_uniform_and_independent() -> None:
    """Ties are broken by chance, and prompts of other levels do not mix."""
    ranks = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        groups = np.arange(24) % 3
        ranks.append(conformal_ranks([*(rng.integers(0, 4, 24) + 10 * groups)], [*groups], rng))
    found = np.array(ranks)
    assert found.mean(0) == pytest.approx(np.full(24, 0.5), abs=0.06)
    assert found.var(0) == pytest.approx(np.full(24, 1 / 12), abs=0.02)
    correlation = np.corrcoef(found.T) - np.eye(24)
    assert np.abs(correlation).max() < 0.22


def played(prompt: int, acceptance: float, rng: np.random.Generator | None) -> SoakRequest:
    """A request of 60 tokens whose rounds accept each of 3 drafts with a probability."""
    fixed = rng or np.random.default_rng(prompt)
    rounds, tokens, first = 0, 0, None
    while tokens < TOKENS:
        accepted = int(np.argmin([*(fixed.random(3) < acceptance), False]))
        first = accepted if first is None else first
        rounds, tokens = rounds + 1, tokens + accepted + 1
    return SoakRequest(
        prompt=prompt, greedy=rng is None, rounds=rounds, accepted=tokens - rounds, first=first
    )


def sampled(acceptances: list[float], seed: int) -> list[SoakRequest]:
    rng = np.random.default_rng(seed)
    return [
        played(row % 4, 0.5 + 0.05 * (row % 4) + one, rng) for row, one in enumerate(acceptances)
    ]


def test_a_steady_server_has_no_drift_in_most_runs() -> None:
    rng = np.random.default_rng(1)
    reached = [drift(sampled([0.0] * 80, seed), rng).highest >= 10 for seed in range(100)]
    assert sum(reached) <= 20  # at most 10 in expectation


@pytest.mark.parametrize("change", [-0.2, 0.2])
def test_a_change_is_found_with_its_request(change: float) -> None:
    found = drift(sampled([0.0] * 100 + [change] * 100, 3), np.random.default_rng(0))
    assert found.highest > 1000
    assert abs(found.since - 101) < 12
    assert (found.after > found.before) == (change > 0)


def greedy(prompt: int, rounds: int, text: int = 0) -> SoakRequest:
    return SoakRequest(
        prompt=prompt, greedy=True, rounds=rounds, accepted=TOKENS - rounds, text=(prompt, text)
    )


def test_a_mixture_is_told_from_a_change_and_from_ties() -> None:
    right = [greedy(row % 4, 30 + row % 4) for row in range(40)]
    assert greedy_split(right).bad == ()
    bad = (5, 11, 17, 30)
    mixed = [greedy(one.prompt, 45) if at in bad else one for at, one in enumerate(right)]
    found = greedy_split(mixed)
    assert (found.bad, found.change) == (bad, False)
    assert found.of_bad == pytest.approx(TOKENS / 45)
    changed = [greedy(one.prompt, 45) if at >= 32 else one for at, one in enumerate(right)]
    assert greedy_split(changed).change
    tied = [greedy(one.prompt, one.rounds + at % 3) for at, one in enumerate(right)]
    assert greedy_split(tied).bad == ()
    other = [greedy(one.prompt, 45, text=1) if at in bad else one for at, one in enumerate(right)]
    assert (greedy_split(other).bad, greedy_split(other).other_texts) == ((), 4)


@dataclasses.dataclass
class ToyAdapter:
    """A server's adapter whose acceptance depends on the number of requests before."""

    acceptance: Callable[[int], float] = lambda number: 0.5
    counts: bool = True
    number: int = 0
    grown: Totals | None = None

    def encode(self, text: str) -> list[int]:
        return [*text.encode()]

    def begin(self) -> None:
        self.grown = None

    def growth(self) -> Totals | None:
        return self.grown

    def answer(
        self, ids: list[int], sampling: Sampling, new_tokens: int, seed: int, k: int
    ) -> ServerReply:
        rng = np.random.default_rng(seed) if sampling.temperature else None
        one = played(ids[-1], self.acceptance(self.number), rng)
        self.number += 1
        totals = Totals(rounds=one.rounds, drafted=3 * one.rounds, accepted=one.accepted)
        return ServerReply((ids[-1],), None, totals if self.counts else None)


@dataclasses.dataclass
class ToyTexts:
    """Answers of the same server to users; `warm` is what a second, cached request changes."""

    adapter: ToyAdapter
    warm: int = 0
    other: bool = False
    seen: set[str] = dataclasses.field(default_factory=set)

    def greedy(self, prompt: Prompt, limit: int) -> ServedText:
        text = str(prompt.text)
        rounds = 30 + self.warm * (text in self.seen)
        self.adapter.grown = Totals(rounds=rounds, drafted=90, accepted=TOKENS - rounds)
        written = "other" if self.other and text in self.seen else "text"
        self.seen.add(text)
        return ServedText(text=written, finish="length", tokens=TOKENS)

    def likeliest(self, text: str) -> list[float]:
        return [-0.1, -4.0]


def soaked(adapter: ToyAdapter, texts: ToyTexts | None = None, requests: int = 120) -> OutputResult:
    server: Any = texts or ToyTexts(adapter)
    played_by: Any = adapter
    return check_soak(
        server,
        played_by,
        PROMPTS,
        SoakLimits(requests=requests),
        k=3,
        new_tokens=TOKENS,
        seed=1,
        alpha=0.001,
    )


def test_a_steady_server_passes_and_its_course_is_printed() -> None:
    found = soaked(ToyAdapter())
    assert found.outcome is CheckOutcome.OK, found
    assert "acceptance length by request 1-20" in found.words
    assert "2.00 with a cold prefix cache and 2.00 with a warm one" in found.words


@pytest.mark.parametrize(
    ("acceptance", "words"),
    [
        (lambda number: 0.5 if number < 60 else 0.2, "all from greedy request 31 on"),
        (lambda number: 0.2 if number % 10 == 4 else 0.5, "the requests are a mixture: 12 of 60"),
        (lambda number: 0.5 if number % 2 == 0 or number < 200 else 0.1, "from sampled request"),
    ],
)
def test_what_is_unsteady_is_named(acceptance: Callable[[int], float], words: str) -> None:
    requests = 400 if words.startswith("from sampled") else 120
    found = soaked(ToyAdapter(acceptance), requests=requests)
    assert found.outcome is CheckOutcome.FAILED, found
    assert words in found.words, found.words


def test_what_a_cached_prefix_changes_is_found() -> None:
    adapter = ToyAdapter()
    found = soaked(adapter, ToyTexts(adapter, warm=9))
    assert found.outcome is CheckOutcome.FAILED
    assert "check what the drafter's cache holds of a cached prefix" in found.words
    found = soaked(adapter, ToyTexts(adapter, other=True))
    assert found.outcome is CheckOutcome.FAILED
    assert "a greedy text is another one where its prefix is cached" in found.words


def test_what_cannot_be_soaked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert soaked(ToyAdapter(), requests=20).outcome is CheckOutcome.UNCHECKED
    with pytest.raises(RequestError, match="does not count rounds; turn on its metrics"):
        soaked(ToyAdapter(counts=False))
    clock = iter(range(10**6))
    monkeypatch.setattr(time, "monotonic", lambda: 600.0 * next(clock))
    assert "requests were made in time" in soaked(ToyAdapter()).words
