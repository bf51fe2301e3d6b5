"""A block drafter and its target as what is examined."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..cases.case import Sampling
from ..cases.texts import Text
from ..checkpoints.block_checks import checked_block
from ..checkpoints.drafter_folders import check_drafts
from ..checkpoints.head_files import layers_of
from ..decoding.drafters.block_corrections import Correction
from ..decoding.drafters.block_head import BlockHead
from ..decoding.drafters.dflash import block_logits
from ..decoding.drafters.protocol import TextBatch
from ..decoding.loading import LoadedModel
from ..decoding.replay import Progress
from .block_reading import BlockChoices, BlockReading, block_cures, block_differences
from .measure import ReadingScore, Steps, first_drafts, knowing_nothing, measured
from .patient import EngineReading
from .target_states import target_states

_BASES = (10000.0, 500000.0, 1000000.0)
"""Rotary bases that loaders take where none is written, and a usual one."""


class BlockPatient:
    """A folder of a block drafter, its target and texts of the target."""

    faults: Sequence[str] = ()

    def __init__(
        self,
        target: LoadedModel,
        kind: str,
        folder: Path,
        texts: Sequence[Text],
        sampling: Sampling,
        k: int,
        progress: Progress | None = None,
    ) -> None:
        """Run the target over the texts. Raises RequestError for a folder that loaders refuse, for
        more drafts than it was trained for, or texts that the target cannot read.
        """
        self._files = files = checked_block(target.checkpoint, folder, kind)
        check_drafts(folder, k, files.config.most_drafts, trained=True)
        self._k, self._head = k, BlockHead(files, target)
        layers = layers_of(target.checkpoint)
        self.readings = BlockChoices(
            config=files.config,
            states=files.states,
            layers=layers,
            masks=_masks(target, files.config.mask_token),
            bases=_bases(target, files.config.theta),
            own_embeddings=files.own_embeddings,
            own_output=files.own_output and self._head.drafted is None,
        )
        self._seen = target_states(
            target,
            texts,
            sampling,
            layers=layers,
            numbers={number for ids in self.readings.state_sets for number in ids},
            k=k,
            progress=progress,
        )
        vocabulary = target.model.get_input_embeddings().num_embeddings
        self.nothing = knowing_nothing(self._seen, vocabulary, k)

    @property
    def title(self) -> str:
        files = self._files
        return (
            f"{files.config.in_words} {files.checkpoint.folder} ({files.config.packaging}), "
            f"trained to draft {files.config.most_drafts} tokens"
        )

    def measure(self, reading: BlockReading) -> ReadingScore:
        return measured(self._under(reading), self._seen, self._k)

    def screen(self, reading: BlockReading) -> float:
        return first_drafts(self._under(reading), self._seen)

    def _under(self, reading: BlockReading) -> Callable[[TextBatch], Steps]:
        head = read_as(self._head, reading)

        def steps(batch: TextBatch) -> Iterator[tuple[int, torch.Tensor]]:
            whole = dataclasses.replace(batch, steps=self._k)
            for _, place, logits in block_logits(head, whole, reading.states):
                yield place, head.whole_logits(logits)

        return steps

    def words(self, reading: BlockReading) -> str:
        return "; ".join(block_differences(self.readings.written(), reading)) or "as written"

    def cures(self, reading: BlockReading) -> Sequence[str]:
        return block_cures(self._files.config, self.readings.written(), reading)

    def engines(self, best: BlockReading) -> Sequence[EngineReading[BlockReading]]:
        """No engine is known that reads such a folder in another way and drafts with it."""
        return []


def read_as(head: BlockHead, reading: BlockReading) -> BlockHead:
    """The drafter under a reading; its weights are shared."""
    read = copy.copy(head)
    read._modules = dict(head._modules)
    config = head.config
    windows = config.windows if reading.windowed else (None,) * config.layers
    first = reading.first_row
    read.config = dataclasses.replace(
        config,
        causal=reading.causal,
        mask_token=reading.mask_token,
        theta=reading.theta,
        windows=windows,
        first_row=first,
        more_rows=max(config.more_rows, first),
    )
    if reading.theta != config.theta:
        read.rotate_by(reading.theta)
    if not reading.corrected:
        read.correction = Correction()
    if not reading.own_embeddings:
        read._modules["embed_tokens"] = None
    if not reading.own_output:
        read._modules["lm_head"] = None
    if reading.later:
        states: Any = read.states

        def moved(anchors: torch.Tensor, positions: torch.Tensor, *rest: Any) -> torch.Tensor:
            found: torch.Tensor = states(anchors, positions + reading.later, *rest)
            return found

        read.states = moved  # type: ignore[method-assign, assignment]
    return read


def _masks(target: LoadedModel, written: int) -> tuple[int, ...]:
    """The token that is written, those that tokenizers mark as special, and the first and last ones
    of the vocabulary: masks are chosen among tokens that no text has.
    """
    size = target.model.get_input_embeddings().num_embeddings
    special = [] if target.tokenizer is None else target.tokenizer.all_special_ids
    found = dict.fromkeys([written, *special, 0, size - 1])
    return tuple(token for token in found if 0 <= token < size)[:32]


def _bases(target: LoadedModel, written: float) -> tuple[float, ...]:
    config = target.model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    theirs = rope.get("rope_theta") if isinstance(rope, dict) else None
    own = [float(theirs)] if isinstance(theirs, int | float) else []
    return tuple(dict.fromkeys([written, *own, *_BASES]))
