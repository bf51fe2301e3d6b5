"""A controller at work in the decoder: each row's state, and drafts cut to what it allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np
import torch

from ..acceptance.rounds import Round
from ..common.errors import RequestError
from ..speedup.controllers import Controller, RoundSeen
from .drafters.draft_model import DraftModelProposer
from .drafters.protocol import CertainProposal, Drafter, Proposal, Proposer
from .ragged import Sequences


@dataclasses.dataclass
class RowControl:
    """The controller's state for one row."""

    controller: Controller
    state: Hashable

    @property
    def drafts(self) -> int:
        """Tokens to draft in the next round, at most."""
        return self.controller.drafts(self.state)

    @property
    def threshold(self) -> float:
        """Below which drafting stops in the next round."""
        return self.controller.threshold(self.state)

    def played(self, played: Round, emitted: int, proposer: Proposer, row: int) -> None:
        """Take in a round that emitted so many tokens; `row` is the proposer's.

        Of a round that ends its text only what the text shows is taken in.
        """
        accepted = min(played.accepted, emitted - 1)
        sure: tuple[float, ...] = ()
        if self.controller.stops and played.drafted:
            assert isinstance(proposer, DraftModelProposer)
            judged = accepted + (accepted < played.drafted)
            sure = proposer.confidences[row][:judged]
        seen = RoundSeen(drafted=played.drafted, accepted=accepted, confidences=sure)
        self.state = self.controller.after(self.state, seen)


def check_controller(controller: Controller, drafter: Drafter | None) -> None:
    """Raises RequestError for a drafter that the controller cannot control."""
    if drafter is None:
        raise RequestError("a controller needs a drafter; name one")
    if controller.stops and not drafter.takes_confidence:
        raise RequestError(
            f"{controller.name} stops by confidence, which works only with a draft model without "
            "MTP heads; draft with a model at depth 0, or choose another controller"
        )


def prepare(
    proposer: Proposer, controls: Sequence[RowControl], sequences: Sequences, k: int
) -> None:
    """Tell a draft model where each row stops in the round that is drafted next, or that none is
    drafted.
    """
    if not isinstance(proposer, DraftModelProposer):
        return
    if k == 0:
        proposer.pause(sequences)
    elif controls[0].controller.stops:
        proposer.thresholds = np.array([control.threshold for control in controls])


def limited(proposal: Proposal, rooms: Sequence[int]) -> Proposal:
    """The proposal with no more drafts of each row than its room."""
    drafted = np.minimum(proposal.drafted, rooms)
    if (drafted == proposal.drafted).all():
        return proposal
    if isinstance(proposal, CertainProposal):
        return CertainProposal(proposal.tokens, drafted, proposal.vocabulary)
    columns = np.arange(proposal.distributions.shape[1])
    kept = torch.from_numpy(columns < drafted[:, None]).to(proposal.tokens.device)
    return Proposal(proposal.tokens, proposal.distributions * kept[..., None], drafted)
