"""An EAGLE-3 head's folder against its own config.json and against its target, by files alone.

Every mistake that these checks refuse would otherwise give a head that drafts, and drafts worse.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.errors import RequestError
from .checkpoint import Checkpoint
from .eagle3_config import Eagle3Config, read_eagle3_config
from .eagle3_rotary import EAGLE_THETA, theta_of
from .eagle3_vocabulary import MAPS, check_maps, check_vocabulary, rows_of, target_ids
from .head_files import (
    check_once,
    check_pickle,
    check_tensors,
    check_verifier,
    known_width,
    layers_of,
)
from .safetensors_header import Tensor

MASK_STATE = "mask_hidden"
"""The tensor of a P-EAGLE head that stands for the joined states of a token not yet drafted."""
_STATES = range(3)
"""As many states as heads read that do not say."""


@dataclasses.dataclass(frozen=True)
class Eagle3Files:
    """The files of a head; `checked_head` makes it, and `read_head` of a faulty one."""

    checkpoint: Checkpoint
    config: Eagle3Config
    aux_layers: tuple[int, ...]
    """The target's states that the head reads, numbered as transformers' `hidden_states`; empty
    where config.json names none that the target has.
    """
    joined: int
    """Number of the target's states that `fc` reads together."""

    @property
    def own_embeddings(self) -> bool:
        """Whether the head embeds tokens itself, and not as its target does."""
        return "embed_tokens.weight" in self.checkpoint.tensors

    @property
    def dtype(self) -> str:
        """The number format of its weights, as safetensors names it."""
        return self.checkpoint.tensors["fc.weight"].dtype

    def layer_prefix(self, index: int) -> str:
        """How the names of a layer's tensors begin."""
        return _layer_prefix(self.checkpoint.tensors, index)

    @functools.cached_property
    def target_ids(self) -> NDArray[np.int64]:
        """The target's id of each draft token, (draft vocabulary,)."""
        return target_ids(self.checkpoint)


def check_eagle3(target: Checkpoint, folder: Path | None, depth: int) -> None:
    """Raises RequestError for a head that cannot draft for the target, or not at this depth."""
    if folder is None:
        raise RequestError("eagle3 drafts with a head's files; name its folder: eagle3:FOLDER")
    if depth:
        raise RequestError(
            f"depth {depth}: an EAGLE-3 head has no MTP layers; use --specdec-depth=0"
        )
    checked_head(target, folder)


def checked_head(target: Checkpoint, folder: Path) -> Eagle3Files:
    """The head in a folder, if it can draft for the target.

    Parameters
    ----------
    target
        The target's checkpoint; its configuration alone is read.
    folder
        config.json and safetensors weights in one of the forms of `eagle3_config`.

    Returns
    -------
    Eagle3Files

    Raises
    ------
    RequestError
        For pickled weights, tensors that do not fit config.json, vocabularies that do not fit each
        other, layers that the target does not have, or a head for another target.

    Examples
    --------
    >>> files = checked_head(target, Path("heads/llama-eagle3"))  # doctest: +SKIP
    >>> files.aux_layers  # doctest: +SKIP
    (2, 16, 29)
    """
    files, faults = read_head(target, folder)
    if faults:
        raise faults[0]
    return files


