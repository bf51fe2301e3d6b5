"""Simulated sessions for the gate's promises: clustered prompts with heavy-tailed acceptance,
judged by the real gate.
"""

from __future__ import annotations

import dataclasses
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # records of the tests

from helpers.records import counts, record

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate import EarlierRun, Verdict, judge, judge_accumulated
from pytest_specdec.gate.session_cells import swapped_pair
from pytest_specdec.gate.session_test import Family, SessionTest
from pytest_specdec.records.measured import MeasuredCase

Array = NDArray[np.float64]
ALPHA, MARGIN, K = 0.01, 0.005, 8


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The log-odds of acceptance of each prompt: what stays the same from run to run."""

    odds: Array
    tokens: int = 128
    """Length of a text."""
    wander: float = 0.3
    """How far acceptance wanders from text to text of a prompt: scale, in log-odds, of a Student
    distribution of 2.5 degrees.
    """

    @classmethod
    def drawn(cls, rng: np.random.Generator, prompts: int, **texts: Any) -> Prompts:
        return cls(0.8 + 0.7 * rng.standard_t(3, prompts), **texts)

    def survival(self, rng: np.random.Generator, loss: float, texts: int = 1) -> Array:
        """(texts, prompts, K) for texts of their own; each position's acceptance is lowered by the
        share `loss`.
        """
        wandering = self.odds + self.wander * rng.standard_t(2.5, (texts, len(self.odds)))
        accept = (1 - loss) / (1 + np.exp(-wandering[..., None] + 0.08 * np.arange(K)))
        return np.cumprod(accept, axis=-1)

    def length(self, loss: float) -> float:
        """The acceptance length pooled over texts without end."""
        survival = self.survival(np.random.default_rng(0), loss, texts=200)
        return 1 / float(np.mean(1 / (1 + survival.sum(-1))))

    def loss_for(self, drop: float) -> float:
        """The loss per position that lowers the acceptance length by the share `drop`."""
        whole, low, high = self.length(0.0), 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if self.length(middle) > (1 - drop) * whole else (low, middle)
            )
        return low

    def run(self, rng: np.random.Generator, mode: str, loss: float = 0.0) -> Counts:
        """One run: whole rounds counted by a decoder, or the expectations that replay gives."""
        survival = self.survival(rng, loss)[0]
        rounds = self.tokens / (1 + survival.sum(1))
        if mode == "replayed":
            return counts(rounds.tolist(), (rounds[:, None] * survival).tolist())
        rounds = np.maximum(rounds.round(), 1).astype(int)
        reached = rounds
        accepted = []
        for place in range(K):
            before = survival[:, place - 1] if place else np.ones(len(rounds))
            accept = np.divide(
                survival[:, place], before, out=np.zeros(len(rounds)), where=before > 0
            )
            reached = rng.binomial(reached, np.clip(accept, 0, 1))
            accepted.append(reached)
        return counts(rounds.tolist(), np.stack(accepted, axis=1).tolist())


def stored(run: Counts, text: str) -> MeasuredCase:
    return record(run, text=text).as_measured()


Sides = tuple[MeasuredCase, MeasuredCase]
"""A gate's run and its baseline."""


def sides(before: Counts, now: Counts) -> Sides:
    """Both sides of a gate, on texts of their own."""
    return stored(now, "text-2"), stored(before, "text-1")


def session(gates: Sequence[Sides], judged: int | None = None) -> list[Verdict]:
    """The verdicts on the first `judged` gates of a session, or on all, through the production
    path.

    Labellings are seeded by the prompts' keys, so every session has keys of its own: a level over
    sessions that shared their labellings would be that of one draw of them.
    """
    name = f"-{zlib.crc32(gates[0][0].counts.accepted.tobytes()):x}"
    return judged_session(
        [(renamed(now, name), renamed(before, name)) for now, before in gates], judged
    )


def judged_session(gates: Sequence[Sides], judged: int | None = None) -> list[Verdict]:
    """The same with the keys that the prompts have."""

    def family() -> Family:
        pairs = {number: swapped_pair(*gate) for number, gate in enumerate(gates)}
        return Family(pairs={number: pair for number, pair in pairs.items() if pair is not None})

    test = SessionTest(alpha=ALPHA, gates=len(gates), family=family)
    return [
        judge(*gate, margin=MARGIN, alpha=ALPHA, gates=len(gates), test=test.of(number))
        for number, gate in enumerate(gates[:judged])
    ]


def renamed(case: MeasuredCase, name: str) -> MeasuredCase:
    """The case with a name at the end of its prompts' keys."""

    def with_name(counts: Counts) -> Counts:
        return dataclasses.replace(counts, prompts=tuple(key + name for key in counts.prompts))

    runs = [
        dataclasses.replace(
            run.replace_counts(with_name),
            text_fingerprints={key + name: text for key, text in run.text_fingerprints.items()},
        )
        for run in case.runs
    ]
    return dataclasses.replace(case, runs=tuple(runs))


def unchanged_gates(
    rng: np.random.Generator, mode: str, *, gates: int, prompts: int
) -> list[Sides]:
    """Gates in which nothing changed, each on prompts of its own."""
    drawn = [Prompts.drawn(rng, prompts) for _ in range(gates)]
    return [sides(each.run(rng, mode), each.run(rng, mode)) for each in drawn]


def unchanged_session(
    rng: np.random.Generator, mode: str, *, gates: int, prompts: int, nights: int
) -> list[str]:
    """The outcomes of a session in which nothing changed; in mode `nightly` a gate's gravest over
    some nights.
    """
    if mode != "nightly":
        unchanged = unchanged_gates(rng, mode, gates=gates, prompts=prompts)
        return [verdict.outcome for verdict in session(unchanged)]
    outcomes = []
    for _ in range(gates):
        drawn = Prompts.drawn(rng, prompts)
        history = [verdict.outcome for verdict in nightly(rng, drawn, [0.0] * nights, gates=gates)]
        outcomes.append("regressed" if "regressed" in history else history[-1])
    return outcomes


def nightly(
    rng: np.random.Generator, prompts: Prompts, losses: list[float], *, gates: int, repeats: int = 1
) -> list[Verdict]:
    """The verdicts of successive nights with given losses, evidence accumulating."""
    runs = [stored(prompts.run(rng, "counted"), f"base-{row}") for row in range(repeats)]
    before = dataclasses.replace(runs[0], runs=tuple(run.runs[0] for run in runs))
    earlier: list[EarlierRun] = []
    verdicts = []
    for number, loss in enumerate(losses):
        now = stored(prompts.run(rng, "counted", loss), f"night-{number}")
        verdict, p_value = judge_accumulated(
            now, before, earlier, margin=MARGIN, alpha=ALPHA, gates=gates
        )
        assert p_value is not None
        earlier.append(EarlierRun(p_value=p_value, counts=now.counts))
        verdicts.append(verdict)
    return verdicts
