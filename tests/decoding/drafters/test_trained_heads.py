"""The embedded heads draft better than any other reading of their files would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.eagle3 import edit_tensors
from helpers.support import EMBEDDED, edit_config
from safetensors.torch import load_file

from pytest_specdec import decode, replay
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.loading import LoadedModel, load_model

K, STATES = 4, "eagle_aux_hidden_state_layer_ids"
IDS = {"deep-eagle3": (2, 4, 5), "deep-eagle31": (2, 5, 7), "deep-speculators": (2, 5, 7)}
"""The states that each head was trained on, as `hidden_states` numbers them."""


@pytest.fixture(scope="module")
def target() -> LoadedModel:
    return load_model(str(EMBEDDED / "deep-target"), "cpu")


@pytest.fixture(scope="module")
def texts(target: LoadedModel) -> tuple[Text, ...]:
    prompts = [[0, first] for first in range(300, 340)]
    return tuple(decode(target, None, prompts, k=0, new_tokens=64, batch_size=40, seed=3).texts)


def length(target: LoadedModel, head: Path, texts: tuple[Text, ...]) -> float:
    return float(replay(target, str(head), texts, k=K).acceptance_length)


@pytest.fixture(scope="module")
def right(target: LoadedModel, texts: tuple[Text, ...]) -> dict[str, float]:
    """The acceptance length of each head as it is read."""
    return {name: length(target, EMBEDDED / name, texts) for name in IDS}


def states_of(*ids: int) -> Callable[[Path], object]:
    """Reads these states instead."""

    def edit(head: Path) -> None:
        outputs = [number - 1 for number in ids]
        if "eagle_config" in json.loads((head / "config.json").read_text()):
            edit_config(head, eagle_config={STATES: outputs})
        else:
            edit_config(head, **{STATES: list(ids)})

    return edit


def flipped(flag: str) -> Callable[[Path], object]:
    """Reads the flag the other way round."""

    def edit(head: Path) -> None:
        before = json.loads((head / "config.json").read_text()).get(flag, False)
        edit_config(head, **{flag: not before})

    return edit


def without_input_norms(head: Path) -> None:
    """Hands the states to `fc` as they are."""
    names = load_file(head / "model.safetensors")
    norms = [name for name in names if name.startswith(("fc_norm.", "input_norm."))]
    edit_tensors(head, **{name.replace(".", "__"): None for name in norms})
    edit_config(head, fc_norm=False, norm_before_fc=False)


def without_d2t(head: Path) -> None:
    """Takes the ids of draft tokens for the target's."""
    held = load_file(head / "model.safetensors")
    first = torch.arange(len(held["t2d"])) < len(held["d2t"])
    edit_tensors(head, d2t=torch.zeros_like(held["d2t"]), t2d=first)


def interleaved(head: Path) -> None:
    """Rotates pairs of neighbours instead of halves, which is to say the rows in another order."""
    config = json.loads((head / "config.json").read_text())
    size = config.get("transformer_layer_config", config)["head_dim"]
    order = torch.cat([torch.arange(0, size, 2), torch.arange(1, size, 2)])
    rows = {
        name.replace(".", "__"): held.unflatten(0, (-1, size))[:, order].flatten(0, 1).contiguous()
        for name, held in load_file(head / "model.safetensors").items()
        if name.endswith(("q_proj.weight", "k_proj.weight"))
    }
    edit_tensors(head, **rows)


WRONG: dict[str, dict[str, Callable[[Path], object]]] = {
    "the state before each": {
        name: states_of(*(number - 1 for number in ids)) for name, ids in IDS.items()
    },
    "the state after each": {
        name: states_of(*(number + 1 for number in ids)) for name, ids in IDS.items()
    },
    "the usual states": {name: states_of(2, 4, 5) for name in ("deep-eagle31", "deep-speculators")},
    "norm_before_residual": dict.fromkeys(IDS, flipped("norm_before_residual")),
    "norm_output": dict.fromkeys(("deep-eagle3", "deep-eagle31"), flipped("norm_output")),
    "no norm before fc": {"deep-eagle31": without_input_norms},
    "no d2t": dict.fromkeys(("deep-eagle3", "deep-speculators"), without_d2t),
    "interleaved": dict.fromkeys(IDS, interleaved),
}
"""Misreadings by name, and how each head is edited so that it is misread. `norm_output` and the
norm before `fc` of `deep-speculators` are left out: `hidden_norm` takes back most of what they do.
"""


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        pytest.param(name, reading, id=f"{name}, {reading}")
        for reading, heads in WRONG.items()
        for name in heads
    ],
)
def test_another_reading_of_a_head_accepts_less(
    target: LoadedModel,
    texts: tuple[Text, ...],
    right: dict[str, float],
    tmp_path: Path,
    name: str,
    reading: str,
) -> None:
    head = Path(shutil.copytree(EMBEDDED / name, tmp_path / "head"))
    WRONG[reading][name](head)
    assert length(target, head, texts) < 0.98 * right[name]
