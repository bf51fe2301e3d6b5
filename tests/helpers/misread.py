"""Copies of the embedded EAGLE-3 heads with one defect of an export each, as the field has met
them, and what the doctor has to find.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from helpers.support import ROOT

MODELS = ROOT / "suites" / "models"
IDS = "eagle_aux_hidden_state_layer_ids"
HEADS = {
    "text-eagle3": "text-target",
    "deep-eagle3": "deep-target",
    "deep-eagle31": "deep-target",
    "deep-speculators": "deep-target",
}
"""Each embedded head and its target."""
Tensors = dict[str, torch.Tensor]
Config = dict[str, Any]
Edit = Callable[[Config, Tensors], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Misread:
    """A head saved wrongly."""

    name: str
    head: str
    edit: Edit
    found: Mapping[str, Any]
    """The fields of the right reading that differ from the written one; none where the two draft
    alike, and the folder only contradicts itself.
    """
    cure: str
    """What the page names as the correction."""


def misread_copy(defect: Misread, folder: Path) -> Path:
    """The head with the defect in `folder`."""
    shutil.copytree(MODELS / defect.head, folder)
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    defect.edit(config, tensors)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, _weights(folder))
    return folder


def _weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def _says(**fields: Any) -> Edit:
    """Fields of config.json; None removes one."""

    def edit(config: Config, tensors: Tensors) -> None:
        for name, value in fields.items():
            config.pop(name, None)
            if value is not None:
                config[name] = value

    return edit


def _layer_says(**fields: Any) -> Edit:
    """Fields of the layer of a speculators head."""

    def edit(config: Config, tensors: Tensors) -> None:
        config["transformer_layer_config"] |= fields

    return edit


def _nested(ids: list[int] | None) -> Edit:
    def edit(config: Config, tensors: Tensors) -> None:
        config["eagle_config"].pop(IDS)
        if ids is not None:
            config["eagle_config"][IDS] = ids

    return edit


def _both(*edits: Edit) -> Edit:
    def edit(config: Config, tensors: Tensors) -> None:
        for one in edits:
            one(config, tensors)

    return edit


def absolute_ids(config: Config, tensors: Tensors) -> None:
    tensors["d2t"] += torch.arange(len(tensors["d2t"]))


def no_map(config: Config, tensors: Tensors) -> None:
    tensors["d2t"] *= 0


def lost_order(config: Config, tensors: Tensors) -> None:
    """The right tokens in another order than the rows of `lm_head`."""
    rows = torch.arange(len(tensors["d2t"]))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    tensors["d2t"] = (tensors["d2t"] + rows)[order] - rows


def other_blocks(config: Config, tensors: Tensors) -> None:
    """The blocks of `fc` in another order than the states."""
    blocks = tensors["fc.weight"].chunk(3, 1)
    tensors["fc.weight"] = torch.cat([blocks[2], blocks[0], blocks[1]], 1)


def swapped_inputs(config: Config, tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            tensors[name] = tensor.roll(tensor.shape[1] // 2, 1)


def interleaved_rows(config: Config, tensors: Tensors) -> None:
    """Queries and keys laid out for pairs of neighbours, and config.json silent on it."""
    size = config.get("transformer_layer_config", config)["head_dim"]
    for name, tensor in tensors.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            halves = tensor.view(-1, 2, size // 2, tensor.shape[1])
            tensors[name] = halves.transpose(1, 2).reshape(tensor.shape)


def stale_embeddings(config: Config, tensors: Tensors) -> None:
    """Embeddings of another training, in the head's folder for no reason."""
    shape = (config["vocab_size"], config["hidden_size"])
    tensors["embed_tokens.weight"] = torch.randn(shape, generator=torch.Generator().manual_seed(1))


