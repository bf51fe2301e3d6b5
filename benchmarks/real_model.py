"""What a real model shows: acceptance of drafters of SmolLM2-135M-Instruct by replay, and the
speed of `decode` beside plain decoding.

    python benchmarks/real_model.py acceptance > benchmarks/results/real-acceptance.json
    python benchmarks/real_model.py changes > benchmarks/results/real-changes.json
    python benchmarks/real_model.py speed --drafter EAGLE-3 \\
        > benchmarks/results/real-speed-eagle3.json
    python benchmarks/real_model.py page benchmarks/results/real-*.json    # and its picture

The checkpoints are those of `make smollm2`, and for `changes` those that
`python suites/smollm2/build.py` makes of the folders in `CHANGED`. Speeds want a quiet machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import decode_speed
import numpy as np
import torch
from real_model_page import write_page

from pytest_specdec import Counts, LoadedModel, Text, load_model
from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.acceptance.scores import Scores
from pytest_specdec.cases.case import Sampling, checked_rule
from pytest_specdec.cases.prompts import Prompt, read_prompts
from pytest_specdec.cases.texts import texts_of_prompts
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens
from pytest_specdec.gate.changed_drafter import bounded
from pytest_specdec.gate.facts import ComparisonFacts
from pytest_specdec.gate.paired import Pair

ROOT = Path(__file__).parent.parent
SUITE = ROOT / "suites" / "smollm2"
TARGET = SUITE / "models" / "target"
DRAFTERS = {
    "EAGLE-3": (str(SUITE / "models" / "eagle3"), 0),
    "early exit (20 of 30 layers)": (str(SUITE / "models" / "exit-20"), 0),
    "prompt lookup": ("prompt-lookup", 0),
}
CHANGED = {
    "EAGLE-3": ("eagle3-int8", "eagle3-int4"),
    "early exit (20 of 30 layers)": ("exit-19", "exit-20-window-64", "exit-20-window-16"),
}
"""Changed drafters of the suite, by the one that they replace."""
CHANGED_K, MARGIN, LEVEL = 4, 0.01, 0.005
"""As the gate judges a session of two temperatures: half of alpha = 1 % for each."""
DEEPEST = 8
TEMPERATURES = (0.0, 1.0)
NEW_TOKENS = 64
LONG_PROMPTS, LONG_TOKENS, STRETCH = 24, 256, 64
"""Texts for acceptance by the length of the context, in stretches of so many tokens."""


def prompts_of(
    target: LoadedModel, count: int | None = None
) -> tuple[list[Prompt], list[list[int]]]:
    """The suite's prompts and their token ids."""
    read = list(read_prompts(SUITE / "prompts.jsonl", count))
    return read, encode_prompts(target.tokenizer, read)


def texts_of(
    target: LoadedModel, temperature: float, count: int | None = None, new_tokens: int = NEW_TOKENS
) -> tuple[Text, ...]:
    """What the target writes after the suite's prompts, as the suite samples it."""
    read, ids = prompts_of(target, count)
    new = sample_new_tokens(
        target,
        ids,
        new_tokens=new_tokens,
        sampling=Sampling(temperature),
        seed=0,
        keys=[prompt.key for prompt in read],
    )
    return texts_of_prompts(read, ids, new)


def conditional(counts: Counts) -> list[float]:
    """Acceptance of each draft position, of those whose earlier drafts are accepted; 0 where none
    is reached.
    """
    return [round(share, 4) for share in np.nan_to_num(counts.conditional).tolist()]


def acceptance() -> Iterator[dict[str, Any]]:
    """Rows of acceptance, one for each drafter and temperature, and for each stretch of context."""
    target = load_model(str(TARGET))
    for temperature in TEMPERATURES:
        for name, scores in scores_of(target, texts_of(target, temperature), temperature).items():
            field = scores.field(checked_rule(None, temperature))
            by_k = {k: expected_counts(field, k, "whole") for k in range(1, DEEPEST + 1)}
            yield {
                "what": "positions",
                "drafter": name,
                "temperature": temperature,
                "conditional": conditional(by_k[DEEPEST]),
                "categories": {
                    category: conditional(part)
                    for category, part in by_k[DEEPEST].by_category().items()
                },
                "lengths": {k: counts.acceptance_length for k, counts in by_k.items()},
            }
    texts = texts_of(target, 0.0, LONG_PROMPTS, LONG_TOKENS)
    for begin in range(0, LONG_TOKENS, STRETCH):
        part = stretch(texts, begin)
        for name, scores in scores_of(target, part, 0.0).items():
            counts = expected_counts(scores.field("greedy"), 4)
            yield {
                "what": "stretch",
                "drafter": name,
                "begin": begin,
                "end": begin + STRETCH,
                "texts": len(part),
                "conditional": conditional(counts),
                "length": counts.acceptance_length,
            }


