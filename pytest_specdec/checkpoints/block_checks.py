"""A block drafter's folder against its own config.json and against its target, by files alone.

Every mistake that these checks refuse would otherwise give a drafter that drafts, and drafts worse.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.errors import RequestError
from .block_config import BlockConfig, read_block_config
from .checkpoint import Checkpoint
from .eagle3_vocabulary import MAPS, check_maps, check_vocabulary, target_ids
from .head_files import (
    Shape,
    check_once,
    check_pickle,
    check_tensors,
    check_verifier,
    known_width,
    layers_of,
)

_LM_HEAD, _EMBEDDINGS = "lm_head.weight", "embed_tokens.weight"


@dataclasses.dataclass(frozen=True)
class BlockFiles:
    """The files of a block drafter; `checked_block` makes it, and `read_block` of a faulty one."""

    checkpoint: Checkpoint
    config: BlockConfig
    states: tuple[int, ...]
    """The target's states that it reads, numbered as transformers' `hidden_states`; empty where
    config.json names none that the target has.
    """

    @property
    def own_embeddings(self) -> bool:
        """Whether it embeds tokens itself, and not as its target does."""
        return _EMBEDDINGS in self.checkpoint.tensors

    @property
    def own_output(self) -> bool:
        """Whether it has an output layer, and does not use its target's."""
        return _LM_HEAD in self.checkpoint.tensors

    @functools.cached_property
    def target_ids(self) -> NDArray[np.int64]:
        """The target's id of each draft token, (draft vocabulary,)."""
        if not self.own_output:
            return np.arange(self.config.vocabulary, dtype=np.int64)
        return target_ids(self.checkpoint)


def check_block(target: Checkpoint, folder: Path | None, depth: int, kind: str) -> None:
    """Raises RequestError for a drafter of a kind (`dflash`, `dspark`, `domino`) that cannot draft
    for the target, or not at this depth.
    """
    if folder is None:
        raise RequestError(f"{kind} drafts with a head's files; name its folder: {kind}:FOLDER")
    if depth:
        raise RequestError(
            f"depth {depth}: a {kind} drafter has no MTP layers; use --specdec-depth=0"
        )
    checked_block(target, folder, kind)


def checked_block(target: Checkpoint, folder: Path, kind: str) -> BlockFiles:
    """The drafter in a folder, if it can draft for the target.

    Parameters
    ----------
    target
        The target's checkpoint; its configuration alone is read.
    folder
        config.json and safetensors weights in one of the forms of `block_config`.
    kind
        `dflash`, `dspark` or `domino`.

    Raises
    ------
    RequestError
        For pickled weights, tensors that do not fit config.json, vocabularies that do not fit each
        other, layers that the target does not have, a mask token without an embedding, or a drafter
        for another target.

    Examples
    --------
    >>> files = checked_block(target, Path("heads/qwen3-dflash"), "dflash")  # doctest: +SKIP
    >>> files.states, files.config.most_drafts  # doctest: +SKIP
    ((2, 10, 18, 26, 34), 15)
    """
    files, faults = read_block(target, folder, kind)
    if faults:
        raise faults[0]
    return files


def read_block(
    target: Checkpoint, folder: Path, kind: str
) -> tuple[BlockFiles, list[RequestError]]:
    """The drafter in a folder whose tensors make one, and why `checked_block` refuses it.

    The faults are those between parts that are well formed. Raises RequestError for a folder whose
    tensors are no such drafter for a target of this shape.
    """
    check_pickle(folder)
    checkpoint = Checkpoint(folder)
    check_once(checkpoint)
    config = read_block_config(folder / "config.json", checkpoint.config, kind)
    _check_sizes(checkpoint, config, target)
    _check_output(checkpoint, config)
    needed, optional = block_shapes(config, _rows(checkpoint, config))
    check_tensors(checkpoint, needed, optional, kind=config.in_words, maps=MAPS)
    check_vocabulary(checkpoint, config.vocabulary, target)
    faults: list[RequestError] = []
    with _kept(faults):
        check_verifier(config.path, config.verifier, config.verifier_classes, target)
    states: tuple[int, ...] = ()
    with _kept(faults):
        states = config.states(layers_of(target))
    with _kept(faults):
        _check_mask(config)
    if _LM_HEAD in checkpoint.tensors:
        with _kept(faults):
            check_maps(checkpoint, config.vocabulary)
    return BlockFiles(checkpoint=checkpoint, config=config, states=states), faults


def block_drafts(folder: Path, kind: str) -> int:
    """Drafts a round that a drafter was trained for: what it drafts in a longer block, at any place
    of it, it never learnt. Raises RequestError for a config.json that describes no such drafter.
    """
    path = folder / "config.json"
    return read_block_config(path, Checkpoint(folder).config, kind).most_drafts


