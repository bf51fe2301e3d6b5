"""The acceptance tests of three engines, simple statistics and our gate on the same recorded counts.

    python benchmarks/field_rules.py --into docs/gate-your-own-counts.md

judges pairs of a reference run and a later run that are drawn from recorded runs
(`field_recording.py`). Nothing changed between the two, or the later run loses accepted tokens, one
by one at random, so that the acceptance length falls by a known share. Prints Markdown: how often
each rule fails a pair, and how many prompts it needs. Takes about 10 minutes of one core.

The rules of the engines are written down as docs/gate-your-own-counts.md describes them. A floor
that its authors set by hand is taken as 95 % of the reference run, the tolerance of the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import simulation
from field_recording import Recording
from marked_page import marks_of, write_lines
from numpy.typing import NDArray
from scipy import stats

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate import judge
from pytest_specdec.gate.paired import Pair
from pytest_specdec.gate.session_test import Family, SessionTest

DRAWS, DROPS = 1000, (0.0, 0.02, 0.05, 0.1, 0.2)
ALPHA, TOLERANCE = 0.01, 0.05
MARGINS = {"our gate, margin 1 % (the default)": 0.01, "our gate, margin 5 %": 0.05}
POWER, POWER_DROP, POWER_DRAWS = 0.8, 0.05, 400
TITLES = {
    "sampled": "Sampled at temperature 1: each run has another seed.",
    "greedy": "Greedy, on engines that round differently: texts part at near-ties.",
}
MARKED = marks_of("field_rules.py")

Fails = Callable[[Counts, Sequence[Counts]], bool]
"""Whether a rule fails the attempts of a later run, given the reference run."""


def two_sided_with_positions(reference: Counts, attempts: Sequence[Counts]) -> bool:
    """vLLM, `test_eagle3_acceptance_length`."""
    (now,) = attempts
    change = now.acceptance_length / reference.acceptance_length - 1
    lost_positions = now.survival < (1 - TOLERANCE) * reference.survival
    return bool(abs(change) > TOLERANCE or lost_positions.any())


def mean_of_prompts(reference: Counts, attempts: Sequence[Counts]) -> bool:
    """vLLM, `run_acceptance_length_eval`."""
    (now,) = attempts
    return now.macro_acceptance_length < (1 - TOLERANCE) * reference.macro_acceptance_length


def best_attempt(reference: Counts, attempts: Sequence[Counts]) -> bool:
    """SGLang, `SpecDecodingMixin` with three attempts; with one attempt `SpecAccuracyKit`, and
    TensorRT-LLM, `assert_acceptance_length`: a floor at 95 % of the reference's pooled length.
    """
    floor = (1 - TOLERANCE) * reference.acceptance_length
    return max(now.acceptance_length for now in attempts) < floor


def accepts_little(reference: Counts, attempts: Sequence[Counts]) -> bool:
    """TensorRT-LLM, `test_llama_eagle3`."""
    (now,) = attempts
    return now.acceptance_rate <= 0.15


def paired_t_test(reference: Counts, attempts: Sequence[Counts]) -> bool:
    """Student's test of the differences of each prompt's length."""
    (now,) = attempts
    test = stats.ttest_rel(lengths(reference), lengths(now), alternative="greater")
    return bool(test.pvalue <= ALPHA)


def welch_test(reference: Counts, attempts: Sequence[Counts]) -> bool:
    """Two independent samples of lengths: what pairs a prompt's runs is not used."""
    (now,) = attempts
    test = stats.ttest_ind(lengths(reference), lengths(now), equal_var=False, alternative="greater")
    return bool(test.pvalue <= ALPHA)


def gates(reference: Counts, attempts: Sequence[Counts]) -> dict[str, bool]:
    """Whether our gate fails, the only one of its session, by the name of its margin."""
    (now,) = attempts
    sides = simulation.sides(reference, now)
    test = SessionTest(
        alpha=ALPHA, gates=1, family=lambda: Family(pairs={0: Pair.of(reference, now)})
    ).of(0)
    failed = {}
    for name, margin in MARGINS.items():
        verdict = judge(*sides, margin=margin, alpha=ALPHA, test=test)
        assert verdict.outcome != "error", verdict.reason
        failed[name] = verdict.outcome == "regressed"
    return failed


def default_gate(reference: Counts, attempts: Sequence[Counts]) -> bool:
    return next(iter(gates(reference, attempts).values()))


def lengths(counts: Counts) -> NDArray[np.float64]:
    """(prompts,): the acceptance length of each prompt."""
    per_prompt: NDArray[np.float64] = 1 + counts.accepted.sum(1) / counts.rounds
    return per_prompt


