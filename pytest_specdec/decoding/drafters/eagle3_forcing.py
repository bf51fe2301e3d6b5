"""An EAGLE-3 head run by teacher forcing: the draft steps of every round start of a text at once.

At step s every anchor has a query. It sees the keys of step 1 at the anchors up to its own and the
keys of its own chain at steps 2 to s: causal over the first, one diagonal for each of the others
(the mask that EAGLE-3 calls training-time test, arXiv 2503.01840). The diagonals are products of
rows, so no mask is as wide as steps times length, and queries are taken a few at a time, so that
memory grows with the length and not with its square.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .eagle3_head import Eagle3Head

_SCORES = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Attention scores held at once, in numbers."""


def teacher_forced_states(
    head: Eagle3Head, ids: torch.Tensor, states: torch.Tensor, steps: int
) -> Iterator[torch.Tensor]:
    """Yield y of draft step i = 0, 1, ..., each (rows, length - 2 - i, width): column t is the
    state at anchor t, which predicts token t + 2 + i.

    `ids` is (rows, length), `states` the target's joined states (rows, length, states x target
    width). Ends where no token is left to predict.
    """
    length = ids.shape[1]
    chains = _AllChains(head.config.layers)
    carried = head.fused(states[:, : max(length - 2, 0)])
    for step in range(steps):
        anchors = length - 2 - step
        if anchors < 1:
            return
        positions = torch.arange(step, step + anchors, device=ids.device)[None]
        tokens = head.read_tokens(step, ids[:, step + 1 : step + 1 + anchors])
        state = head.step(tokens, carried[:, :anchors], positions, chains.attend)
        yield state
        carried = head.handed_on(state)


class _AllChains:
    """The keys and values of each layer, step after step: (rows, key heads, anchors, size) each."""

    def __init__(self, layers: int) -> None:
        self._blocks: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(layers)]

    def attend(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """What `eagle3_head.Attend` returns, for one query an anchor."""
        blocks = self._blocks[layer]
        blocks.append((keys, values))
        if len(blocks) == 1:
            return torch.nn.functional.scaled_dot_product_attention(
                queries, keys, values, is_causal=True, enable_gqa=True
            )
        rows, heads, anchors, _ = queries.shape
        budget = _SCORES.get(queries.device.type, _SCORES["cpu"])
        part = max(budget // (rows * heads * anchors), 1)
        read = [
            _attended(queries[:, :, begin : begin + part], blocks, begin)
            for begin in range(0, anchors, part)
        ]
        return torch.cat(read, 2)


def _attended(
    queries: torch.Tensor, blocks: list[tuple[torch.Tensor, torch.Tensor]], begin: int
) -> torch.Tensor:
    """What the queries (rows, heads, columns, size) of the anchors from `begin` on read: the first
    block up to their anchor, the others at their anchor alone.
    """
    (keys, values), later = blocks[0], blocks[1:]
    rows, _, columns, size = queries.shape
    end = begin + columns
    grouped = queries.view(rows, keys.shape[1], -1, columns, size) * size**-0.5
    scores = torch.einsum("bkgcd,bkad->bkgca", grouped, keys[:, :, :end])
    unseen = torch.ones(columns, end, dtype=torch.bool, device=queries.device).triu(begin + 1)
    scores = scores.masked_fill(unseen, -torch.inf)
    diagonals = [
        torch.einsum("bkgcd,bkcd->bkgc", grouped, own[:, :, begin:end])[..., None]
        for own, _ in later
    ]
    weights = torch.cat([scores, *diagonals], -1).float().softmax(-1).to(values.dtype)
    read = torch.einsum("bkgca,bkad->bkgcd", weights[..., :end], values[:, :, :end])
    for index, (_, own) in enumerate(later):
        read = read + weights[..., end + index, None] * own[:, :, None, begin:end]
    return read.flatten(1, 2)
