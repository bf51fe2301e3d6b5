"""Defects of engines that draft with an EAGLE-3 head, as patches of our decoder.

Replay keeps reading the head as its files say, so that the oracle can be asked.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from museum.defects import Defect, Patch
from torch import nn

from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding.drafters.eagle3 import Eagle3Proposer
from pytest_specdec.decoding.drafters.eagle3_cache import Eagle3Chain
from pytest_specdec.decoding.drafters.eagle3_head import Eagle3Head
from pytest_specdec.decoding.ragged import CachedModel, Sequences

Ids = Sequence[int]
"""The states that a head reads, as transformers' `hidden_states` numbers them."""


def loads(*changes: Callable[[Eagle3Head], None]) -> Defect:
    """The engine loads the head with changes to what its files say."""

    def defect(patch: Patch) -> None:
        start = Eagle3Proposer.__init__

        def broken(
            self: Eagle3Proposer, target: CachedModel, head: Eagle3Head, sampling: Sampling
        ) -> None:
            changed = copy.deepcopy(head)
            for change in changes:
                change(changed)
            start(self, target, changed, sampling)

        patch.setattr(Eagle3Proposer, "__init__", broken)

    return defect


def no_joined_norm(head: Eagle3Head) -> None:
    """`norm_before_fc` is not known."""
    head.input_norm = None


def no_norms_of_31(head: Eagle3Head) -> None:
    """`fc_norm` and `norm_output` are not known."""
    head.fc_norm = nn.ModuleList()
    head.config = dataclasses.replace(head.config, norm_output=False)


def normed_state_on(head: Eagle3Head) -> None:
    """The draft loop passes the state on after the last norm."""
    head.config = dataclasses.replace(head.config, norm_output=True)


def no_last_norm(head: Eagle3Head) -> None:
    """`lm_head` reads the state before the last norm."""
    head.norm = nn.Identity()


def halves(head: Eagle3Head) -> None:
    """Pairs of halves are rotated, whatever the head says."""
    for layer in head.layers:
        layer.self_attn._interleaved = False


def swapped_inputs(head: Eagle3Head) -> None:
    """The first layer reads [state; embedding]."""
    attention = head.layers[0].self_attn
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        half = projection.in_features // 2
        projection.weight = nn.Parameter(projection.weight.roll(half, 1), requires_grad=False)


def lost_weights(head: Eagle3Head) -> None:
    """The memory of the weights was released, and comes back as zeros."""
    for weight in head.parameters():
        weight.zero_()


def reads_states(change: Callable[[Ids, int], Ids]) -> Defect:
    """The target keeps other states than those that the head names; `change` is given the ids and
    the number of layers.
    """

    def defect(patch: Patch) -> None:
        start = CachedModel.__post_init__

        def broken(self: CachedModel) -> None:
            if self.keeps_layers:
                self.keeps_layers = change(self.keeps_layers, layers_of(self))
            start(self)

        patch.setattr(CachedModel, "__post_init__", broken)

    return defect


def one_later(ids: Ids, layers: int) -> Ids:
    return [number + 1 for number in ids]


def usual(ids: Ids, layers: int) -> Ids:
    """Those of heads that name none."""
    return 2, layers // 2, layers - 3


def usual_in_graphs(patch: Patch) -> None:
    """The states are named only after graphs were captured: the prompt's pass, which no graph
    covers, keeps the right ones, and each verification the usual ones.
    """
    feed = CachedModel.feed

    def broken(self: CachedModel, *arguments: Any) -> torch.Tensor:
        if self.keeps_layers and self.cached is not None:
            self.keeps_layers = usual(self.keeps_layers, layers_of(self))
        return feed(self, *arguments)

    patch.setattr(CachedModel, "feed", broken)


def wrong_state_after_handover(patch: Patch) -> None:
    """The first draft of a text reads the state of the token before the newest one."""
    begin = Eagle3Chain.begin

    def broken(self: Eagle3Chain, sequences: Sequences, states: torch.Tensor) -> None:
        first = self._cached is None
        begin(self, sequences, states)
        if first:
            self._carried[:, -1] = self._carried[:, -2]

    patch.setattr(Eagle3Chain, "begin", broken)


def stale_requests(k: int) -> Defect:
    """Draft steps behind the first look their request up in the index of the target's pass, where
    each request has k + 1 tokens: row r reads the keys of request r / (k + 1).
    """

    def defect(patch: Patch) -> None:
        attend = Eagle3Chain._attend

        def broken(self: Eagle3Chain, layer: int, *vectors: torch.Tensor) -> torch.Tensor:
            held = self._anchors[layer]
            if self._step == 0 or held is None:
                return attend(self, layer, *vectors)
            requests = torch.arange(len(held[0])) // (k + 1)
            self._anchors[layer] = held[0][requests], held[1][requests]
            read = attend(self, layer, *vectors)
            self._anchors[layer] = held
            return read

        patch.setattr(Eagle3Chain, "_attend", broken)

    return defect


def layers_of(model: CachedModel) -> int:
    count: int = model.model.model.config.num_hidden_layers
    return count
