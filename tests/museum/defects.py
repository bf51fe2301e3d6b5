"""Defects of real decoders as patches of ours: each changes what is drafted, and nothing that is
emitted.

Where an engine's report names the lines at fault, the patch does what those lines did; where it
gives symptoms only, the exhibit says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from pytest_specdec.decoding import mtp_cache as chain
from pytest_specdec.decoding import ragged
from pytest_specdec.decoding import verification as rules
from pytest_specdec.decoding.drafters.draft_model import DraftModelProposer
from pytest_specdec.decoding.drafters.drafts import Drafts
from pytest_specdec.decoding.drafters.protocol import Proposal
from pytest_specdec.decoding.mtp_cache import MtpCache
from pytest_specdec.decoding.ragged import CachedModel, Rows, Sequences

Patch = pytest.MonkeyPatch
Defect = Callable[[Patch], None]


def stale_after_rejection(patch: Patch) -> None:
    """Only the newest anchor is run again, so deeper layers keep keys of drafts that were
    rejected.
    """
    begin = MtpCache.begin

    def broken(
        self: MtpCache, sequences: Sequences, hidden: torch.Tensor, anchors: Rows, agreed: Rows
    ) -> None:
        begin(self, sequences, hidden, anchors, agreed + self._depth - 1)

    patch.setattr(MtpCache, "begin", broken)


def approximated_keys(patch: Patch) -> None:
    """Keys of accepted drafts stay as the reused layer's own states gave them; the target's never
    replace them.
    """
    begin = MtpCache.begin

    def broken(self: MtpCache, *arguments: Any) -> None:
        if self._cached:
            self._cached[-1], self._reused = self._cached[-1] + self._reused, 0
        begin(self, *arguments)

    patch.setattr(MtpCache, "begin", broken)


def missing_key(patch: Patch) -> None:
    """After a round accepted in full, the slot of the last draft, which the drafter never read,
    stays empty.
    """
    propose = DraftModelProposer.propose

    def broken(
        self: DraftModelProposer, sequences: Sequences, k: int, generator: torch.Generator | None
    ) -> Proposal:
        model = self._model
        full = accepted_in_full(model, sequences)
        if full.any():
            model.feed(sequences, sequences.agreed, 1, sequences.agreed)
            for layer in model.cache.layers:
                layer.keys[full, :, -1] = layer.values[full, :, -1] = 0
        return propose(self, sequences, k, generator)

    patch.setattr(DraftModelProposer, "propose", broken)


def doubled_sequence(patch: Patch) -> None:
    """After a round accepted in full, the drafter also goes on from its own guess for the bonus
    token, in the same slots.
    """
    propose = DraftModelProposer.propose

    def broken(
        self: DraftModelProposer, sequences: Sequences, k: int, generator: torch.Generator | None
    ) -> Proposal:
        model = self._model
        full = accepted_in_full(model, sequences)
        if not full.any():
            return propose(self, sequences, k, generator)
        guess = model.feed(sequences, sequences.agreed, 1, sequences.agreed)[:, 0].argmax(-1)
        drafts = Drafts(sequences, self._sampling, k, generator)
        for step in range(k):
            ends = sequences.lengths + step
            drafts.take(model.feed(sequences, ends, 1, ends - 1)[:, 0])
            if step + 1 < k:
                right = sequences.window(ends, 1)[0][:, 0]
                sequences.put(step - 1, torch.where(full, guess, right))
                guess = model.feed(sequences, ends, 1, ends - 1)[:, 0].argmax(-1)
                sequences.put(step - 1, right)
        return drafts.proposal()

    patch.setattr(DraftModelProposer, "propose", broken)


def first_layer_always(patch: Patch) -> None:
    """The step's number never reaches the heads: every draft comes from layer 0."""
    start = MtpCache.__init__
    patch.setattr(
        MtpCache, "__init__", lambda self, heads, depth, reach: start(self, heads, 1, reach)
    )


def target_state_handed_on(patch: Patch) -> None:
    """The second layer reads the target's hidden state again, not the first layer's."""
    step = MtpCache.step

    def broken(self: MtpCache) -> torch.Tensor:
        if self._step == 0:
            self._first = self._hidden
        elif self._step == 1:
            self._hidden = self._first
        return step(self)

    patch.setattr(MtpCache, "step", broken)


def state_before_norm_handed_on(patch: Patch) -> None:
    """Each layer passes on its state from before its norm."""
    step = MtpCache.step

    def broken(self: MtpCache) -> torch.Tensor:
        with outputs_of(self._heads.layers[min(self._step, self._depth - 1)].mtp_block) as seen:
            logits = step(self)
        self._hidden = seen[0]
        return logits

    patch.setattr(MtpCache, "step", broken)


def state_of_layer(layer: int) -> Defect:
    """The heads read the output of one of the target's layers, before the final norm, for its last
    hidden state.
    """

    def defect(patch: Patch) -> None:
        feed = CachedModel.feed

        def broken(self: CachedModel, *arguments: Any) -> torch.Tensor:
            with outputs_of(self.model.model.get_decoder().layers[layer]) as seen:
                logits = feed(self, *arguments)
            if self.hidden is not None:
                self.hidden[:, -seen[0].shape[1] :] = seen[0]
            return logits

        patch.setattr(CachedModel, "feed", broken)

    return defect


def missing_residual(patch: Patch) -> None:
    """The heads' last norm sees what the block's MLP returns without the residual that it belongs
    to.
    """
    step = chain.layer_step

    def broken(heads: Any, index: int, *arguments: Any) -> torch.Tensor:
        layer = heads.layers[index]
        with outputs_of(layer.mtp_block.mlp) as seen:
            step(heads, index, *arguments)
        normed: torch.Tensor = layer.post_norm(seen[0])
        return normed

    patch.setattr(chain, "layer_step", broken)


