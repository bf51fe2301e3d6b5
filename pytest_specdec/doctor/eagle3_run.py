"""The acceptance of an EAGLE-3 head under each reading, on texts that the target has read once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from ..checkpoints.eagle3_checks import Eagle3Files
from ..checkpoints.eagle3_config import Eagle3Config
from ..decoding.drafters.eagle3_forcing import teacher_forced_states
from ..decoding.drafters.eagle3_head import Attend, Eagle3Head, weights_of
from ..decoding.drafters.protocol import TextBatch
from ..decoding.loading import LoadedModel
from .eagle3_reading import Eagle3Reading
from .eagle3_tokens import ids_of
from .measure import ReadingScore, Steps, first_drafts, measured
from .target_states import TargetStates

_TURNED, _SAME = 0.05, 0.01
"""Largest distance of two embeddings that are turns of each other, and of two that are the same, as
a share of their size.
"""
_QUERIES = ("q_proj", "k_proj", "v_proj")


class Eagle3Subject:
    """A head with its weights, to be measured under one reading after another."""

    def __init__(self, files: Eagle3Files, target: LoadedModel, k: int) -> None:
        self._files, self._target, self._k = files, target, k
        self.weights = weights_of(files)
        self.rotation = _rotation(self.weights, target)

    def measure(self, reading: Eagle3Reading, seen: TargetStates) -> ReadingScore:
        """The acceptance of the head under a reading; none where it computes NaN."""
        return measured(self._under(reading), seen, self._k)

    def screen(self, reading: Eagle3Reading, seen: TargetStates) -> float:
        """How much of its first draft tokens is accepted on a few texts."""
        return first_drafts(self._under(reading), seen)

    def _under(self, reading: Eagle3Reading) -> Callable[[TextBatch], Steps]:
        head = _ReadHead(self._files, self.weights, reading, self._target)
        turn = self.rotation if reading.turned_back else None

        def steps(batch: TextBatch) -> Steps:
            return _steps(head, reading, batch, turn, self._k)

        return steps


def _steps(
    head: _ReadHead,
    reading: Eagle3Reading,
    batch: TextBatch,
    turn: torch.Tensor | None,
    k: int,
) -> Iterator[tuple[int, torch.Tensor]]:
    device = batch.ids.device
    states = [batch.layer_states[number].to(device) for number in reading.states]
    if turn is not None:
        states = [state @ turn.to(state.dtype) for state in states]
    for step, state in enumerate(teacher_forced_states(head, batch.ids, torch.cat(states, -1), k)):
        first = max(batch.begin, step + 2)
        yield first, head.logits(state[:, first - step - 2 :])


class _ReadHead(Eagle3Head):
    """A head as one reading has it, for teacher forcing."""

    def __init__(
        self,
        files: Eagle3Files,
        weights: Mapping[str, torch.Tensor],
        reading: Eagle3Reading,
        target: LoadedModel,
    ) -> None:
        ids = ids_of(files, reading.tokens)
        config = _config(files.config, reading)
        super().__init__(config, _weights(weights, reading, config), ids, target)
        self._reading = reading
        known = (ids >= 0) & (ids < config.vocabulary)
        self._ids = torch.from_numpy(ids[known]).to(target.device)
        self._known = torch.from_numpy(np.flatnonzero(known)).to(target.device)
        self._distinct = len(np.unique(ids[known])) == int(known.sum())

    def step(
        self, tokens: torch.Tensor, carried: torch.Tensor, positions: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        """Step s begins at position s, see `eagle3_forcing`."""
        if int(positions[0, 0]):
            positions = positions + self._reading.later_positions
        return super().step(tokens, carried, positions, attend)

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        """Draft tokens that lead outside the vocabulary are left out, and those that lead to one
        token are added up.
        """
        drafts: torch.Tensor = self.lm_head(
            self.norm(state) if self._reading.logits_norm else state
        )
        drafts = drafts[..., self._known]
        shape = (*drafts.shape[:-1], self.vocabulary)
        if self._distinct:
            whole = drafts.new_full(shape, -torch.inf)
            return whole.index_copy_(-1, self._ids, drafts)
        top = drafts.amax(-1, keepdim=True)
        mass = drafts.new_zeros(shape).index_add_(-1, self._ids, (drafts - top).exp())
        return mass.log() + top


def _config(config: Eagle3Config, reading: Eagle3Reading) -> Eagle3Config:
    return dataclasses.replace(
        config,
        norm_before_residual=reading.norm_before_residual,
        norm_before_fc=reading.input_norm == "joined",
        fc_norm=reading.input_norm == "each",
        norm_output=reading.norm_output,
        theta=reading.theta,
        rotated=reading.rotated,
        interleaved=reading.interleaved,
    )


def _weights(
    weights: Mapping[str, torch.Tensor], reading: Eagle3Reading, config: Eagle3Config
) -> dict[str, torch.Tensor]:
    """The tensors that a reading uses; announced norms that are missing have weights of 1."""
    used = {
        name: tensor
        for name, tensor in weights.items()
        if (reading.own_embeddings or name != "embed_tokens.weight")
        and (reading.qk_norms or not name.endswith((".q_norm.weight", ".k_norm.weight")))
    }
    joined, states = weights["fc.weight"].shape[1], len(reading.states)
    if config.norm_before_fc:
        used.setdefault("input_norm.weight", torch.ones(joined))
    for index in range(states if config.fc_norm else 0):
        used.setdefault(f"fc_norm.{index}.weight", torch.ones(joined // states))
    if reading.state_first:
        for projection in _QUERIES:
            name = f"layers.0.self_attn.{projection}.weight"
            used[name] = used[name].roll(config.width, 1)
    return used


def _rotation(weights: Mapping[str, torch.Tensor], target: LoadedModel) -> torch.Tensor | None:
    """(width, width): what turns the target's states back to those that the head was trained on,
    where its own embeddings are the target's before a rotation; None where they are not.
    """
    own = weights.get("embed_tokens.weight")
    theirs = target.model.get_input_embeddings().weight.detach().float()
    if own is None or own.shape != theirs.shape:
        return None
    own = own.to(theirs.device).float()
    size = theirs.norm()
    if (own - theirs).norm() < _SAME * size or (own.norm() - size).abs() > _TURNED * size:
        return None
    left, _, right = torch.linalg.svd(own.T @ theirs)
    turn: torch.Tensor = left @ right
    if (own @ turn - theirs).norm() > _TURNED * size:
        return None
    back: torch.Tensor = turn.T.contiguous()
    return back