def read_head(
    target: Checkpoint, folder: Path, *, masked: bool = False
) -> tuple[Eagle3Files, list[RequestError]]:
    """The head in a folder whose tensors make one, and why `checked_head` refuses it.

    With `masked` it is a P-EAGLE head, which has the state of a mask, too. The faults are those
    between parts that are well formed: tensors that config.json does not announce, layers that the
    target does not have, maps that disagree. Raises RequestError for a folder whose tensors are no
    such head for a target of this shape.
    """
    check_pickle(folder)
    checkpoint = Checkpoint(folder)
    check_once(checkpoint)
    algorithm = "peagle" if masked else "eagle3"
    config = read_eagle3_config(folder / "config.json", checkpoint.config, algorithm)
    fc = checkpoint.tensors.get("fc.weight")
    if fc is None or len(fc.shape) != 2:
        raise RequestError(f"{folder} has no matrix fc.weight; save the whole head")
    faults: list[RequestError] = []
    with _kept(faults):
        check_verifier(config.path, config.verifier, config.verifier_classes, target)
    layers = layers_of(target)
    aux_layers: tuple[int, ...] = ()
    with _kept(faults):
        aux_layers = config.aux_layers(layers)
    width = _checked_width(checkpoint, config, target)
    states = fc.shape[1] // width
    if aux_layers and len(aux_layers) != states:
        faults.append(_other_number(checkpoint, config, len(aux_layers), states))
        aux_layers = ()
    with _kept(faults):
        _check_norms(checkpoint, config, states)
    _check_tensors(checkpoint, config, states, masked=masked)
    check_vocabulary(checkpoint, config.vocabulary, target)
    with _kept(faults):
        check_maps(checkpoint, config.vocabulary)
    with _kept(faults):
        _check_theta(config, target)
    files = Eagle3Files(checkpoint=checkpoint, config=config, aux_layers=aux_layers, joined=states)
    return files, faults


@contextlib.contextmanager
def _kept(faults: list[RequestError]) -> Iterator[None]:
    """Keep the refusal of a check."""
    try:
        yield
    except RequestError as fault:
        faults.append(fault)


def _checked_width(checkpoint: Checkpoint, config: Eagle3Config, target: Checkpoint) -> int:
    """The target's width, of which `fc` reads a whole number of states; a shared embedding is as
    wide as the head.
    """
    fc, width = checkpoint.tensors["fc.weight"], known_width(target)
    folder = checkpoint.folder
    announced = config.target_width
    if announced and width and announced != width:
        raise RequestError(
            f"{config.path} says target_hidden_size: {announced} and the target {target.folder} "
            f"is {width} wide; name the target that the head was trained for"
        )
    width = width or announced
    if width is None or fc.shape[1] % width or not fc.shape[1]:
        states = len(config.layer_ids or _STATES)
        raise RequestError(
            f"fc.weight of {folder} reads {fc.shape[1]} numbers, and {states} states of the target "
            f"{target.folder} are {states} x {width or 'an unknown width'}; name the target that "
            "the head was trained for"
        )
    if "embed_tokens.weight" not in checkpoint.tensors and config.width != width:
        raise RequestError(
            f"{folder} is {config.width} wide and has no embed_tokens.weight, and the embeddings "
            f"of the target {target.folder} are {width} wide; name the target that the head was "
            "trained for, or save the head with its embeddings"
        )
    return width


def _other_number(
    checkpoint: Checkpoint, config: Eagle3Config, named: int, joined: int
) -> RequestError:
    return RequestError(
        f"fc.weight of {checkpoint.folder} joins {joined} state{'s' * (joined > 1)} of the target "
        f"and config.json names {named}; name as many in eagle_aux_hidden_state_layer_ids"
    )


def _layer_prefix(tensors: Mapping[str, Tensor], index: int) -> str:
    flat = any(name.startswith("midlayer.") for name in tensors)
    return "midlayer." if flat and index == 0 else f"layers.{index}."


def _check_tensors(
    checkpoint: Checkpoint, config: Eagle3Config, states: int, *, masked: bool
) -> None:
    """All that config.json announces and nothing else, each of the shape that it implies."""
    if config.layers > len(checkpoint.tensors):
        raise RequestError(
            f"{config.path} says num_hidden_layers: {config.layers} and the folder holds "
            f"{len(checkpoint.tensors)} tensors; save the whole head"
        )
    needed, optional = _shapes(checkpoint, config, states)
    if masked:
        needed[MASK_STATE] = (1, 1, *checkpoint.tensors["fc.weight"].shape[1:])
    kind = "P-EAGLE head" if masked else "EAGLE-3 head"
    check_tensors(checkpoint, needed, optional, kind=kind, maps=MAPS)


