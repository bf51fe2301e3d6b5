"""Controllers run online beside what replay predicts of them: tokens and drafts per round, and
speed-up in CPU time.

    python benchmarks/dynamic_k.py run embedded --temperature 0 > benchmarks/results/dynamic-embedded-t0.jsonl
    python benchmarks/dynamic_k.py run smollm2 --temperature 1 > benchmarks/results/dynamic-smollm2-t1.jsonl
    python benchmarks/dynamic_k.py page benchmarks/results/dynamic-*.jsonl

One thread decodes each prompt plainly, with each controller and with one fixed k in turn, so that a
slow moment meets all. The fixed k give what a round takes by the number of its drafts, and how much
longer the first of a text takes, in which the drafter reads the prompt; the prediction knows nothing
else of the controllers' times (those of controllers that stop by confidence come from decodes that look
at confidences and never stop). It is made on the very texts that each decode emitted, at batch size 1.
`page` writes the table of docs/dynamic-k.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from marked_page import marks_of, write_lines
from scipy import stats

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text, texts_from_ids
from pytest_specdec.decoding.batch import Batch, BatchRow, DecodingPlan
from pytest_specdec.decoding.confidence import confidences
from pytest_specdec.decoding.controlled_rows import RowControl
from pytest_specdec.decoding.drafters.draft_model import DraftModel
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import encode_prompts, eos_ids
from pytest_specdec.decoding.verification import rule_named
from pytest_specdec.speedup.controlled import controlled
from pytest_specdec.speedup.controllers import (
    AcceptanceGate,
    BestByAverage,
    Controller,
    FixedDrafts,
    HeuristicSchedule,
)
from pytest_specdec.speedup.cost_profile import CostProfile
from pytest_specdec.speedup.learning_controllers import AdaptiveSteps, TunedThreshold
from pytest_specdec.speedup.policies import times

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "dynamic-k.md"
MARKED = marks_of("dynamic_k.py")


class Setting:
    """A pair and how it is decoded."""

    def __init__(self, name: str, temperature: float) -> None:
        small = self.small = name == "embedded"
        suite = ROOT / "suites" / ("text" if small else "smollm2")
        folder = ROOT / "suites" / "models" if small else suite / "models"
        names = ("text-target", "text-draft") if small else ("target", "exit-20")
        dtype = "float32"  # where equal arg-maxima stay equal in cached passes
        self.target, self.draft = (load_model(str(folder / one), "cpu", dtype) for one in names)
        self.k, self.new_tokens = (6, 64) if small else (3, 24)
        prompts = read_prompts(suite / "prompts.jsonl")
        self.prompts = encode_prompts(self.target.tokenizer, prompts)
        self.sampling = Sampling(temperature)
        costs = CostProfile.load(suite / "costs.json")
        self.round_ms = tuple(map(times(costs), range(self.k + 1)))

    def controllers(self) -> list[Controller]:
        k = self.k
        few: list[Controller] = [
            HeuristicSchedule(min(5, k), k),
            FixedDrafts(k, 0.4),
            AdaptiveSteps(candidate_steps=(0, 1, 3), initial_steps=3, warmup_batches=5),
            BestByAverage(self.round_ms, window=8),
        ]
        if not self.small:
            return few
        return [
            *few,
            HeuristicSchedule(min(5, k), k, carries=True),
            TunedThreshold(k),
            AdaptiveSteps(candidate_steps=(1, 2, k), initial_steps=2, warmup_batches=5),
            # At temperature 1 a run closes the gate or does not: its expectation is of neither.
            *([AcceptanceGate(3, 3, 0.9)] if self.sampling.temperature == 0 else []),
        ]


def decoded(
    setting: Setting, ids: list[int], control: RowControl | None, k: int, seed: int
) -> tuple[BatchRow, list[tuple[int, float]]]:
    """A text, and of each of its rounds the drafted tokens and CPU milliseconds."""
    greedy = setting.sampling.temperature == 0
    plan = DecodingPlan(
        target=setting.target,
        drafter=DraftModel(setting.draft, 0) if k else None,
        k=k,
        depth=0,
        sampling=setting.sampling,
        rule=rule_named("greedy" if greedy else "rejection"),
        generator=torch.Generator().manual_seed(seed),
        stop=frozenset(eos_ids(setting.target)),
        controller=None if control is None else control.controller,
    )
    row = BatchRow([*ids], len(ids) + setting.new_tokens, control=control)
    batch, spent = Batch(plan, [row]), []
    while batch.running:
        begun = time.process_time()
        batch.draft()
        batch.verify()
        ended = time.process_time()
        spent.append((row.rounds[-1].drafted, 1e3 * (ended - begun)))
    return row, spent


def run(name: str, temperature: float, count: int, only: str) -> None:
    torch.set_num_threads(1)
    setting = Setting(name, temperature)
    controllers = [one for one in setting.controllers() if only in one.name]
    states = [controller.first() for controller in controllers]
    emitted: dict[int, list[tuple[BatchRow, int]]] = defaultdict(list)
    spent: dict[int, list[float]] = defaultdict(list)
    by_drafts: dict[tuple[bool, int], list[float]] = defaultdict(list)
    reading: list[float] = []
    plain: list[tuple[int, float]] = []
    decoded(setting, setting.prompts[0], RowControl(FixedDrafts(2), None), 2, 0)  # warms up
    step = max(1, len(setting.prompts) // count)
    for number, ids in enumerate(setting.prompts[::step][:count]):
        row, rounds = decoded(setting, ids, None, 0, number)
        plain.append((len(rounds), sum(ms for _, ms in rounds)))
        for at, controller in enumerate(controllers):
            control = RowControl(controller, states[at])
            row, rounds = decoded(setting, ids, control, controller.most, 1000 * at + number)
            states[at] = controller.ended(control.state)
            emitted[at].append((row, len(ids)))
            spent[at].append(sum(ms for _, ms in rounds))
        k, extra = 1 + number % setting.k, []
        for stops in (False, True):
            never = FixedDrafts(k, 1e-9 if stops else 0.0)  # looks at confidences and goes on
            _, rounds = decoded(setting, ids, RowControl(never, None), k, number)
            later = [ms for drafted, ms in rounds[1:] if drafted == k]
            by_drafts[stops, k] += later
            extra.append(rounds[0][1] - statistics.fmean(later))
        reading.append(statistics.fmean(extra))
        print(f"{number + 1} of {count}", file=sys.stderr, flush=True)
    step_ms = sum(ms for _, ms in plain) / sum(steps for steps, _ in plain)
    for at, controller in enumerate(controllers):
        costs = {0: step_ms}
        for k in range(1, setting.k + 1):
            costs[k] = statistics.fmean(by_drafts[controller.stops, k])
        row = compared(setting, controller, emitted[at], spent[at], costs, reading)
        row |= {"pair": name, "temperature": temperature, "costs": costs}
        print(json.dumps(row), flush=True)


def compared(
    setting: Setting,
    controller: Controller,
    rows: Sequence[tuple[BatchRow, int]],
    spent: Sequence[float],
    costs: dict[int, float],
    reading: Sequence[float],
) -> dict[str, Any]:
    """A controller as it was counted and timed, and as it was predicted on the same texts.

    `errors` are standard errors of the relative differences over texts, of length, drafts per round
    and time.
    """
    texts = texts_from_ids([row.tokens for row, _ in rows], [length for _, length in rows])
    walked = predicted(setting, controller, texts)
    counted = np.array(
        [[len(row.rounds), sum(one.drafted for one in row.rounds)] for row, _ in rows]
    )
    drafts = walked.rounds[:, 0]
    expected = np.stack([drafts.sum(1), drafts @ np.arange(drafts.shape[1])], 1)
    apart = counted - expected
    error = np.sqrt((apart**2).sum(0))
    tokens = float(walked.tokens.sum())
    by_text = sum(drafts[:, k] * cost for k, cost in costs.items() if k < drafts.shape[1])
    # The drafter reads the prompt once in each text in which it drafts at all.
    by_text = by_text + np.array(reading) * np.minimum(drafts[:, 1:].sum(1), 1)
    ms, rounds = float(by_text.sum()), expected[:, 0].sum()
    per_round = expected[:, 1].sum() / rounds
    errors = [
        _root(apart[:, 0]) / rounds,
        _root(apart[:, 1] - per_round * apart[:, 0]) / expected[:, 1].sum(),
        _root(np.array(spent) - by_text * (sum(spent) / ms)) / ms,
    ]
    return {
        "controller": controller.name,
        "exact": walked.exact,
        "equal": bool(np.allclose(apart, 0)),
        "errors": errors,
        "z": [float(a / e) if e else 0.0 for a, e in zip(apart.sum(0), error, strict=True)],
        "length": [tokens / expected[:, 0].sum(), tokens / counted[:, 0].sum()],
        "drafted": [
            expected[:, 1].sum() / expected[:, 0].sum(),
            counted[:, 1].sum() / counted[:, 0].sum(),
        ],
        "speedup": [tokens * costs[0] / ms, tokens * costs[0] / sum(spent)],
        "texts": len(texts),
        "rounds": int(counted[:, 0].sum()),
    }


def _root(apart: np.ndarray[Any, Any]) -> float:
    """The standard error of a sum whose summands should be zero."""
    return float(np.sqrt((apart**2).sum()))


def predicted(setting: Setting, controller: Controller, texts: tuple[Text, ...]) -> Any:
    """The controller on these texts, by replay."""
    plan = DrafterPlan(DraftModel(setting.draft, 0), 0, setting.k)
    (scores,) = text_scores(setting.target, [plan], texts, setting.sampling)
    sure = None
    if controller.stops:
        sure = confidences(
            setting.target, setting.draft, texts, k=setting.k, sampling=setting.sampling
        )
    limits = np.array([text.prompt_length + setting.new_tokens for text in texts])
    field = scores.field("rejection" if setting.sampling.temperature else "greedy")
    return controlled(field, controller, most=setting.k, confidences=sure, limits=limits)


def page(paths: Sequence[Path]) -> None:
    found = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    latest = {(row["pair"], row["temperature"], row["controller"]): row for row in found}
    rows = sorted(latest.values(), key=lambda row: (row["pair"], row["temperature"]))
    lines = [
        "| pair | T | controller | texts | length | apart, % | drafted | apart, % | speed-up | apart, % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += map(_line, rows)
    for temperature in sorted({row["temperature"] for row in rows}):
        some = [row for row in rows if row["temperature"] == temperature]
        apart = [max(abs(row[what][1] / row[what][0] - 1) for row in some) for what in _COMPARED]
        beyond = sum(_surely(row) > 0.1 for row in some)
        lines += [
            "",
            f"Largest differences at temperature {temperature:g}: length {apart[0]:.1%}, drafted "
            f"{apart[1]:.1%}, speed-up {apart[2]:.1%}. Surely beyond 10 %: {beyond} of {len(some)} "
            "controllers.",
        ]
    write_lines(PAGE, MARKED, "\n".join(lines))


_COMPARED = ("length", "drafted", "speedup")


def _line(row: dict[str, Any]) -> str:
    cells = [row["pair"], f"{row['temperature']:g}", row["controller"], row["texts"]]
    for at, what in enumerate(_COMPARED):
        before, now = row[what]
        equal = row["equal"] and what != "speedup"
        apart = "equal" if equal else f"{100 * (now / before - 1):+.1f}"
        if not equal and (reach := _reach(row, at)) is not None:
            apart += f" ± {100 * reach:.1f}"
        cells += [f"{before:.3f} / {now:.3f}", apart]
    return "| " + " | ".join(map(str, cells)) + " |"


def _reach(row: dict[str, Any], at: int) -> float | None:
    """Half of the 95 % interval of a relative difference, over texts like these; None where the run
    did not keep it.
    """
    errors = row.get("errors") or _errors_of_counts(row)
    error = errors[at]
    return None if error is None else float(stats.t.ppf(0.975, row["texts"] - 1)) * float(error)


def _errors_of_counts(row: dict[str, Any]) -> list[float | None]:
    """Relative standard errors of rounds and drafts of a run that kept only how many of them they
    are apart.
    """
    counted = row["rounds"], row["rounds"] * row["drafted"][1]
    rounds = row["rounds"] * row["length"][1] / row["length"][0]
    expected = rounds, rounds * row["drafted"][0]
    errors: list[float | None] = [
        abs(now - before) / abs(z) / before if z else 0.0
        for now, before, z in zip(counted, expected, row["z"], strict=True)
    ]
    return [*errors, None]


def _surely(row: dict[str, Any]) -> float:
    """The most by which one of the three surely differs, relatively."""
    return max(
        abs(row[what][1] / row[what][0] - 1) - (_reach(row, at) or 0.0)
        for at, what in enumerate(_COMPARED)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("pair", choices=("embedded", "smollm2"))
    running.add_argument("--temperature", type=float, default=0.0)
    running.add_argument("--prompts", type=int, default=20)
    running.add_argument("--only", default="", metavar="WORDS", help="controllers named so")
    writing = commands.add_parser("page")
    writing.add_argument("results", nargs="+", type=Path)
    given = parser.parse_args()
    if given.command == "run":
        run(given.pair, given.temperature, given.prompts, given.only)
    else:
        page(given.results)


if __name__ == "__main__":
    main()
