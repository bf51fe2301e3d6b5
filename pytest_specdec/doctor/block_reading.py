"""One way to run a block drafter (DFlash, DSpark, Domino), and the others that are in use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..checkpoints.block_config import BlockConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockReading:
    """How a block drafter is run. Two readings that are equal give the same drafts."""

    states: tuple[int, ...]
    """The target's states that it reads, numbered as transformers' `hidden_states`."""
    causal: tuple[bool, ...]
    """Of each layer whether a row reads the rows of its block up to its own alone."""
    first_row: int
    """The row that the first draft is read from: 0 the anchor's, 1 the first mask's."""
    mask_token: int
    theta: float
    """The rotary base."""
    later: int = 0
    """Added to the positions of a block's rows."""
    windowed: bool = True
    """Whether sliding layers read their window of the context alone."""
    corrected: bool = True
    """Whether the logits are corrected by the tokens before each draft (DSpark, Domino)."""
    own_embeddings: bool = True
    """Whether the drafter's own embeddings are read, where it has some."""
    own_output: bool = True
    """Whether its own output layer makes the logits, where it has one for all tokens."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockChoices:
    """The readings that a folder's drafter allows."""

    config: BlockConfig
    states: tuple[int, ...]
    """As config.json says."""
    layers: int
    """The target's decoder layers, N."""
    masks: tuple[int, ...]
    """Tokens that may be the mask."""
    bases: tuple[float, ...]
    """Rotary bases that may be meant."""
    own_embeddings: bool
    own_output: bool
    """Whether it has an output layer of its own that the target's could stand for."""

    def written(self) -> BlockReading:
        """As loaders read the folder."""
        return BlockReading(
            states=self.states,
            causal=self.config.causal,
            first_row=self.config.first_row,
            mask_token=self.config.mask_token,
            theta=self.config.theta,
        )

    @property
    def state_sets(self) -> tuple[tuple[int, ...], ...]:
        """All ids a layer earlier or later, and in the opposite order."""
        shifted = (tuple(number + by for number in self.states) for by in (-1, 0, 1))
        found = [ids for ids in shifted if all(0 <= number < self.layers for number in ids)]
        return tuple(dict.fromkeys([*found, self.states[::-1]]))

    def _values(self) -> Mapping[str, Sequence[Any]]:
        """Of each field the values that it may have."""
        config = self.config
        causal = (config.causal, (True,) * config.layers, (False,) * config.layers)
        return {
            "states": self.state_sets,
            "causal": causal,
            "first_row": (0, 1),
            "mask_token": self.masks,
            "theta": self.bases,
            "later": (-1, 0, 1),
            "windowed": (True, False) if any(config.windows) else (True,),
            "corrected": (True, False) if config.markov or config.domino else (True,),
            "own_embeddings": (True, False) if self.own_embeddings else (True,),
            "own_output": (True, False) if self.own_output else (True,),
        }

    def neighbours(self, reading: BlockReading) -> list[BlockReading]:
        """The readings that differ from this one in one respect."""
        found = [
            dataclasses.replace(reading, **{name: value})
            for name, values in self._values().items()
            for value in values
        ]
        return [other for other in dict.fromkeys(found) if other != reading]

    def further(self, reading: BlockReading, *, lost: bool) -> list[BlockReading]:
        return []

    def taken_back(self, reading: BlockReading) -> list[BlockReading]:
        """The reading with one of its differences from the written one taken back, each in turn."""
        written = self.written()
        return [
            dataclasses.replace(reading, **{name: getattr(written, name)})
            for name in self._values()
            if getattr(reading, name) != getattr(written, name)
        ]

    def revised(self, reading: BlockReading) -> list[BlockReading]:
        """Those with another value where the reading differs from the written one."""
        written = self.written()
        return [
            dataclasses.replace(reading, **{name: value})
            for name, values in self._values().items()
            for value in values
            if getattr(reading, name) not in (getattr(written, name), value)
        ]


def block_differences(written: BlockReading, reading: BlockReading) -> list[str]:
    """What is another in a reading, in a few words each."""
    rows = {0: "the anchor's row", 1: "the first mask's row"}
    words = {
        "states": f"the states {', '.join(map(str, reading.states))}",
        "causal": "causal blocks" if all(reading.causal) else "blocks that read all their rows",
        "first_row": f"the first draft from {rows[reading.first_row]}",
        "mask_token": f"another mask token, such as {reading.mask_token}",
        "theta": f"rotary base {reading.theta:g}",
        "later": f"rows one position {'later' if reading.later > 0 else 'earlier'}",
        "windowed": "no windows",
        "corrected": "logits without their correction",
        "own_embeddings": "the target's embeddings",
        "own_output": "the target's output layer",
    }
    return [
        text for name, text in words.items() if getattr(reading, name) != getattr(written, name)
    ]


def block_cures(config: BlockConfig, written: BlockReading, reading: BlockReading) -> list[str]:
    """What to correct so that loaders read the folder so, a field or a tensor each."""
    shift = 1 if config.ids_are_outputs else 0
    ids = "target_layer_ids" if config.ids_are_outputs else "aux_hidden_state_layer_ids"
    causal = str(all(reading.causal)).lower()
    cures = {
        "states": f"config.json: {ids} -> {[number - shift for number in reading.states]}",
        "causal": f"config.json: is_causal -> {causal}",
        "first_row": _first_row(config, reading.first_row),
        "mask_token": "config.json: mask_token_id -> the token that training was given; "
        f"{written.mask_token} is not it, {reading.mask_token} drafts better, and few others were "
        "tried",
        "theta": f"config.json: rope_theta -> {reading.theta:g}",
        "later": "the rows of blocks were trained one position "
        f"{'later' if reading.later > 0 else 'earlier'}; no field of config.json says it: train "
        "with the anchor at its place in the text",
        "windowed": "config.json: layer_types -> full_attention of every layer",
        "corrected": "tensors: the correction of the logits makes drafts worse; train it again, or "
        "leave it out",
        "own_embeddings": "tensors: leave embed_tokens.weight out, or save the trained one",
        "own_output": "tensors: leave lm_head.weight out, or save the trained one",
    }
    return [
        text for name, text in cures.items() if getattr(reading, name) != getattr(written, name)
    ]


def _first_row(config: BlockConfig, row: int) -> str:
    """How each packaging says which row drafts first."""
    if config.domino is not None:
        return f"config.json: shift_label -> {str(row == 0).lower()}"
    if config.packaging == "speculators":
        return f"config.json: sample_from_anchor -> {str(row == 0).lower()}"
    return (
        f"the first draft was trained in row {row} of the block, the anchor's being 0, and this "
        "packaging has no field for it: save the drafter in speculators' packing with "
        f"sample_from_anchor: {str(row == 0).lower()}"
    )
