"""Rows of a whole session for the reports: a grid of cases, some of which regressed."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from helpers.records import counts, row
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.report.facts import SessionFacts
from pytest_specdec.report.row import ReportRow, plain

needs_plots = pytest.mark.skipif(
    importlib.util.find_spec("vl_convert") is None,
    reason="vl_convert is not installed; pip install 'pytest-specdec[plots]'",
)
FACTS: SessionFacts = {
    "command": "pytest --specdec-k=8 suites/text --specdec-report=out.html",
    "date": "2026-11-30T15:00:00+00:00",
    "commit": "4" * 40,
    "version": "0.1.0",
    "python": "3.11.9",
    "platform": "Linux-x86_64",
}
DIAGNOSIS = [
    "acceptance_length regressed: 3.6365 -> 3.5403 (-2.65 %; 95 % interval -3.30 % to",
    "             -1.99 %), fails from -1.00 %",
    "  case       text/draft-k8-depth0-t1: fell on the same texts by the margin or more",
    "  changed    drafter weights or configuration (82a4d356c93d69d7 ->",
    "             682b00a52f9bbc61)",
    "  positions  conditional acceptance fell at 2 (0.722 -> 0.712, -1.34 %)",
    "  categories arithmetic -3.24 %, json -3.02 %, code -2.65 %, prose -2.11 %",
    "  lost most  'def read_lines(path):' (code): 2.31 -> 2.14",
    "  intended?  pytest --specdec-k=8 suites/text --specdec-update=changed",
]
CATEGORIES = ("prose", "code", "json", "dialogue", "arithmetic")


def session_rows(prompts: int = 64, ks: tuple[int, ...] = (2, 4, 8, 12)) -> list[ReportRow]:
    """One case for each k at four depths, those of depth 3 regressed."""
    rng = np.random.default_rng(1)
    return [_row(rng, prompts, k, depth) for depth in range(4) for k in ks]


def _row(rng: np.random.Generator, prompts: int, k: int, depth: int) -> ReportRow:
    skill = rng.beta(8, 3, size=prompts)
    now, before = (_counts(rng, skill * factor, k) for factor in (0.97 if depth == 3 else 1.0, 1.0))
    length, worse = now.acceptance_length, depth == 3
    draft_ms = 1.4 * k / (1 + depth)
    speedup = length * 10 / (10 + 0.3 * k + draft_ms)
    spread = {"mean": 0.5, "deviation": 0.1, "least": 0.1, "most": 0.9}
    return row(
        id=f"text/draft-k{k}-depth{depth}-t1",
        k=k,
        depth=depth,
        prompts=prompts,
        rounds=now.total_rounds,
        **_metrics(now),
        baseline={**_metrics(before), "speedup": speedup},
        acceptance_rate=now.acceptance_rate,
        expected_accepted=now.expected_accepted,
        draft_ms=draft_ms,
        verify_ms=10 + 0.3 * k,
        speedup=speedup,
        speedup_interval=[speedup - 0.05, speedup + 0.05],
        drop=1 - length / before.acceptance_length,
        verdict="regressed" if worse else "pass",
        reason="fell on the same texts by the margin or more" if worse else "no drop",
        diagnosis=DIAGNOSIS if worse else [],
        **_token_fields(rng),
        samples={
            "count": prompts,
            "rate": spread,
            "accepted": spread,
            "drafted": spread,
            "survival": [plain(value) for value in now.survival],
            "worst": [
                {
                    "prompt": f"p{place}",
                    "text": f"'prompt number {place}'",
                    "category": "code",
                    "accepted": 0.5,
                }
                for place in range(5)
            ],
        },
    )


def _token_fields(rng: np.random.Generator) -> dict[str, Any]:
    """Three texts of 128 tokens, some left out, contexts and a chain of baselines."""
    texts = []
    for place in range(3):
        tokens = [
            {
                "text": " the",
                "target": p,
                "draft": q,
                "accept": min(1.0, q / p),
                "before": 0.5,
                "instead": " a" if q < 0.4 else None,
                "instead_draft": 0.6 if q < 0.4 else None,
            }
            for p, q in rng.uniform(0.1, 1.0, size=(128, 2)).tolist()
        ]
        unknown = ("target", "draft", "accept", "before", "instead", "instead_draft")
        undrafted = dict.fromkeys(unknown)
        texts.append(
            {
                "prompt": f"'prompt number {place}'",
                "category": "code",
                "length": 2.5,
                "before": 2.6,
                "tokens": [{"text": " def", **undrafted}, *tokens],
                "more": 7,
            }
        )
    return {
        "token_texts": texts,
        "contexts": [{"first": 0, "last": 31, "drafts": 9, "now": 0.5, "before": 0.6}],
        "chain": [
            {"length": 2.7, "commit": "5" * 40, "same_texts": True},
            {"length": 2.6, "commit": None, "same_texts": False},
        ],
        "nights": [{"length": 2.5, "p_value": 0.002, "evidence": 30.0}],
        "evidence_limit": 100.0,
    }


def _counts(rng: np.random.Generator, skill: np.ndarray, k: int) -> Counts:
    """Rounds whose drafts are accepted one after the other, each by the prompt's skill."""
    rounds, accepted = 80, []
    for chance in skill:
        lengths = np.minimum(rng.geometric(1 - chance, rounds) - 1, k)
        accepted.append([float((lengths > place).sum()) for place in range(k)])
    names = [CATEGORIES[place % len(CATEGORIES)] for place in range(len(skill))]
    return counts([float(rounds)] * len(skill), accepted, categories=names)


def _metrics(of: Counts) -> dict[str, Any]:
    parts = of.by_category()
    return {
        "acceptance_length": of.acceptance_length,
        "categories": {name: plain(part.acceptance_length) for name, part in parts.items()},
        "category_errors": {name: plain(part.standard_error) for name, part in parts.items()},
        **{
            name: [plain(value) for value in getattr(of, name)]
            for name in ("survival", "conditional", "survival_error", "conditional_error")
        },
    }