DEFECTS: tuple[Misread, ...] = (
    Misread(
        name="ids one too high",
        head="text-eagle3",
        edit=_says(**{IDS: [2, 3, 4]}),
        found={"states": (1, 2, 3)},
        cure=f"config.json: {IDS} -> [1, 2, 3]",
    ),
    Misread(
        name="norm_output added",
        head="text-eagle3",
        edit=_says(norm_output=True),
        found={"norm_output": False},
        cure="config.json: norm_output -> false",
    ),
    Misread(
        name="norm_before_residual added",
        head="text-eagle3",
        edit=_says(norm_before_residual=True),
        found={"norm_before_residual": False},
        cure="config.json: norm_before_residual -> false",
    ),
    Misread(
        name="d2t holds the target's ids",
        head="text-eagle3",
        edit=absolute_ids,
        found={"tokens": "absolute"},
        cure="d2t: it holds the target's ids; save offsets",
    ),
    Misread(
        name="half of each vector rotated",
        head="text-eagle3",
        edit=_says(partial_rotary_factor=0.5),
        found={"rotated": 32},
        cure="config.json: partial_rotary_factor -> 1",
    ),
    Misread(
        name="another rotary base",
        head="text-eagle3",
        edit=_says(rope_theta=500000.0),
        found={"theta": 10000.0},
        cure="config.json: rope_theta -> 10000",
    ),
    Misread(
        name="stale embeddings",
        head="text-eagle3",
        edit=stale_embeddings,
        found={"own_embeddings": False},
        cure="save the head without embed_tokens.weight",
    ),
    Misread(
        name="ids of the inputs one too high",
        head="deep-eagle3",
        edit=_says(**{IDS: [3, 5, 6]}),
        found={"states": (2, 4, 5)},
        cure=f"config.json: {IDS} -> [2, 4, 5]",
    ),
    Misread(
        name="blocks of fc in another order",
        head="deep-eagle3",
        edit=other_blocks,
        found={"states": (5, 2, 4)},
        cure="fc.weight: its blocks of columns are for the states 5, 2, 4",
    ),
    Misread(
        name="order of d2t lost",
        head="deep-eagle3",
        edit=lost_order,
        found={"tokens": "ascending"},
        cure="d2t: its order is lost",
    ),
    Misread(
        name="rotary pairs of neighbours, unsaid",
        head="deep-eagle3",
        edit=interleaved_rows,
        found={"interleaved": True},
        cure="config.json: rope_interleave -> true",
    ),
    Misread(
        name="[state; embedding]",
        head="deep-eagle3",
        edit=swapped_inputs,
        found={"state_first": True},
        cure="tensors: swap the halves of the columns of q_proj, k_proj and v_proj",
    ),
    Misread(
        name="ids of inputs where outputs are named",
        head="deep-eagle31",
        edit=_nested([2, 5, 7]),
        found={"states": (2, 5, 7)},
        cure=f"config.json: eagle_config.{IDS} -> [1, 4, 6]",
    ),
    Misread(
        name="ids dropped, EAGLE-3.1",
        head="deep-eagle31",
        edit=_nested(None),
        found={"states": (2, 5, 7)},
        cure=f"config.json: {IDS} -> [2, 5, 7]",
    ),
    Misread(
        name="norm_output dropped",
        head="deep-eagle31",
        edit=_says(norm_output=None),
        found={"norm_output": True},
        cure="config.json: norm_output -> true",
    ),
    Misread(
        name="fc_norm dropped",
        head="deep-eagle31",
        edit=_says(fc_norm=None),
        found={"input_norm": "each"},
        cure="config.json: fc_norm -> true",
    ),
    Misread(
        name="rope_interleave added",
        head="deep-eagle31",
        edit=_says(rope_interleave=True),
        found={"interleaved": False},
        cure="config.json: rope_interleave -> false",
    ),
    Misread(
        name="ids of outputs lifted to the top",
        head="deep-speculators",
        edit=_says(**{IDS: [1, 4, 6]}),
        found={"states": (2, 5, 7)},
        cure=f"config.json: {IDS} -> [2, 5, 7]",
    ),
    Misread(
        name="ids dropped, speculators",
        head="deep-speculators",
        edit=_says(**{IDS: None}),
        found={"states": (2, 5, 7)},
        cure=f"config.json: {IDS} -> [2, 5, 7]",
    ),
    Misread(
        name="norm_before_fc dropped",
        head="deep-speculators",
        edit=_says(norm_before_fc=None),
        found={},
        cure="does not say norm_before_fc: true; add it",
    ),
    Misread(
        name="norm_before_residual dropped",
        head="deep-speculators",
        edit=_says(norm_before_residual=False),
        found={"norm_before_residual": True},
        cure="config.json: norm_before_residual -> true",
    ),
    Misread(
        name="d2t of zeros",
        head="deep-speculators",
        edit=no_map,
        found={"tokens": "t2d"},
        cure="d2t: it is not what the head was trained with",
    ),
    Misread(
        name="two at once: residual and ids",
        head="deep-speculators",
        edit=_both(_says(norm_before_residual=False), _says(**{IDS: [3, 6, 8]})),
        found={"norm_before_residual": True, "states": (2, 5, 7)},
        cure=f"config.json: {IDS} -> [2, 5, 7]",
    ),
    Misread(
        name="two at once: fc_norm and norm_output dropped",
        head="deep-eagle31",
        edit=_says(fc_norm=None, norm_output=None),
        found={"input_norm": "each", "norm_output": True},
        cure="config.json: norm_output -> true",
    ),
)
"""Each defect is found without a baseline."""