def _check_norms(checkpoint: Checkpoint, config: Eagle3Config, states: int) -> None:
    """The norms before `fc`: each announced one is there, and none is there unannounced."""
    if config.norm_before_fc and config.fc_norm:
        raise RequestError(
            f"{config.path} says norm_before_fc and fc_norm, and a head has one of them; correct it"
        )
    joined = {"input_norm.weight"}
    each = {f"fc_norm.{index}.weight" for index in range(states)}
    held = {name for name in checkpoint.tensors if name.startswith(("input_norm.", "fc_norm."))}
    for flag, announced, names in (
        ("norm_before_fc", config.norm_before_fc, joined),
        ("fc_norm", config.fc_norm, each),
    ):
        if announced and (missing := sorted(names - held)):
            raise RequestError(
                f"{config.path} says {flag}: true and {checkpoint.folder} has no {missing[0]}; "
                f"save the whole head, or remove {flag}"
            )
        if not announced and (unannounced := sorted(names & held)):
            raise RequestError(
                f"{checkpoint.folder} holds {unannounced[0]} and config.json does not say {flag}: "
                f"true; add it, or save the head without the norm"
            )


def _shapes(
    checkpoint: Checkpoint, config: Eagle3Config, states: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """The shapes of the tensors that a head of this configuration has, and may have."""
    width, tensors = config.width, checkpoint.tensors
    joined = tensors["fc.weight"].shape[1]
    rows = config.draft_vocabulary or rows_of(checkpoint)
    needed: dict[str, tuple[int, ...]] = {
        "fc.weight": (width, joined),
        "norm.weight": (width,),
        "lm_head.weight": (rows, width),
    }
    optional: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (config.vocabulary, width)}
    optional["input_norm.weight"] = (joined,)
    optional |= {f"fc_norm.{index}.weight": (joined // states,) for index in range(states)}
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    for index in range(config.layers):
        prefix = _layer_prefix(tensors, index)
        attention, reads = f"{prefix}self_attn.", width if index else 2 * width
        needed |= {
            f"{prefix}input_layernorm.weight": (width,),
            f"{prefix}post_attention_layernorm.weight": (width,),
            f"{attention}q_proj.weight": (queries, reads),
            f"{attention}k_proj.weight": (keys, reads),
            f"{attention}v_proj.weight": (keys, reads),
            f"{attention}o_proj.weight": (width, queries),
            f"{prefix}mlp.gate_proj.weight": (config.mlp_width, width),
            f"{prefix}mlp.up_proj.weight": (config.mlp_width, width),
            f"{prefix}mlp.down_proj.weight": (width, config.mlp_width),
        }
        if index == 0:
            needed[f"{prefix}hidden_norm.weight"] = (width,)
        norms = {f"{attention}{name}_norm.weight": (config.head_dim,) for name in "qk"}
        biases = {
            f"{attention}q_proj.bias": (queries,),
            f"{attention}k_proj.bias": (keys,),
            f"{attention}v_proj.bias": (keys,),
        }
        for group, announced in ((norms, False), (biases, config.attention_bias)):
            chosen = needed if announced or group.keys() & tensors.keys() else optional
            chosen |= group
        optional[f"{attention}o_proj.bias"] = (width,)
    return needed, optional


def _check_theta(config: Eagle3Config, target: Checkpoint) -> None:
    """A missing base means EAGLE's own to every loader, whatever base the head was trained with."""
    theirs = theta_of(target.text_config)
    if config.theta is None and theirs is not None and theirs != EAGLE_THETA:
        raise RequestError(
            f"{config.path} has no rope_theta, which loaders take for {EAGLE_THETA:g}, and the "
            f"target's is {theirs}; add the one that the head was trained with (SafeAILab's and "
            f"SpecForge's code trains with {EAGLE_THETA:g} where it is missing)"
        )
