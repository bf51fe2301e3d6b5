"""A P-EAGLE head: an EAGLE-3 head that drafts all tokens of a round in one pass.

It is `eagle3_head` with two changes. A draft step after the first reads the mask token in the place
of the draft before it, and for c what `fc` makes of one learnt state, `mask_hidden`, in the place
of what that step hands on. So no step waits for another, and one pass computes them all. Attention
is causal, as in EAGLE-3: a step reads the keys of step 1 at the anchors up to its own and those of
its own chain's earlier steps, never later ones. So the drafts of a smaller k are a prefix of those
of a larger one, and one replay serves every k.

References: speculators `models/peagle/{core,attention}.py`, SpecForge `modeling/draft/peagle.py`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ...checkpoints.eagle3_checks import MASK_STATE, Eagle3Files
from ...checkpoints.peagle_checks import (
    PEagleFiles,
    check_peagle,
    checked_peagle,
    peagle_drafts,
)
from ..loading import LoadedModel
from .eagle3 import Eagle3Drafter
from .eagle3_head import Eagle3Head, weights_of

check = check_peagle
most_drafts = peagle_drafts
can_draft_more = True


def load(target: LoadedModel, folder: Path | None, depth: int) -> PEagleDrafter:
    assert folder is not None
    return PEagleDrafter(target, checked_peagle(target.checkpoint, folder))


class PEagleDrafter(Eagle3Drafter):
    """A head that was checked, loaded for its target."""

    can_draft_more = True

    def __init__(self, target: LoadedModel, files: PEagleFiles) -> None:
        self._parallel = files
        super().__init__(target, files.head)
        self.most_drafts = files.most_drafts

    def _head_of(self, files: Eagle3Files, target: LoadedModel) -> PEagleHead:
        return PEagleHead(files, self._parallel.mask_token, target)


class PEagleHead(Eagle3Head):
    """The network: steps after the first read masks."""

    def __init__(self, files: Eagle3Files, mask_token: int, target: LoadedModel) -> None:
        weights = weights_of(files)
        super().__init__(files.config, weights, files.target_ids, target)
        self.mask_token = mask_token
        mask = weights[MASK_STATE].to(target.device, target.model.dtype)
        with torch.no_grad():
            self._mask = self.fused(mask)
        """(1, 1, width): c of every step after the first."""

    def read_tokens(self, step: int, tokens: torch.Tensor) -> torch.Tensor:
        return tokens if step == 0 else torch.full_like(tokens, self.mask_token)

    def handed_on(self, state: torch.Tensor) -> torch.Tensor:
        return self._mask.expand_as(state)