STATISTICS: dict[str, Fails] = {
    "two runs, not paired (Welch's t-test)": welch_test,
    "paired t-test": paired_t_test,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """The data that a test of an engine takes, and the rules that judge them."""

    prompts: int
    rules: dict[str, Fails]
    texts: int = 1
    """Texts of each prompt, where the models' contexts are too short for one long text."""
    tokens: int | None = None
    """Of each text; None for all that were recorded."""
    attempts: int = 1
    gate_draws: int = 0
    """The most pairs that our gate judges."""

    def shares(self, recording: Recording, drop: float, draws: int) -> dict[str, float]:
        """By rule, the share of pairs that it fails. All rules judge the same pairs."""
        lost = recording.lost_share(drop)
        part = recording if self.tokens is None else recording.shortened(self.tokens)
        failed: dict[str, list[bool]] = {}
        for draw in range(draws):
            reference, attempts = part.comparison(
                np.random.default_rng([self.prompts, draw]),
                prompts=self.prompts,
                lost=lost,
                attempts=self.attempts,
                texts=self.texts,
            )
            judged = {name: fails(reference, attempts) for name, fails in self.rules.items()}
            if draw < self.gate_draws:
                judged |= gates(reference, attempts)
            for name, fails in judged.items():
                failed.setdefault(name, []).append(fails)
        return {name: float(np.mean(each)) for name, each in failed.items()}


SIZES = (
    Size(
        prompts=1,
        rules={"SGLang `SpecDecodingMixin`": best_attempt},
        texts=8,
        attempts=3,
    ),
    Size(prompts=1, rules={"TensorRT-LLM `test_llama_eagle3`": accepts_little}, tokens=128),
    Size(
        prompts=80,
        rules={"vLLM `test_eagle3_acceptance_length`": two_sided_with_positions, **STATISTICS},
        gate_draws=DRAWS,
    ),
    Size(
        prompts=200,
        rules={
            "vLLM `run_acceptance_length_eval`": mean_of_prompts,
            "SGLang `SpecAccuracyKit`": best_attempt,
            **STATISTICS,
        },
        gate_draws=DRAWS,
    ),
    Size(
        prompts=1319,
        rules={"TensorRT-LLM `assert_acceptance_length`": best_attempt, **STATISTICS},
        gate_draws=100,
    ),
)


def prompts_needed(recording: Recording, fails: Fails, draws: int = POWER_DRAWS) -> int:
    """The number of prompts at which a rule fails a drop of 5 % in 80 of 100 pairs, to 3 %."""

    def powerful(prompts: int) -> bool:
        size = Size(prompts=prompts, rules={"": fails})
        return size.shares(recording, POWER_DROP, draws)[""] >= POWER

    high = 16
    while not powerful(high):
        high *= 2
    low = high // 2
    while high > 1.03 * low + 1:
        middle = round((low * high) ** 0.5)
        low, high = (low, middle) if powerful(middle) else (middle, high)
    return high


def table(recording: Recording, draws: int) -> Iterator[str]:
    """Lines of Markdown: how often each rule fails."""
    yield f"| test | prompts | no change | {' | '.join(f'-{drop:.0%}' for drop in DROPS[1:])} |"
    yield f"|---|{'---:|' * (1 + len(DROPS))}"
    for size in SIZES:
        by_drop = [size.shares(recording, drop, draws) for drop in DROPS]
        for name in by_drop[0]:
            fewer = name in MARGINS and size.gate_draws < draws
            label = f"{name} ({size.gate_draws} pairs)" if fewer else name
            cells = [label, f"{size.prompts:,}", *(f"{shares[name]:.1%}" for shares in by_drop)]
            yield f"| {' | '.join(cells)} |"


def needed_table(recordings: dict[str, Recording], draws: int) -> Iterator[str]:
    """Lines of Markdown: how many prompts each statistic needs."""
    yield f"| test | {' | '.join(recordings)} |"
    yield f"|---|{'---:|' * len(recordings)}"
    for name, fails in {**STATISTICS, next(iter(MARGINS)): default_gate}.items():
        needed = [prompts_needed(recording, fails, draws) for recording in recordings.values()]
        yield f"| {' | '.join([name, *(f'{number:,}' for number in needed)])} |"


def tables(draws: int, power_draws: int) -> Iterator[str]:
    """All lines."""
    recordings = {kind: Recording.load(kind) for kind in TITLES}
    for kind, recording in recordings.items():
        yield f"{TITLES[kind]} Shares of {draws:,} pairs that fail:"
        yield ""
        yield from table(recording, draws)
        yield ""
    yield (
        f"Prompts needed to fail a drop of {100 * POWER_DROP:g} % in {100 * POWER:g} % of pairs, "
        f"one-sided alpha {100 * ALPHA:g} %:"
    )
    yield ""
    yield from needed_table(recordings, power_draws)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=DRAWS, help="pairs for each share")
    parser.add_argument("--power-draws", type=int, default=POWER_DRAWS, help="pairs for a power")
    parser.add_argument("--into", type=Path, help="a page whose tables are replaced; else printed")
    asked = parser.parse_args()
    lines = "\n".join(tables(asked.draws, asked.power_draws))
    if asked.into is None:
        sys.stdout.write(lines + "\n")
    else:
        write_lines(asked.into, MARKED, lines)


if __name__ == "__main__":
    main()
