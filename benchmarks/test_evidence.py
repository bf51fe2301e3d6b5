"""Prompts needed to see a drop, paired replay beside counting two runs: real degradations of the
embedded pair.

make bench
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.embedded import PROMPTS
from helpers.support import EMBEDDED, ROOT, add_noise
from safetensors.torch import load_file, save_file
from scipy import stats

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.baselines.store import BaselineStore
from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.gate.paired import Pair

ALPHA, POWER, DROP, K = 0.01, 0.95, 0.02, 8
FEWER = 100
"""Times fewer prompts, at a drop of DROP."""
TEXTS = TextKey("text", str(EMBEDDED / "text-target"), PROMPTS, None, 128, 1.0, 0)


def noisy(folder: Path) -> Path:
    """4.3 % of each tensor's standard deviation as Gaussian noise."""
    return add_noise(EMBEDDED / "text-draft", folder, 0.043)


def edited(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(EMBEDDED / "text-draft", folder)
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def int4(folder: Path) -> Path:
    """Every matrix but the embedding in 15 levels a group of 16, as common int4 formats round."""

    def edit(weights: dict[str, torch.Tensor]) -> None:
        for name, tensor in weights.items():
            if tensor.dim() == 2 and "embed" not in name:
                groups = tensor.reshape(-1, 16)
                step = groups.abs().amax(1, keepdim=True).clamp(min=1e-12) / 7
                weights[name] = ((groups / step).round() * step).reshape(tensor.shape)

    return edited(folder, edit)


def stale(folder: Path, layer: int, part: str = "") -> Path:
    """An MTP layer, or a part of it, as it was before it was trained for its own step: a copy of
    the one before.
    """
    own, before = f"model.layers.{layer}.", f"model.layers.{layer - 1}."

    def edit(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.startswith(own + part)]:
            weights[name] = weights[name.replace(own, before)].clone()

    return edited(folder, edit)


DEGRADATIONS = {
    "weight noise, 4.3 %": (noisy, 0),
    "int4 rounding": (int4, 0),
    "stale attention in the second MTP layer": (lambda folder: stale(folder, 2, "self_attn"), 3),
    "stale third MTP layer": (lambda folder: stale(folder, 3), 3),
}


def replayed(draft: Path, depth: int) -> Counts:
    case = Case(
        texts=TEXTS,
        drafter=DraftModelSpec(str(draft)),
        label="text-draft",
        k=K,
        depth=depth,
        rule="rejection",
        margin=0.005,
    )
    return (
        ReplayEngine([case], ModelPool("cpu"), stored_texts=BaselineStore(ROOT / "baselines").texts)
        .measure(case)
        .counts
    )


def counted(draft: Path, depth: int, seed: int) -> Counts:
    case = Case(
        texts=dataclasses.replace(TEXTS, seed=seed),
        drafter=DraftModelSpec(str(draft)),
        label="text-draft",
        k=K,
        depth=depth,
        rule="rejection",
        margin=0.005,
        engine="decode",
    )
    return DecodeEngine(ModelPool("cpu")).measure(case).counts


def prompts_needed(pair: Pair, drop: float) -> float:
    """Prompts of a one-sided test at ALPHA that sees a relative drop with POWER, from the spread
    between prompts.
    """
    reach = float(stats.norm.isf(ALPHA) + stats.norm.ppf(POWER))
    return (
        pair.prompts * (reach * pair.standard_error() / pair.before.acceptance_length / drop) ** 2
    )


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_paired_replay_needs_far_fewer_prompts(
    name: str, tmp_path: Path, benchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hundredth for drops about 2 %; less of a saving for larger ones, which counting sees more
    easily.
    """
    make, depth = DEGRADATIONS[name]
    worse, whole = make(tmp_path / "worse"), EMBEDDED / "text-draft"
    replay = Pair.of(replayed(whole, depth), replayed(worse, depth))
    drop = replay.length_drop / replay.before.acceptance_length
    counting = Pair.of(
        *benchmark.pedantic(lambda: [counted(whole, depth, 1), counted(worse, depth, 2)], rounds=1)
    )
    needed = {"replay": prompts_needed(replay, drop), "counting": prompts_needed(counting, drop)}
    times = needed["counting"] / needed["replay"]
    benchmark.extra_info.update(
        drop=round(drop, 4), times=round(times), **{side: round(n, 1) for side, n in needed.items()}
    )
    with capsys.disabled():
        print(
            f"\n{name}: falls by {drop:.2%}; to see that (alpha 1 %, power 95 %, k = {K}) counting "
            "two runs needs "
            f"{math.ceil(needed['counting'])} prompts, paired replay "
            f"{math.ceil(needed['replay'])}: {times:.0f} times fewer"
        )
    assert drop > 0.01
    assert times >= FEWER * min(1.0, (DROP / drop) ** 2)
