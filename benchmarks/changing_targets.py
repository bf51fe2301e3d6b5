"""A fixed drafter while its target is fine-tuned: the curve of its loss beside the truth.

    python benchmarks/changing_targets.py run --sequence json-1 > benchmarks/results/targets-json-1.jsonl
    python benchmarks/changing_targets.py page benchmarks/results/targets-*.jsonl

A sequence takes 20 steps of the embedded target on documents of one kind, Adam with a rate that
makes the drafter stale within them. Its texts are sampled from the target before the first step. The
loss at each step is measured on them (the same contexts); every fourth step also on fresh texts of
that step's target, on the same prompts, which is the truth that the curve stands for. `draws`
samples of 40 prompts then show what a user with so many would have seen: how often all intervals
of the curve together hold the truth, and when the margin is passed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "suites" / "models"))

import corpus
from changed_target import prompts as beginnings
from helpers.embedded import Pair as ModelPair
from marked_page import marks_of, write_lines

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.stale_drafter import StaleDrafter
from pytest_specdec.gate.staleness import StalenessCurve, TargetMeasured, staleness_curve

STEPS, K, NEW_TOKENS = 20, 4, 64
FRESH = (4, 8, 12, 16, 20)
SAMPLE, MARGIN, ALPHA = 40, 0.02, 0.01
DOCS = Path(__file__).parent.parent / "docs"
PAGE, PICTURE = DOCS / "changing-targets.md", DOCS / "changing-targets.svg"
MARKED = marks_of("changing_targets.py")
SEQUENCES: dict[str, tuple[str, int, float]] = {
    "json": ("json", 1, 5e-4),
    "dialogue": ("dialogue", 1, 5e-4),
    "code": ("code", 1, 1e-3),
    "code, fast": ("code", 2, 3e-3),
}
"""Name: kind of documents, seed, rate of Adam."""


class FineTuning:
    """The target in training; `step` changes its weights in place."""

    def __init__(self, model: LoadedModel, kind: str, seed: int, rate: float) -> None:
        self._model, self._rng = model, random.Random(seed)
        self._documents = documents(kind, seed)
        weights = list(model.model.parameters())
        for weight in weights:
            weight.requires_grad_(True)
        with torch.inference_mode(False):
            self._optimizer = torch.optim.Adam(weights, lr=rate)

    def step(self) -> None:
        texts = [self._rng.choice(self._documents)[:300] for _ in range(8)]
        with torch.enable_grad(), torch.inference_mode(False):
            loss = torch.stack(
                [
                    self._model.model(ids, labels=ids).loss
                    for ids in (
                        torch.tensor([self._model.tokenizer(text)["input_ids"][:80]])
                        for text in texts
                    )
                ]
            ).mean()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()


def documents(kind: str, seed: int) -> list[str]:
    """Documents of one kind of the corpus generator."""
    rng = random.Random(seed + 100)
    if kind == "code":
        return [text for text in corpus._code(rng) if len(text) > 100]
    make = {"json": corpus.json_document, "dialogue": corpus.dialogue_document}[kind]
    return [make(rng) for _ in range(400)]


def named(counts: Counts) -> dict[str, Any]:
    """What is kept of counts: a round from every start."""
    return {
        "rounds": counts.rounds.tolist(),
        "accepted": np.round(counts.accepted.sum(1), 6).tolist(),
    }


def run(sequence: str, count: int) -> None:
    kind, seed, rate = SEQUENCES[sequence]
    pair = ModelPair.load()
    texts = [pair.target.tokenizer.decode(ids) for ids in beginnings(count, pair)]
    prompts = [
        Prompt(key=str(row), category="all", text=text)
        for row, text in enumerate(dict.fromkeys(texts))
    ]
    options: dict[str, Any] = {"k": K, "new_tokens": NEW_TOKENS}
    fixed = StaleDrafter(pair.draft, prompts, **options)
    training = FineTuning(pair.target, kind, seed, rate)
    for step in range(STEPS + 1):
        began = time.perf_counter()
        if step:
            training.step()
        row = fixed.measure(str(step), pair.target)
        entry = {"sequence": sequence, "step": step, "contexts": row.contexts}
        entry |= {"effective": row.effective_share, **named(row.counts)}
        if step in FRESH:
            fresh = StaleDrafter(pair.draft, prompts, **options, seed=1).measure("", pair.target)
            entry["fresh"] = named(fresh.counts)
        if step == 0:
            other = StaleDrafter(pair.draft, prompts, **options, seed=1).measure("", pair.target)
            entry["fresh"] = named(other.counts)
        entry["seconds"] = round(time.perf_counter() - began, 1)
        print(json.dumps(entry), flush=True)


def counts_of(kept: dict[str, Any]) -> Counts:
    """As `named` wrote them."""
    rounds, accepted = np.array(kept["rounds"]), np.array(kept["accepted"])
    names = tuple(map(str, range(len(rounds))))
    return Counts(names, ("all",) * len(names), rounds, rounds[:, None], accepted[:, None])


@dataclasses.dataclass(frozen=True)
class TuningRun:
    """What one run wrote."""

    name: str
    measured: list[TargetMeasured]

    @classmethod
    def read(cls, path: Path) -> TuningRun:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        measured = [
            TargetMeasured(
                name=str(row["step"]),
                counts=counts_of(row),
                contexts=row["contexts"],
                effective_share=row["effective"],
                unseen=0.0,
                fresh=counts_of(row["fresh"]) if "fresh" in row else None,
            )
            for row in rows
        ]
        return cls(rows[0]["sequence"], measured)

    def curve(self, rows: list[int] | None = None) -> StalenessCurve:
        """Of all prompts, or of some."""
        measured = self.measured
        if rows is not None:
            measured = [
                dataclasses.replace(
                    one,
                    counts=one.counts.select(rows),
                    fresh=None if one.fresh is None else one.fresh.select(rows),
                )
                for one in measured
            ]
        return staleness_curve(measured, margin=MARGIN, alpha=ALPHA)


def draws(sequence: TuningRun, count: int) -> dict[str, Any]:
    """What samples of 40 prompts say, beside all prompts."""
    truth = sequence.curve()
    rng = np.random.default_rng(0)
    prompts = truth.prompts
    held, fresh_held, passed = 0, 0, []
    for _ in range(count):
        curve = sequence.curve(rng.choice(prompts, SAMPLE, replace=False).tolist())
        held += all(
            point.interval[0] <= true.loss <= point.interval[1]
            for point, true in zip(curve.points, truth.points, strict=True)
        )
        fresh_held += all(
            point.fresh_loss[1] <= true.fresh_loss[0] <= point.fresh_loss[2]
            for point, true in zip(curve.points, truth.points, strict=True)
            if point.fresh_loss is not None and true.fresh_loss is not None
        )
        passed.append(STEPS + 1 if curve.passed is None else curve.passed)
    first = next((at for at, point in enumerate(truth.points) if point.loss > MARGIN), None)
    early = sum(at <= STEPS and truth.points[at].loss <= MARGIN for at in passed)
    return {
        "held": held / count,
        "fresh": fresh_held / count,
        "passed": float(np.median(passed)),
        "first": first,
        "early": early,
    }


def page(paths: list[Path], count: int) -> None:
    sequences = [TuningRun.read(path) for path in paths]
    lines = [
        "| sequence | step | length | loss, 40 prompts | loss (truth) | fresh (truth) | effective |",
        "|---|---|---|---|---|---|---|",
    ]
    for sequence in sequences:
        lines += _steps(sequence)
    lines += [
        "",
        "| sequence | coverage | fresh coverage | stale: samples | stale: truth | too early |",
        "|---|---|---|---|---|---|",
    ]
    for sequence in sequences:
        found = draws(sequence, count)
        never = found["passed"] > STEPS
        lines.append(
            f"| {sequence.name} | {found['held']:.1%} | {found['fresh']:.1%} | "
            f"{'never' if never else format(found['passed'], 'g')} | "
            f"{'never' if found['first'] is None else found['first']} | "
            f"{found['early']} of {count} |"
        )
    write_lines(PAGE, MARKED, "\n".join(lines))
    write_picture(sequences, PICTURE)


def example(sequence: TuningRun) -> StalenessCurve:
    """The curve of 40 prompts that the page shows."""
    rng = np.random.default_rng(1)
    rows = rng.choice(sequence.curve().prompts, SAMPLE, replace=False)
    return sequence.curve(rows.tolist())


def _steps(sequence: TuningRun) -> list[str]:
    shown, truth = example(sequence), sequence.curve()
    lines = []
    for point, true in zip(shown.points, truth.points, strict=True):
        if int(true.name) not in (0, 1, 2, *FRESH):
            continue
        low, high = point.interval
        fresh = "-"
        if true.fresh_loss is not None:
            loss, below, above = true.fresh_loss
            fresh = f"{loss:+.2%} ({below:+.2%} to {above:+.2%})"
        share = "-" if true.effective_share is None else f"{true.effective_share:.0%}"
        if true.contexts not in ("0", true.name):
            share += f", texts of {true.contexts}"
        lines.append(
            f"| {sequence.name} | {true.name} | {true.length:.3f} | "
            f"{point.loss:+.2%} ({low:+.2%} to {high:+.2%}) | {true.loss:+.2%} | {fresh} | {share} |"
        )
    return lines


def write_picture(sequences: list[TuningRun], path: Path) -> None:
    """A panel for each sequence. Raises SystemExit without matplotlib."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("the picture needs matplotlib; run: pip install '.[plots]'") from None
    mpl.rcParams.update({"svg.hashsalt": "targets", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(3.4 * len(sequences), 3.2), layout="constrained")
    for axes, sequence in zip(
        np.atleast_1d(figure.subplots(1, len(sequences))), sequences, strict=True
    ):
        shown, truth = example(sequence), sequence.curve()
        steps = range(len(truth.points))
        low, high = ([100 * point.interval[end] for point in shown.points] for end in (0, 1))
        axes.fill_between(steps, low, high, color="#0072b2", alpha=0.2, linewidth=0)
        axes.plot(
            steps, [100 * one.loss for one in shown.points], color="#0072b2", label="40 prompts"
        )
        axes.plot(
            steps,
            [100 * one.loss for one in truth.points],
            color="black",
            linestyle=":",
            label="all prompts",
        )
        fresh = [
            (int(one.name), *(100 * value for value in one.fresh_loss))
            for one in truth.points
            if one.fresh_loss is not None
        ]
        at, loss, below, above = map(np.array, zip(*fresh, strict=True))
        axes.errorbar(
            at,
            loss,
            yerr=[loss - below, above - loss],
            fmt="s",
            markersize=4,
            color="#d55e00",
            label="fresh texts",
        )
        axes.axhline(100 * MARGIN, color="grey", linewidth=0.8)
        axes.set(title=sequence.name, xlabel="step", ylabel="loss of length, %")
        axes.legend(fontsize=7)
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--sequence", choices=SEQUENCES, required=True)
    running.add_argument("--prompts", type=int, default=400)
    writing = commands.add_parser("page")
    writing.add_argument("results", nargs="+", type=Path)
    writing.add_argument("--draws", type=int, default=300)
    given = parser.parse_args()
    if given.command == "run":
        run(given.sequence, given.prompts)
    else:
        page(given.results, given.draws)


if __name__ == "__main__":
    main()
