"""Reported texts by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.engines.adapter_api import (
    CountingConvention,
    GenerationRequest,
    PromptRequest,
    Reported,
    ReportedRound,
)

PROMPT = (1, 7, 7)


def request(prompts: int = 1, **other: Any) -> GenerationRequest:
    prompt_requests = [
        PromptRequest(Prompt(f"key{row}", "all", text=f"prompt {row}"), PROMPT)
        for row in range(prompts)
    ]
    wanted = {
        "k": 3,
        "depth": 0,
        "target": "served",
        "drafter": "served",
        "sampling": Sampling(0.0),
        "new_tokens": 64,
        "seed": 0,
        "rule": "greedy",
    }
    return GenerationRequest(prompts=prompt_requests, **(wanted | other))


def reported(
    rounds: list[tuple[int, int]] | None = None,
    tokens: int | None = None,
    convention: CountingConvention | None = None,
    **other: Any,
) -> Reported:
    """A text of as many tokens as its rounds make, unless given."""
    convention = convention or CountingConvention()
    emitted = sum(accepted + 1 for _, accepted in rounds or ()) + (not convention.prefill_drafts)
    reported_rounds = None if rounds is None else tuple(ReportedRound(*pair) for pair in rounds)
    new = tuple(range(2, 2 + (emitted if tokens is None else tokens)))
    return Reported(
        key="key0",
        prompt_ids=PROMPT,
        new_ids=new,
        convention=convention,
        rounds=reported_rounds,
        **({"where": str(Path("run:1"))} | other),
    )
