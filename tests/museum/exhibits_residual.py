"""Defects of 2026 in engines that draft with heads on the target's last state, as patches of our
decoder; replay keeps reading the heads as their files say, so that the oracle can be asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from museum.defects import Defect, Patch
from museum.exhibit import Exhibit, Setting

from pytest_specdec.decoding.drafters.residual_heads import ResidualHeads, ResidualHeadsProposer
from pytest_specdec.decoding.ragged import CachedModel

MEDUSA = Setting("text-medusa", 4, 0, prompts=12)
Logits = Callable[[ResidualHeads, int, torch.Tensor, Sequence[torch.Tensor]], torch.Tensor]


def proposes(logits: Logits) -> Defect:
    """The proposer's heads give other logits; replay's do not."""

    def defect(patch: Patch) -> None:
        start = ResidualHeadsProposer.__init__

        class Broken:
            """The heads as the proposer sees them."""

            reads_tokens = False

            def __init__(self, heads: ResidualHeads) -> None:
                self._heads = heads

            def logits(
                self, head: int, state: torch.Tensor, following: Sequence[torch.Tensor] = ()
            ) -> torch.Tensor:
                return logits(self._heads, head, state, following)

        def broken(self: ResidualHeadsProposer, target, heads, sampling) -> None:
            start(self, target, Broken(heads), sampling)

        patch.setattr(ResidualHeadsProposer, "__init__", broken)

    return defect


def first_head_always(
    heads: ResidualHeads, head: int, state: torch.Tensor, following: Sequence[torch.Tensor]
) -> torch.Tensor:
    """The number of the step never reaches the heads."""
    return heads.logits(0, state, following)


def tied_output(
    heads: ResidualHeads, head: int, state: torch.Tensor, following: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Output layers are tied to the target's, whatever the folder holds."""
    name = f"{head}_out_weight"
    kept = heads.weights.pop(name)
    try:
        return heads.logits(head, state, following)
    finally:
        heads.weights[name] = kept


def state_of_the_token_before(patch: Patch) -> None:
    """The heads read the state of the last token but one."""
    propose = ResidualHeadsProposer.propose

    def broken(self: ResidualHeadsProposer, *arguments):
        target = self._target
        target.keep(arguments[0].agreed)
        whole = target.hidden
        assert whole is not None
        target.hidden = whole[:, : max(whole.shape[1] - 1, 1)]
        keep, target.keep = target.keep, lambda lengths: None
        try:
            return propose(self, *arguments)
        finally:
            target.hidden = whole
            del target.keep
            assert target.keep == keep

    patch.setattr(ResidualHeadsProposer, "propose", broken)


def state_before_the_norm(patch: Patch) -> None:
    """The target hands its heads the last layer's output before the final norm."""
    start = CachedModel.__post_init__

    def broken(self: CachedModel) -> None:
        start(self)
        if self.keeps_hidden:
            self.keeps_hidden = False
            self.keeps_layers = (self.model.model.config.num_hidden_layers,)

    patch.setattr(CachedModel, "__post_init__", broken)


RESIDUAL_EXHIBITS = (
    Exhibit(
        "collapse after the first draft",
        "vllm-project/vllm#51009",
        "acceptance collapses after position 0 (cause open; here the number of the step never "
        "reaches the heads, and the first one drafts every token)",
        MEDUSA,
        proposes(first_head_always),
        first=2,
        falls=2,
        hides=dataclasses.replace(MEDUSA, k=1, prompts=3),
    ),
    Exhibit(
        "output layers tied",
        "sgl-project/SpecForge#473",
        "`tie_word_embeddings` of the target makes the drafter use the target's output layer in "
        "place of its own",
        MEDUSA,
        proposes(tied_output),
    ),
    Exhibit(
        "heads read another token's state",
        "vllm-project/vllm-ascend#12539",
        "logits are taken from wrong hidden states (there with sharded heads; here the heads read "
        "the state of the token before)",
        MEDUSA,
        state_of_the_token_before,
    ),
    Exhibit(
        "heads read the raw state",
        "vllm-project/vllm#46075",
        "the state is handed on before its norm to a drafter that was trained on the normed one "
        "(there an MTP layer's own; here the target's, to Medusa heads, which on this target draft "
        "a little better so: the oracle sees what no floor does)",
        MEDUSA,
        state_before_the_norm,
        gate="improved",
    ),
)