def own_state(patch: Patch) -> None:
    """Save at the newest anchor, each token goes with its own hidden state, not with the one before
    it.
    """
    begin = MtpCache.begin

    def broken(
        self: MtpCache, sequences: Sequences, hidden: torch.Tensor, anchors: Rows, agreed: Rows
    ) -> None:
        begin(self, sequences, torch.cat([hidden[:, 1:], hidden[:, -1:]], 1), anchors, agreed)

    patch.setattr(MtpCache, "begin", broken)


def frozen_input(patch: Patch) -> None:
    """A captured graph's input buffer is not refreshed: every layer embeds the tokens of the
    first.
    """
    step, buffer = chain.layer_step, []

    def broken(heads: Any, index: int, embeds: torch.Tensor, *arguments: Any) -> torch.Tensor:
        if index == 0:
            buffer[:] = [embeds]
        return step(heads, index, buffer[0], *arguments)

    patch.setattr(chain, "layer_step", broken)


def shared_keys(patch: Patch) -> None:
    """All layers of the heads go by the first one's block table and read its keys."""
    begin = MtpCache.begin

    def broken(self: MtpCache, *arguments: Any) -> None:
        warm = bool(self._cached)
        begin(self, *arguments)
        for layer in self._cache.layers[1:] if warm else ():
            layer.keys, layer.values = self._cache.layers[0].keys, self._cache.layers[0].values

    patch.setattr(MtpCache, "begin", broken)


def evicted_keys(window: int) -> Defect:
    """Keys that left the draft's window are still read, from blocks that hold other requests' by
    now.
    """

    def defect(patch: Patch) -> None:
        propose = DraftModelProposer.propose

        def broken(self: DraftModelProposer, *arguments: Any) -> Proposal:
            for layer in self._model.cache.layers if self._model.cached is not None else ():
                for states in (layer.keys, layer.values):
                    states[:, :, :-window] = states.roll(1, 0)[:, :, :-window]
            return propose(self, *arguments)

        patch.setattr(DraftModelProposer, "propose", broken)

    return defect


def full_cache(capacity: int) -> Defect:
    """The draft's cache has room for so many positions; keys of later tokens are lost after the
    round that made them.
    """

    def defect(patch: Patch) -> None:
        propose = DraftModelProposer.propose

        def broken(self: DraftModelProposer, *arguments: Any) -> Proposal:
            model = self._model
            if model.cached is not None:
                positions = (
                    np.arange(model.cached.max()) - (model.cached.max() - model.cached)[:, None]
                )
                kept = torch.from_numpy(positions < capacity)[:, None, :, None]
                for layer in model.cache.layers:
                    layer.keys, layer.values = layer.keys * kept, layer.values * kept
            return propose(self, *arguments)

        patch.setattr(DraftModelProposer, "propose", broken)

    return defect


def short_buffer(steps: int) -> Defect:
    """The buffer of draft logits has room for so many steps; later ones draw from its last row."""

    def defect(patch: Patch) -> None:
        take = Drafts.take

        def broken(self: Drafts, logits: torch.Tensor) -> None:
            if len(self._tokens) < steps:
                self._row = logits
            take(self, self._row)

        patch.setattr(Drafts, "take", broken)

    return defect


def first_rows_gather(patch: Patch) -> None:
    """Hidden states are gathered for every row at the first row's number of accepted tokens."""
    moved = ragged.moved

    def broken(states: torch.Tensor, drop: Rows, axis: int, most: int) -> torch.Tensor:
        return moved(states, np.full_like(drop, drop[0]) if axis == 1 else drop, axis, most)

    patch.setattr(ragged, "moved", broken)


def padding_first(size: int) -> Defect:
    """Batches are padded to a captured size with dummy requests in front, and hidden states are
    read from the first row on.
    """

    def defect(patch: Patch) -> None:
        begin = MtpCache.begin

        def broken(
            self: MtpCache, sequences: Sequences, hidden: torch.Tensor, anchors: Rows, agreed: Rows
        ) -> None:
            begin(self, sequences, hidden.roll(-len(anchors) % size, 0), anchors, agreed)

        patch.setattr(MtpCache, "begin", broken)

    return defect


def exact_match(patch: Patch) -> None:
    """A draft must equal the target's own draw, whatever the two distributions say."""
    changed = dataclasses.replace(rules.REJECTION, verify=rules.sample_match)
    patch.setattr(rules, "REJECTION", changed)


def greedy_drafts(patch: Patch) -> None:
    """The draft is the arg-max at any temperature and its distribution one-hot, so it is accepted
    with p alone.
    """
    take = Drafts.take

    def broken(self: Drafts, logits: torch.Tensor) -> None:
        take(self, logits.masked_fill(logits < logits.max(-1, keepdim=True).values, -torch.inf))

    patch.setattr(Drafts, "take", broken)


def together(*defects: Defect) -> Defect:
    """Several at once."""

    def defect(patch: Patch) -> None:
        for one in defects:
            one(patch)

    return defect


def accepted_in_full(model: CachedModel, sequences: Sequences) -> torch.Tensor:
    """(rows,): they, and only they, lack their last draft in the draft model's cache."""
    cached = sequences.agreed if model.cached is None else model.cached
    return torch.from_numpy(cached < sequences.agreed)


@contextmanager
def outputs_of(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """What a module returns while the context lasts."""
    seen: list[torch.Tensor] = []
    hook = module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()
