"""PARD: a draft model that drafts all tokens of a round in one pass, on mask tokens.

An et al., arXiv 2504.18583. The model reads the text and then k - 1 mask tokens, one at the
position of each further draft; the row of the newest token gives the first draft and the row of
mask i the draft i + 1. Attention is causal, so a draft reads the text and the masks before it and
none of the drafts, and k is a prefix of a larger k. config.json names the mask, `pard_token`
(AMD-AIG-AIMA/PARD, vLLM with `parallel_drafting`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ...cases.case import Sampling
from ...checkpoints.checkpoint import Checkpoint, check_pair, open_checkpoint
from ...checkpoints.config_checks import count_of
from ...common.errors import RequestError
from ..loading import LoadedModel, loaded
from ..ragged import CachedModel, Rows, Sequences, new_cache
from .drafts import Drafts, reach_of
from .protocol import DecodingStart, Drafter, DraftScores, Proposal, Report, TextBatch
from .score_arrays import ScoreArrays

_KINDS = ("llama", "qwen2", "qwen3")
"""Classes of models that PARD was published for, and whose layers all attend to the whole text."""
_MASKED = 1 << 11
"""Mask tokens that replay runs at once, over the cached text."""


def check(target: Checkpoint, folder: Path | None, depth: int) -> None:
    if folder is None:
        raise RequestError("pard drafts with a model's files; name its folder: pard:FOLDER")
    if depth:
        raise RequestError(f"depth {depth}: PARD drafts without MTP layers; use --specdec-depth=0")
    drafter = open_checkpoint(folder)
    check_pair(target, drafter, 0)
    mask_token(drafter)
    kind = drafter.text_config.get("model_type")
    sliding = drafter.text_config.get("use_sliding_window")
    if kind not in _KINDS or sliding:
        raise RequestError(
            f"{folder} is a {kind} model{' with sliding windows' if sliding else ''}, and PARD is "
            f"published for {', '.join(_KINDS)} whose layers see the whole text; drop pard_token "
            "from config.json to use it as an ordinary draft model"
        )


def mask_token(drafter: Checkpoint) -> int:
    """The id of the mask token. Raises RequestError without one that the model embeds."""
    token = count_of(drafter.config.get("pard_token"))
    if token is None or not 0 <= token < (drafter.vocabulary or 0):
        raise RequestError(
            f"{drafter.folder / 'config.json'} says pard_token: "
            f"{str(drafter.config.get('pard_token'))[:40]}, and the model has {drafter.vocabulary} "
            "tokens; write the id of the mask that it was trained with"
        )
    return token


def load(target: LoadedModel, folder: Path | None, depth: int) -> PardDrafter:
    return PardDrafter(loaded(str(folder)))


class PardDrafter(Drafter):
    """A draft model and its mask token."""

    takes_processors = True

    def __init__(self, model: LoadedModel) -> None:
        self.model, self.mask = model, mask_token(model.checkpoint)
        self.models = (model,)

    def proposer(self, start: DecodingStart) -> PardProposer:
        return PardProposer(self.model, self.mask, start.sampling, start.k)

    def score(self, batch: TextBatch) -> DraftScores:
        arrays = ScoreArrays(batch, batch.steps)
        ids, length = batch.ids.to(self.model.device), batch.ids.shape[1]
        anchors = torch.arange(batch.begin - 1, length - 1, device=ids.device)
        parts = list(self._logits(ids, anchors, batch.steps))
        logits = torch.cat(parts, 1)  # (rows, anchors, steps, vocabulary)
        for step in range(batch.steps):
            # The row of anchor t gives the token at t + 1, its mask i the token at t + 1 + i.
            first = batch.begin + step
            if first >= length:
                break
            arrays.fill(step, first, logits[:, : logits.shape[1] - step, step])
        return arrays.scores()

    def _logits(
        self, ids: torch.Tensor, anchors: torch.Tensor, steps: int
    ) -> Iterator[torch.Tensor]:
        """Of some anchors at a time: (rows, anchors, steps, vocabulary)."""
        model, length = self.model.model, ids.shape[1]
        cache = new_cache(model.config)
        whole = model(ids, past_key_values=cache, use_cache=True).logits
        at_once = max(1, _MASKED // (len(ids) * max(steps - 1, 1)))
        for some in torch.split(anchors, at_once):
            first = whole[:, some, None]
            if steps == 1:
                yield first
                continue
            masks, seen = _masked(some, steps - 1, length, model.dtype)
            outputs = model(
                torch.full((len(ids), len(masks)), self.mask, device=ids.device),
                attention_mask=seen.expand(len(ids), -1, -1, -1),
                position_ids=masks[None].expand(len(ids), -1),
                past_key_values=cache,
                use_cache=True,
            )
            cache.crop(-len(masks))
            later = outputs.logits.unflatten(1, (len(some), steps - 1))
            yield torch.cat([first, later], 2)

    def fingerprint(self, report: Report = lambda what, done, total: None) -> str:
        self.model.checkpoint.hash_now(report)
        return self.model.checkpoint.model_fingerprint


def _masked(
    anchors: torch.Tensor, masks: int, length: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """The positions of the masks of some anchors, (anchors x masks,), and what is added to their
    attention: 0 for the text up to the anchor and the anchor's masks so far, (1, 1, anchors x
    masks, length + anchors x masks).
    """
    number = torch.arange(masks, device=anchors.device)
    positions = (anchors[:, None] + 1 + number).flatten()
    owner = anchors.repeat_interleave(masks)
    order = number.repeat(len(anchors))
    text = torch.arange(length, device=anchors.device) <= owner[:, None]
    own = (owner == owner[:, None]) & (order <= order[:, None])
    seen = torch.cat([text, own], 1)
    added = torch.zeros(seen.shape, dtype=dtype, device=anchors.device)
    return positions, added.masked_fill(~seen, torch.finfo(dtype).min)[None, None]


class PardProposer:
    """One pass a round over the newest tokens and the masks."""

    def __init__(self, model: LoadedModel, mask: int, sampling: Sampling, k: int) -> None:
        self._model = CachedModel(model, reach_of(k, 0))
        self._mask, self._sampling = mask, sampling
        self._read: Rows | None = None
        """Tokens of each row that were read as themselves; what is cached past them are masks."""

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        drafts = Drafts(sequences, self._sampling, k, generator)
        masks = torch.full((len(sequences.lengths),), self._mask, device=sequences.ids.device)
        for step in range(k - 1):
            sequences.put(step, masks)
        logits = self._model.feed(sequences, sequences.lengths + k - 1, k, self._read)
        self._read = sequences.lengths
        for step in range(k):
            drafts.take(logits[:, step])
        return drafts.proposal()

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """The sequences hold all that it needs."""

    def select(self, rows: Rows) -> None:
        self._model.select(rows)
        if self._read is not None:
            self._read = self._read[rows]
