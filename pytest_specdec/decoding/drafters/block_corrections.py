"""What block drafters add to the logits of a draft by the tokens before it: nothing (DFlash), a
Markov head (DSpark), a GRU (Domino).

A correction reads emitted and accepted tokens alone, so by teacher forcing it is exact: all drafts
before one that can be accepted are the text's own tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ...checkpoints.block_config import BlockConfig, DominoConfig, MarkovConfig

Corrected = tuple[torch.Tensor | None, torch.Tensor | None]
"""A bias of the logits (..., drafted), None for none, and what the next draft is given."""


class Correction(nn.Module):
    """Of DFlash: none."""

    def forward(
        self,
        step: int,
        state: torch.Tensor,
        tokens: torch.Tensor,
        embed: Callable[[torch.Tensor], torch.Tensor],
        carried: torch.Tensor | None,
    ) -> Corrected:
        """The correction of draft `step`; see `block_head.BlockHead.draft_logits`."""
        return None, None


class MarkovCorrection(Correction):
    """DSpark's: W2 of the embedding W1 of the token before, as it is, gated by y, or after a
    recurrent step along the block.
    """

    def __init__(self, markov: MarkovConfig, config: BlockConfig, drafted: int) -> None:
        super().__init__()
        self._head = markov.head
        self.markov_head = _MarkovMatrices(markov, config, drafted)

    def forward(
        self,
        step: int,
        state: torch.Tensor,
        tokens: torch.Tensor,
        embed: Callable[[torch.Tensor], torch.Tensor],
        carried: torch.Tensor | None,
    ) -> Corrected:
        head = self.markov_head
        before = head.markov_w1(tokens)
        if self._head == "gated":
            before = torch.sigmoid(head.gate_proj(torch.cat([state, before], -1))) * before
        elif self._head == "rnn":
            held = torch.zeros_like(before) if carried is None else carried
            joint = head.joint_proj(torch.cat([held, before, state], -1))
            gate, candidate, output = joint.chunk(3, -1)
            gate = torch.sigmoid(gate)
            carried = gate * held + (1 - gate) * torch.tanh(candidate)
            before = torch.tanh(output)
        return head.markov_w2(before), carried


class _MarkovMatrices(nn.Module):
    """The tensors of a Markov head."""

    def __init__(self, markov: MarkovConfig, config: BlockConfig, drafted: int) -> None:
        super().__init__()
        rank, width = markov.rank, config.width
        self.markov_w1 = nn.Embedding(config.vocabulary, rank)
        self.markov_w2 = nn.Linear(rank, drafted, bias=False)
        if markov.head == "gated":
            self.gate_proj = nn.Linear(width + rank, rank)
        if markov.head == "rnn":
            self.joint_proj = nn.Linear(2 * rank + width, 3 * rank)


class DominoCorrection(Correction):
    """Domino's: two matrices of y and of a GRU's state after the anchor and the drafts so far."""

    def __init__(self, domino: DominoConfig, config: BlockConfig, drafted: int) -> None:
        super().__init__()
        self._uncorrected = domino.uncorrected
        self.prefix_gru = _GruMatrices(config.width, domino.state)
        self.embed_proj = nn.Sequential(
            nn.Linear(config.width + domino.state, domino.inner, bias=False),
            nn.SiLU(),
            nn.Linear(domino.inner, drafted, bias=False),
        )

    def forward(
        self,
        step: int,
        state: torch.Tensor,
        tokens: torch.Tensor,
        embed: Callable[[torch.Tensor], torch.Tensor],
        carried: torch.Tensor | None,
    ) -> Corrected:
        carried = self._read(embed(tokens), carried)
        if step < self._uncorrected:
            return None, carried
        return self.embed_proj(torch.cat([state, carried], -1)), carried

    def _read(self, embedded: torch.Tensor, held: torch.Tensor | None) -> torch.Tensor:
        """The GRU's state (..., state) after one more token."""
        gates = nn.functional.linear(embedded, self.prefix_gru.weight_ih_l0)
        if held is None:
            held = gates.new_zeros(*gates.shape[:-1], gates.shape[-1] // 3)
        own = nn.functional.linear(held, self.prefix_gru.weight_hh_l0)
        (reset, update, new), (reset_own, update_own, new_own) = (
            gates.chunk(3, -1),
            own.chunk(3, -1),
        )
        update = torch.sigmoid(update + update_own)
        candidate = torch.tanh(new + torch.sigmoid(reset + reset_own) * new_own)
        return (1 - update) * candidate + update * held


class _GruMatrices(nn.Module):
    """The tensors of torch's GRU of one layer without biases."""

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * state, width))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * state, state))


def correction_of(config: BlockConfig, drafted: int) -> Correction:
    """The correction that a drafter's configuration announces; `drafted` is the number of tokens
    that it drafts.
    """
    if config.markov is not None:
        return MarkovCorrection(config.markov, config, drafted)
    if config.domino is not None:
        return DominoCorrection(config.domino, config, drafted)
    return Correction()
