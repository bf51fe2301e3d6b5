"""Hidden states of the embedded target in files, as other packages write them, and replay from
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import (
    DrafterSpec,
    DraftModelSpec,
    OwnHeadsSpec,
    PromptLookupSpec,
)
from pytest_specdec.decoding.drafters.registry import parsed
from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.hidden_states import HiddenStatesEngine
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.engines.protocol import Measurement

from .support import EMBEDDED, ROOT

TARGET = EMBEDDED / "text-target"
PROMPTS = ROOT / "suites" / "text" / "prompts.jsonl"
HEAD = parsed(str(EMBEDDED / "text-eagle3"))
LAYERS = (1, 2, 3)
"""Whose states the head reads, see its config.json; the last one's follows."""
DRAFTERS: tuple[tuple[DrafterSpec, int], ...] = (
    (DraftModelSpec(str(EMBEDDED / "text-draft")), 2),
    (OwnHeadsSpec(), 2),
    (PromptLookupSpec(), 0),
    (HEAD, 0),
)


def cases_at(temperature: float) -> list[Case]:
    key = TextKey("suite", str(TARGET), PROMPTS, 6, 24, temperature, 0)
    rule = "rejection" if temperature else "greedy"
    return [
        Case(texts=key, drafter=drafter, label="d", k=4, depth=depth, rule=rule, margin=0.01)
        for drafter, depth in DRAFTERS
    ]


def replayed(cases: Sequence[Case]) -> list[Measurement]:
    engine = ReplayEngine(cases, ModelPool("cpu"))
    return [engine.measure(case) for case in cases]


def from_states(cases: Sequence[Case], folder: Path) -> list[Measurement]:
    engine = HiddenStatesEngine(cases, ModelPool("cpu", outer_targets=True), folder=str(folder))
    return [engine.measure(case) for case in cases]


@torch.inference_mode()
def states_of(cases: Sequence[Case]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids (length,) and states (length, layers, width) of each text of the cases."""
    target = load_model(str(TARGET), "cpu")
    layers = (*LAYERS, target.model.config.num_hidden_layers)
    found = []
    for text in ReplayEngine(cases, ModelPool("cpu")).emitted(cases[0]):
        ids = torch.tensor([text.ids])
        with captured_states(target, layers) as states:
            target.model(ids)
        found.append((ids[0], torch.stack([states[layer][0] for layer in layers], 1)))
    return found


def write_states(cases: Sequence[Case], folder: Path, dtype: torch.dtype) -> None:
    """The files that vLLM's extraction writes, for the texts of the cases."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (ids, states) in enumerate(states_of(cases)):
        tensors = {"token_ids": ids, "hidden_states": states.to(dtype)}
        save_file(tensors, folder / f"hs_{number}.safetensors")