def scores_of(target: LoadedModel, texts: Sequence[Text], temperature: float) -> dict[str, Scores]:
    """The scores of every drafter for k up to the deepest, from one pass of each model."""
    plans = [DrafterPlan(drafter, depth, DEEPEST) for drafter, depth in DRAFTERS.values()]
    return dict(
        zip(DRAFTERS, text_scores(target, plans, texts, Sampling(temperature)), strict=True)
    )


def stretch(texts: Sequence[Text], begin: int) -> list[Text]:
    """The new tokens from `begin` on, up to a stretch of them, of texts that are so long."""
    return [
        dataclasses.replace(
            text,
            ids=text.ids[: text.prompt_length + begin + STRETCH],
            prompt_length=text.prompt_length + begin,
        )
        for text in texts
        if len(text.ids) >= text.prompt_length + begin + STRETCH
    ]


def changes() -> Iterator[dict[str, Any]]:
    """Rows of changed drafters beside those that they replace, on the same texts, as the gate
    compares them: at temperature 0 by smoothed counts.
    """
    target = load_model(str(TARGET))
    for temperature in (0.0, 1.0):
        counts = {}
        names = [name for name, others in CHANGED.items() for name in (DRAFTERS[name][0], *others)]
        plans = [DrafterPlan(str(SUITE / "models" / name), 0, CHANGED_K) for name in names]
        texts = texts_of(target, temperature)
        for name, scores in zip(
            names, text_scores(target, plans, texts, Sampling(temperature)), strict=True
        ):
            exact = expected_counts(scores.field(checked_rule(None, temperature)), CHANGED_K)
            smooth = (
                expected_counts(scores.smoothed_field(), CHANGED_K) if not temperature else exact
            )
            counts[name] = exact, smooth
        for drafter, others in CHANGED.items():
            before = counts[DRAFTERS[drafter][0]]
            for name in others:
                yield {
                    "what": "change",
                    "drafter": drafter,
                    "changed": name,
                    "temperature": temperature,
                    "k": CHANGED_K,
                    "margin": MARGIN,
                    **_compared(before, counts[name]),
                }


def _compared(before: tuple[Counts, Counts], now: tuple[Counts, Counts]) -> dict[str, Any]:
    """The verdict on (exact, judged) counts."""
    exact, judged = (
        ComparisonFacts.of("acceptance_length", Pair.of(old, new), ())
        for old, new in zip(before, now, strict=True)
    )
    low, high = judged.bounds(LEVEL)
    verdict, _ = bounded(judged, MARGIN, LEVEL)
    return {
        "length": before[0].acceptance_length,
        "exact_drop": exact.drop,
        "drop": judged.drop,
        "interval": [low, high],
        "verdict": verdict,
    }


def speed(
    dtype: str, drafter: str, ks: Sequence[int], prompts: int, new: int
) -> Iterator[dict[str, Any]]:
    """Rows of `decode_speed.compared` for one drafter: at batch 1 and temperature 0."""
    target = load_model(str(TARGET), dtype=dtype)
    _, ids = prompts_of(target, prompts)
    folder, depth = DRAFTERS[drafter]
    loaded = decode_speed.loaded_drafter(folder, "auto", dtype)
    draftings = [decode_speed.Drafting(loaded, k, depth) for k in ks]
    for k, speeds in zip(ks, decode_speed.compared(target, draftings, ids, new=new), strict=True):
        print(f"{drafter}, k={k}\n{speeds.table()}", file=sys.stderr)
        yield {
            "what": "speed",
            "drafter": drafter,
            "k": k,
            "dtype": dtype,
            "threads": torch.get_num_threads(),
            "new_tokens": new,
            "tokens_per_second": speeds.tokens_per_second(decode_speed.DRAFTED),
            "ratio": speeds.ratio,
            "theory": speeds.theory,
            "plain": {
                name: speeds.tokens_per_second(name)
                for name in (decode_speed.OWN, decode_speed.STATIC)
            },
            "milliseconds": speeds.milliseconds,
            "tokens_per_round": speeds.tokens_per_round,
            "replayed_length": speeds.length,
            "differing": speeds.differing,
            "texts": len(ids),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("acceptance")
    kinds.add_parser("changes")
    timed = kinds.add_parser("speed")
    timed.add_argument("--drafter", default="EAGLE-3", choices=DRAFTERS)
    timed.add_argument("--dtype", default="bfloat16")
    timed.add_argument(
        "--k", type=lambda given: [int(k) for k in given.split(",")], default=[1, 2, 3, 4, 6]
    )
    timed.add_argument("--prompts", type=int, default=96)
    timed.add_argument("--new-tokens", type=int, default=NEW_TOKENS)
    shown = kinds.add_parser("page")
    shown.add_argument("results", type=Path, nargs="+")
    options = parser.parse_args()
    if options.kind == "page":
        write_page(options.results)
        return
    if options.kind == "speed":
        rows = speed(options.dtype, options.drafter, options.k, options.prompts, options.new_tokens)
    else:
        rows = acceptance() if options.kind == "acceptance" else changes()
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
