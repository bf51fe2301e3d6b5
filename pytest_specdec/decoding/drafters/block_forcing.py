"""A block drafter run by teacher forcing: the blocks of every round start of a text at once.

A round that starts after the token x_n reads the context g_0 .. g_(n-1) and its own block. The
context's keys are those of the text, the same for every start that sees them: they are made once.
A block's keys are read by its own rows alone. So the scores of a start are one product with the
keys of the context, of which a mask leaves those before its anchor, and one with the R keys of its
block: no mask is as wide as starts times length, and starts are taken a few at a time.

Exactness. Let a text Y be given. A round that starts after y_n draws draft i from

    q_i(. | y_0 .. y_n, d_1 .. d_i; k),  i = 0 .. k - 1,

with d the drafts before it: DFlash's q_i does not depend on them, the corrections of DSpark and
Domino read them. A draft decides something only where all drafts before it were accepted, and as Y
goes on they are then y_(n+1) .. y_(n+i). The context is the target's own states of accepted tokens:
after each verification those of rejected drafts are thrown away, and a block's keys are never kept.
So the distribution of draft i, where it matters, is a function of Y, n, i and k alone, and that is
what is computed here. It depends on k, since the R rows read one another.
"""

from __future__ import annotations

import dataclasses

import torch

from .block_head import BlockHead

_SCORES = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Attention scores held at once, in numbers."""


def teacher_forced_blocks(
    head: BlockHead, ids: torch.Tensor, states: torch.Tensor, k: int, anchors: torch.Tensor
) -> torch.Tensor:
    """y of each block: (texts, anchors, rows, width), of the rounds that start after the tokens at
    the positions `anchors` (anchors,), at least 1 each.

    `ids` is (texts, length), `states` the target's joined states (texts, length, states x width).
    """
    length = int(anchors.max())
    context = head.context(states[:, :length])
    positions = torch.arange(length, device=ids.device)[None]
    keys = [head.context_keys(layer, context, positions) for layer in range(head.config.layers)]
    rows, budget = head.config.rows(k), _SCORES.get(ids.device.type, _SCORES["cpu"])
    width = max(budget // (len(ids) * head.config.heads * rows * (length + rows)), 1)
    found = []
    for part in torch.split(anchors, width):
        starts = _Starts(head, keys, part, rows)
        tokens = ids[:, part]
        found.append(head.states(tokens, part.expand_as(tokens), rows, starts.attend))
    return torch.cat(found, 1)


@dataclasses.dataclass(frozen=True)
class _Starts:
    """Some round starts of each text, and what their blocks read."""

    head: BlockHead
    context: list[tuple[torch.Tensor, torch.Tensor]]
    """Keys and values of the context, by layer: (texts, key heads, length, size) each."""
    anchors: torch.Tensor
    """(starts,): positions of their newest tokens."""
    rows: int

    def attend(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """What `block_head.Attend` returns."""
        context, read = self.context[layer]
        groups = keys.shape[1]
        texts, _, _, size = queries.shape
        queries = (
            queries.reshape(texts, groups, -1, len(self.anchors), self.rows, size) * size**-0.5
        )
        keys, values = (
            part.reshape(texts, groups, len(self.anchors), self.rows, size)
            for part in (keys, values)
        )
        before = torch.einsum("bkgard,bktd->bkgart", queries, context)
        before = before.masked_fill(~self._seen(layer, context.shape[2]), -torch.inf)
        within = torch.einsum("bkgard,bkasd->bkgars", queries, keys)
        if self.head.config.causal[layer]:
            later = torch.ones(self.rows, self.rows, dtype=torch.bool, device=keys.device).triu(1)
            within = within.masked_fill(later, -torch.inf)
        weights = torch.cat([before, within], -1).float().softmax(-1).to(values.dtype)
        before, within = weights[..., : -self.rows], weights[..., -self.rows :]
        gathered = torch.einsum("bkgart,bktd->bkgard", before, read)
        gathered = gathered + torch.einsum("bkgars,bkasd->bkgard", within, values)
        return gathered.flatten(3, 4).flatten(1, 2)

    def _seen(self, layer: int, length: int) -> torch.Tensor:
        """(starts, rows, length): which positions of the context each row reads."""
        return seen_context(self.head, layer, self.anchors, self.rows, length)


def seen_context(
    head: BlockHead, layer: int, anchors: torch.Tensor, rows: int, length: int
) -> torch.Tensor:
    """(anchors, rows, length): which positions of the context the rows of a block read in a layer;
    `anchors` (anchors,) are the positions of the newest tokens.
    """
    at = torch.arange(length, device=anchors.device)
    seen = at < anchors[:, None, None]
    window = head.config.windows[layer]
    if window is None:
        return seen.expand(-1, rows, -1)
    offsets = torch.arange(rows, device=anchors.device)[None, :, None]
    since = anchors[:, None, None] - window
    if not head.config.window_from_anchor:  # the row itself takes one place
        since = since + offsets + 1
    return (seen & (at >= since)).expand(-1, rows, -1)
