"""Hand-made cases, counts, records and report rows for the tests that need no model."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hypothesis import settings

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.cases.case import DEFINITION, Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec, parse_drafter
from pytest_specdec.records.conditions import Conditions, Environment, Fingerprints
from pytest_specdec.records.prompt_counts import PromptCounts
from pytest_specdec.records.record import SCHEMA, Record
from pytest_specdec.records.text_set import TextSet
from pytest_specdec.report.row import EstimateRow, ReportRow

PROPERTY = settings(deadline=None, max_examples=60)
"""Profile of the property tests: a slow machine is not a failure."""

CONDITIONS = Conditions(
    k=3,
    depth=0,
    drafter="draft",
    engine="replay",
    rule="rejection",
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    new_tokens=512,
    tokenizer="letters",
    template=None,
)
FINGERPRINTS = Fingerprints(target="target-1", drafter="drafter-1")
ENVIRONMENT = Environment(
    torch="2.9", transformers="5.14", device="cpu", dtype="float32", threads=1
)
TEXTS = TextKey("text", "/models/target", Path("/suites/text/prompts.jsonl"), None, 64, 1.0, 0)
CASE = Case(
    texts=TEXTS,
    drafter=DraftModelSpec("/models/draft"),
    label="draft",
    k=8,
    depth=0,
    rule="rejection",
    margin=0.005,
)


def case(**changes: Any) -> Case:
    """A case; fields of its texts may be named too, and its drafter may be a string as on the command
    line.
    """
    if isinstance(drafter := changes.get("drafter"), str):
        changes["drafter"] = parse_drafter(drafter)
    of_texts = {
        name: changes.pop(name) for name in list(changes) if name in TextKey.__dataclass_fields__
    }
    return dataclasses.replace(CASE, texts=dataclasses.replace(TEXTS, **of_texts), **changes)


def counts(
    rounds: Sequence[float],
    accepted: Sequence[Sequence[float]],
    *,
    drafted: Sequence[Sequence[float]] | None = None,
    categories: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
) -> Counts:
    """Counts of prompts `p0`, `p1`, ...; every round drafts k tokens unless `drafted` says
    otherwise.
    """
    reached = np.array(accepted, dtype=float)
    total = np.array(rounds, dtype=float)
    return Counts(
        tuple(prompts or (f"p{row}" for row in range(len(total)))),
        tuple(categories or ("all",) * len(total)),
        total,
        np.repeat(total[:, None], reached.shape[1], axis=1)
        if drafted is None
        else np.array(drafted, dtype=float),
        reached,
    )


def record(of: Counts | None = None, *, text: str = "text-1", **changes: Any) -> Record:
    """A record of `of`; another `text` is one of another seed. Changes may name fields of the
    record or of its parts.
    """
    of = steady_counts() if of is None else of
    parts = {"conditions": CONDITIONS, "fingerprints": FINGERPRINTS, "environment": ENVIRONMENT}
    parts["conditions"] = msgspec.structs.replace(CONDITIONS, k=of.k)
    for name, part in parts.items():
        part_changes = {
            field: changes.pop(field) for field in part.__struct_fields__ if field in changes
        }
        parts[name] = msgspec.structs.replace(part, **part_changes)
    rows = {
        key: PromptCounts(
            of.categories[row],
            f"{text}-{key}",
            float(of.rounds[row]),
            tuple(of.accepted[row].tolist()),
        )
        for row, key in enumerate(of.prompts)
    }
    seed = 0 if text == "text-1" else 1 + zlib.crc32(text.encode())
    whole: dict[str, Any] = {
        "schema": SCHEMA,
        "definition": DEFINITION,
        "repeats": 1,
        "counts": rows,
        "seed": seed,
    }
    whole |= {**parts, **changes}
    return Record(**whole)


def steady_counts(
    prompts: int = 12, *, shares: Sequence[float] = (0.75, 0.5, 0.25), rounds: float = 40
) -> Counts:
    """Prompts in turn of category `prose` and `code`, all with the same survivals."""
    accepted = [[share * rounds for share in shares]] * prompts
    return counts(
        [rounds] * prompts,
        accepted,
        categories=[("prose", "code")[row % 2] for row in range(prompts)],
    )


def sampled_counts(rng: np.random.Generator, skill: np.ndarray, rounds: int = 60) -> Counts:
    """Rounds of prompts with their own, shared skill, which wanders from text to text with heavy
    tails.
    """
    odds = np.log(skill / (1 - skill)) + 0.4 * rng.standard_t(2.5, len(skill))
    chance = 1 / (1 + np.exp(-odds))
    played = rng.poisson(rounds, len(skill)) + 5
    first = rng.binomial(played, chance)
    return counts(played.tolist(), np.stack([first, rng.binomial(first, chance)], axis=1).tolist())


def scaled(of: Counts, factor: float) -> Counts:
    """The same rounds with every accepted count multiplied by `factor`."""
    return dataclasses.replace(of, accepted=of.accepted * factor)


def text_set(**changes: Any) -> TextSet:
    base = TextSet(
        schema=SCHEMA,
        target="target-1",
        tokenizer="letters",
        template=None,
        new_tokens=64,
        temperature=1.0,
        seed=0,
        texts={"p0": (1, 2, 3), "p1": (4, 5)},
    )
    return msgspec.structs.replace(base, **changes)


def row(**changes: Any) -> ReportRow:
    """A judged case in a report."""
    base: ReportRow = {
        "id": "text/draft-k8-depth0-t1",
        "suite": "text",
        "target": "/models/target",
        "drafter": "/models/draft",
        "k": 8,
        "depth": 0,
        "rule": "rejection",
        "temperature": 1.0,
        "engine": "replay",
        "judged": "",
        "batch": None,
        "tree": "",
        "definition": DEFINITION,
        "candidate": None,
        "axes": [],
        "samples": None,
        "attachments": [],
        "token_texts": [],
        "contexts": [],
        "chain": [],
        "nights": [],
        "evidence_limit": None,
        "prompts": 2,
        "rounds": 80.0,
        "acceptance_rate": 0.5,
        "expected_accepted": 4.0,
        "acceptance_length": 5.0,
        "survival": [0.9, 0.8],
        "conditional": [0.9, None],
        "survival_error": [0.01, 0.02],
        "conditional_error": [0.01, None],
        "efficiency": 0.5,
        "target_ms": 10.0,
        "verify_ms": 12.0,
        "draft_ms": 8.0,
        "speedup": 2.5,
        "tokens_per_second": 250.0,
        "acceptance_length_error": 0.04,
        "speedup_interval": [2.4, 2.6],
        "request_length": None,
        "request_speedup": None,
        "request_speedup_interval": [],
        "categories": {"prose": 5.0},
        "category_errors": {"prose": 0.05},
        "environment": {"torch": "2.13.0", "device": "cpu", "threads": 1},
        "baseline": {"acceptance_length": 5.1},
        "drop": 0.0196,
        "smallest_detectable_drop": 0.01,
        "p_value": None,
        "evidence": None,
        "erosion": None,
        "verdict": "regressed",
        "regime": "",
        "estimate": None,
        "reason": "fell",
        "diagnosis": [],
        "checks": [],
        "changed": [],
        "notes": [],
    }
    return ReportRow(**{**base, **changes})  # type: ignore[typeddict-item]


def estimate_row(name: str, drop: float) -> EstimateRow:
    """What decided in the place of the lengths, as reports have it."""
    return EstimateRow(
        name=name,
        before=3.0,
        now=3.0 * (1 - drop),
        drop=drop,
        interval=[],
        effective_share=None,
        unseen=0.0,
    )


CONTEXTS: dict[str, Any] = {
    "regime": "target changed",
    "estimate": estimate_row("in the same contexts", 0.01),
}
SMOOTHED: dict[str, Any] = {
    "regime": "greedy drafter changed",
    "estimate": estimate_row("smoothed at temperature 0.1", 0.02),
}
"""Changes of a row that is judged by an estimate."""
