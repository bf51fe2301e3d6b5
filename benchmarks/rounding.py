"""What rounding does to an acceptance length: dtype, threads, and the company that prompts have.

    python benchmarks/rounding.py [--prompts 12]

The embedded text pair is replayed on stored texts, at k = 8, once for each setting; a line is the largest
difference of a prompt's length, and that of the pooled length, from float32 with one thread. Exit
status 1 where float32 differs by more than what the gate allows an unchanged pair, 1e-4.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_specdec.baselines.store import BaselineStore
from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.decoding import text_batches
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.replay_engine import ReplayEngine

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "suites" / "models"
EXACT = 1e-4
PROMPTS = ROOT / "suites" / "text" / "prompts.jsonl"
LOGITS = text_batches._LOGIT_BUDGET["cpu"]


def lengths(
    prompts: int, dtype: str, threads: int, *, alone: bool = False, file: Path = PROMPTS
) -> dict[str, float]:
    """The length of each prompt's text; the pooled one under its name. With `alone` no two texts
    are in one batch.
    """
    torch.set_num_threads(threads)
    text_batches._LOGIT_BUDGET["cpu"] = 1 if alone else LOGITS
    key = TextKey(
        "text",
        str(MODELS / "text-target"),
        file,
        prompts,
        128,
        1.0,
        0,
    )
    draft = DraftModelSpec(str(MODELS / "text-draft"))
    case = Case(texts=key, drafter=draft, label="d", k=8, depth=0, rule="rejection", margin=0.01)
    store = BaselineStore(ROOT / "baselines")
    engine = ReplayEngine([case], ModelPool("cpu", dtype), stored_texts=store.texts)
    counts = engine.measure(case).counts
    rows = 1 + counts.accepted.sum(axis=1) / counts.rounds
    return dict(zip(counts.prompts, rows.tolist(), strict=True)) | {
        "pooled": counts.acceptance_length
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=12)
    asked = parser.parse_args()
    plain, worst = lengths(asked.prompts, "float32", 1), 0.0
    folder = tempfile.TemporaryDirectory()
    backwards = Path(folder.name) / "text" / "prompts.jsonl"
    backwards.parent.mkdir()
    rows = PROMPTS.read_text(encoding="utf-8").splitlines()[: asked.prompts]
    backwards.write_text("\n".join(reversed(rows)), encoding="utf-8")
    print("| setting | largest difference of a prompt | of the pooled length |\n|---|---|---|")
    whole = asked.prompts
    settings: tuple[tuple[str, int, str, int, dict[str, Any]], ...] = (
        ("again", whole, "float32", 1, {}),
        ("2 threads", whole, "float32", 2, {}),
        ("4 threads", whole, "float32", 4, {}),
        ("one text in a batch", whole, "float32", 1, {"alone": True}),
        ("prompts in reverse", whole, "float32", 1, {"file": backwards}),
        ("a third of the prompts", whole // 3, "float32", 1, {}),
        ("bfloat16", whole, "bfloat16", 1, {}),
    )
    for name, prompts, dtype, threads, other_ways in settings:
        other = lengths(prompts, dtype, threads, **other_ways)
        shared = [key for key in other if key != "pooled"]
        apart = max(abs(other[key] / plain[key] - 1) for key in shared)
        pooled = abs(other["pooled"] / plain["pooled"] - 1) if prompts == asked.prompts else np.nan
        print(f"| {name} | {apart:.1e} | {pooled:.1e} |", flush=True)
        worst = max(worst, apart) if dtype == "float32" else worst
    folder.cleanup()
    return 0 if worst <= EXACT else 1


if __name__ == "__main__":
    sys.exit(main())
