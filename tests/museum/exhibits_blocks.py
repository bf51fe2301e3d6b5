"""Defects of 2026 in engines that draft with block drafters, as patches of our decoder, and in the
files of such drafters; replay keeps reading the drafter as its files say, so that the oracle can be
asked.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from museum import defects_eagle3
from museum.defects import Defect, Patch
from museum.edits import Config, Weights
from museum.exhibit import Exhibit, Setting

from pytest_specdec.decoding.drafters.block_cache import BlockCache
from pytest_specdec.decoding.drafters.block_head import BlockHead

BLOCK = Setting("text-dflash", 7, 0, prompts=12)
SPACE = 222
"""A token of the text target that is a space."""


def drafts_by(change: Callable[[BlockHead], None]) -> Defect:
    """The engine drafts with a changed drafter."""

    def defect(patch: Patch) -> None:
        start = BlockCache.__init__

        def broken(self: BlockCache, head: BlockHead, k: int) -> None:
            changed = copy.copy(head)
            change(changed)
            start(self, changed, k)

        patch.setattr(BlockCache, "__init__", broken)

    return defect


def says(**fields: Any) -> Callable[[BlockHead], None]:
    """The engine reads config.json otherwise."""

    def change(head: BlockHead) -> None:
        head.config = dataclasses.replace(head.config, **fields)

    return change


def one_later(head: BlockHead) -> None:
    """Rows stand one position after their own."""
    states = head.states

    def moved(anchors: Any, positions: torch.Tensor, rows: int, attend: Any) -> torch.Tensor:
        return states(anchors, positions + 1, rows, attend)

    head.states = moved  # type: ignore[method-assign]


def longer(patch: Patch) -> None:
    """The block is four rows longer than the drafter was trained with."""
    start = BlockCache.__init__

    def broken(self: BlockCache, head: BlockHead, k: int) -> None:
        start(self, head, k + 4)

    patch.setattr(BlockCache, "__init__", broken)


def anchors_row(patch: Patch) -> None:
    """Drafts are read from the rows before theirs, the anchor's first."""
    block = BlockCache.block

    def broken(self: BlockCache, *arguments: Any) -> torch.Tensor:
        return block(self, *arguments).roll(1, 1)

    patch.setattr(BlockCache, "block", broken)


def swapped_arguments(patch: Patch) -> None:
    """A kernel is given the context's values as keys and its keys as values."""
    keys = BlockCache._held

    def broken(self: BlockCache, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        held = keys(self, layer)
        return held[1], held[0]

    attend = BlockCache._attend

    def in_attention(self: BlockCache, *arguments: Any) -> torch.Tensor:
        with patch.context() as inner:
            inner.setattr(BlockCache, "_held", broken)
            return attend(self, *arguments)

    patch.setattr(BlockCache, "_attend", in_attention)


def newest_context_alone(patch: Patch) -> None:
    """Of the context the last two tokens are read, as if pages before them were lost."""
    seen = BlockCache._seen

    def broken(self: BlockCache, layer: int, columns: int) -> torch.Tensor:
        found = seen(self, layer, columns).clone()
        found[..., :-2] = False
        return found

    patch.setattr(BlockCache, "_seen", broken)


def other_mask(weights: Weights, config: Config) -> None:
    config["dflash_config"]["mask_token_id"] = SPACE


def causal(weights: Weights, config: Config) -> None:
    config["is_causal"] = True


BLOCK_EXHIBITS = (
    Exhibit(
        "another mask token",
        "sgl-project/SpecForge#473",
        "the block's places hold the embedding of another token than the drafter was trained with",
        BLOCK,
        drafts_by(says(mask_token=SPACE)),
    ),
    Exhibit(
        "positions off by one",
        "sgl-project/SpecForge#472",
        "the rows of a block stand one position after their own",
        BLOCK,
        drafts_by(one_later),
    ),
    Exhibit(
        "causal blocks",
        "sgl-project/sglang#34524",
        "rows of a block read those up to their own, where the drafter was trained to read all "
        "(there in sliding layers; here in all)",
        BLOCK,
        drafts_by(says(causal=(True, True))),
    ),
    Exhibit(
        "longer blocks",
        "vllm-project/vllm#41834",
        "the engine runs longer blocks than the drafter was trained with, and all drafts are others",
        BLOCK,
        longer,
        falls=4,
    ),
    Exhibit(
        "drafts from the anchor's row",
        "vllm-project/vllm#51009",
        "drafts are read from the rows before theirs (the report gives symptoms; packagings differ "
        "in which row drafts first)",
        BLOCK,
        anchors_row,
    ),
    Exhibit(
        "arguments swapped",
        "local-inference-lab/vllm#85",
        "a kernel is given keys and values of the context in the wrong order",
        BLOCK,
        swapped_arguments,
    ),
    Exhibit(
        "states of other layers",
        "vllm-project/vllm-ascend#12539",
        "the context is made of states one layer after those that the drafter names",
        BLOCK,
        defects_eagle3.reads_states(defects_eagle3.one_later),
    ),
    Exhibit(
        "context lost",
        "vllm-project/vllm#49559",
        "only the newest tokens of the context are read (the report gives symptoms)",
        BLOCK,
        newest_context_alone,
    ),
    Exhibit(
        "another mask token in the files",
        "sgl-project/SpecForge#473",
        "config.json names another mask token than the drafter was trained with",
        BLOCK,
        edit=other_mask,
        doctor="mask_token_id",
    ),
    Exhibit(
        "causal in the files",
        "sgl-project/sglang#35209",
        "config.json says that blocks are causal, and they were trained bidirectional",
        BLOCK,
        edit=causal,
        doctor="is_causal -> false",
    ),
)