@contextlib.contextmanager
def _kept(faults: list[RequestError]) -> Iterator[None]:
    """Keep the refusal of a check."""
    try:
        yield
    except RequestError as fault:
        faults.append(fault)


def _check_sizes(checkpoint: Checkpoint, config: BlockConfig, target: Checkpoint) -> None:
    """The widths of drafter and target, which share embeddings or the output layer."""
    width, folder = known_width(target), checkpoint.folder
    if width is None or width == config.width:
        return
    raise RequestError(
        f"the {config.in_words} {folder} is {config.width} wide and the target {target.folder} "
        f"{width}; no public drafter of this kind reads states of another width than its own: name "
        "the target that it was trained for"
    )


def _check_output(checkpoint: Checkpoint, config: BlockConfig) -> None:
    """A drafter of some tokens alone has an output layer of its own."""
    some = (config.draft_vocabulary or config.vocabulary) < config.vocabulary
    if _LM_HEAD not in checkpoint.tensors and (some or "d2t" in checkpoint.tensors):
        raise RequestError(
            f"{checkpoint.folder} drafts some of the target's tokens and lacks the tensor "
            f"{_LM_HEAD}, which gives their logits; save the whole drafter"
        )


def _check_mask(config: BlockConfig) -> None:
    if config.mask_token >= config.vocabulary:
        raise RequestError(
            f"{config.path} says mask_token_id: {config.mask_token} and vocab_size: "
            f"{config.vocabulary}, so the mask has no embedding; write the token that the drafter "
            "was trained with"
        )


def _rows(checkpoint: Checkpoint, config: BlockConfig) -> int:
    """Number of tokens that it drafts."""
    head = checkpoint.tensors.get(_LM_HEAD)
    if head is None or not head.shape:
        return config.vocabulary
    return config.draft_vocabulary or head.shape[0]


def block_shapes(config: BlockConfig, drafted: int) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """The shapes of the tensors that a drafter of this configuration has, and may have; `drafted`
    is the number of tokens that it drafts.
    """
    width = config.width
    needed: dict[str, Shape] = {
        "fc.weight": (width, len(config.layer_ids) * width),
        "hidden_norm.weight": (width,),
        "norm.weight": (width,),
    }
    optional: dict[str, Shape] = {
        _EMBEDDINGS: (config.vocabulary, width),
        _LM_HEAD: (drafted, width),
    }
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    for index in range(config.layers):
        prefix = f"layers.{index}."
        attention = f"{prefix}self_attn."
        needed |= {
            f"{prefix}input_layernorm.weight": (width,),
            f"{prefix}post_attention_layernorm.weight": (width,),
            f"{attention}q_proj.weight": (queries, width),
            f"{attention}k_proj.weight": (keys, width),
            f"{attention}v_proj.weight": (keys, width),
            f"{attention}o_proj.weight": (width, queries),
            f"{attention}q_norm.weight": (config.head_dim,),
            f"{attention}k_norm.weight": (config.head_dim,),
            f"{prefix}mlp.gate_proj.weight": (config.mlp_width, width),
            f"{prefix}mlp.up_proj.weight": (config.mlp_width, width),
            f"{prefix}mlp.down_proj.weight": (width, config.mlp_width),
        }
        if config.attention_bias:
            needed |= {
                f"{attention}q_proj.bias": (queries,),
                f"{attention}k_proj.bias": (keys,),
                f"{attention}v_proj.bias": (keys,),
                f"{attention}o_proj.bias": (width,),
            }
    return needed | _correcting_shapes(config, drafted), optional


def _correcting_shapes(config: BlockConfig, drafted: int) -> dict[str, Shape]:
    """Of what corrects the logits, and of the confidence head."""
    shapes: dict[str, Shape] = {}
    if (markov := config.markov) is not None:
        rank, width = markov.rank, config.width
        shapes["markov_head.markov_w1.weight"] = (config.vocabulary, rank)
        shapes["markov_head.markov_w2.weight"] = (drafted, rank)
        if markov.head == "gated":
            shapes["markov_head.gate_proj.weight"] = (rank, width + rank)
            shapes["markov_head.gate_proj.bias"] = (rank,)
        if markov.head == "rnn":
            shapes["markov_head.joint_proj.weight"] = (3 * rank, 2 * rank + width)
            shapes["markov_head.joint_proj.bias"] = (3 * rank,)
    if config.confidence is not None:
        shapes["confidence_head.proj.weight"] = (1, config.confidence)
        shapes["confidence_head.proj.bias"] = (1,)
    if (domino := config.domino) is not None:
        shapes["prefix_gru.weight_ih_l0"] = (3 * domino.state, config.width)
        shapes["prefix_gru.weight_hh_l0"] = (3 * domino.state, domino.state)
        shapes["embed_proj.0.weight"] = (domino.inner, config.width + domino.state)
        shapes["embed_proj.2.weight"] = (drafted, domino.inner)
    return shapes
