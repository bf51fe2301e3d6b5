"""A batch of texts as speculative rounds extend it. Drafting and verifying are apart, so that each
can be timed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from ..acceptance.rounds import Round
from ..cases.case import Sampling
from ..cases.drafting import AS_TARGET, DraftSampling
from ..checkpoints.drafter_folders import check_drafts
from ..speedup.controllers import Controller
from .clock import Lap
from .controlled_rows import RowControl, limited, prepare
from .distributions import check_logits, likeliest, probabilities, sample
from .drafters.drafts import reach_of
from .drafters.plain import NoDrafts
from .drafters.protocol import CertainProposal, DecodingStart, Proposal, Proposer
from .drafters.registry import DrafterSource, drafter_for
from .loading import LoadedModel
from .processors import Processors, check_alive
from .ragged import CachedModel, Sequences
from .verification import GREEDY, Rule, Verified, matched


@dataclasses.dataclass(frozen=True)
class DecodingPlan:
    """All that the batches of one call share."""

    target: LoadedModel
    drafter: DrafterSource | None
    """None for plain decoding with k = 0."""
    k: int
    depth: int
    sampling: Sampling
    """Of the target's tokens."""
    rule: Rule
    generator: torch.Generator
    stop: frozenset[int] = frozenset()
    """Tokens that end a text."""
    confidence: float = 0.0
    """Drafting stops after a draft that the drafter found less likely than this."""
    processors: Processors | None = None
    """Logits processors of target and drafter."""
    drafting: DraftSampling = AS_TARGET
    """How drafts are drawn."""
    controller: Controller | None = None
    """Decides online how many tokens each row drafts, `k` at most."""


@dataclasses.dataclass
class BatchRow:
    """One text as it grows."""

    tokens: list[int]
    limit: int
    rounds: list[Round] = dataclasses.field(default_factory=list)
    drafts: list[tuple[int, ...]] = dataclasses.field(default_factory=list)
    """Of each round."""
    ended: bool = False
    control: RowControl | None = None
    """Decides how many tokens it drafts, where a controller does."""

    def room(self, k: int) -> int:
        """Tokens to draft next: k, and where fewer are left in all so many that the target emits
        the last one.
        """
        left = self.limit - len(self.tokens)
        return k if left >= k else left - 1

    def allowed(self, k: int) -> int:
        """As `room`, and no more than the controller says; with one the text's last token is never
        drafted.
        """
        if self.control is None:
            return self.room(k)
        return min(self.control.drafts, self.limit - len(self.tokens) - 1)

    def emit(self, tokens: Sequence[int], stop: frozenset[int]) -> Sequence[int]:
        """Append tokens up to the limit or the first that ends the text, which is kept; returns
        those appended.
        """
        for count, token in enumerate(tokens, 1):
            self.tokens.append(token)
            self.ended = len(self.tokens) >= self.limit or token in stop
            if self.ended:
                return tokens[:count]
        return tokens


class Batch:
    """Rows decoded together. The prompt pass emits the first token; then `draft` and `verify` take
    turns.
    """

    @torch.inference_mode()
    def __init__(self, plan: DecodingPlan, rows: list[BatchRow]) -> None:
        self._plan, self._rows = plan, rows
        room = max(row.limit - len(row.tokens) for row in rows) + plan.k + 1
        texts = [row.tokens for row in rows]
        processors = None if plan.processors is None else plan.processors.for_texts(texts)
        sequences = self._sequences = Sequences(texts, room, plan.target.device, processors)
        reach = reach_of(plan.k, plan.depth)
        drafter = (
            None if plan.drafter is None else drafter_for(plan.target, plan.drafter, plan.depth)
        )
        if drafter is not None:
            check_drafts(
                plan.drafter,
                plan.k,
                drafter.most_drafts,
                trained=drafter.can_draft_more,
                drafting=plan.drafting,
            )
        target = self._target = CachedModel(
            plan.target,
            reach,
            keeps_hidden=drafter is not None and drafter.reads_hidden,
            keeps_layers=() if drafter is None else drafter.reads_layers,
        )
        logits = target.feed(sequences, sequences.lengths, 1)[:, 0]
        check_logits(logits)
        logits, dead = self._processed(logits[:, None])
        check_alive(dead)
        logits = logits[:, 0]
        first = sample(logits, plan.sampling, plan.generator)
        sequences.put(0, first)
        sequences.lengths = sequences.lengths + 1
        for row, token in zip(rows, first.tolist(), strict=True):
            row.emit([token], plan.stop)
        self._plain = NoDrafts(logits.shape[-1])
        self._proposer: Proposer = self._plain
        self._varies = drafter is not None and drafter.varies
        if drafter is not None:
            start = DecodingStart(
                target=target,
                texts=[row.tokens for row in rows],
                k=plan.k,
                sampling=plan.drafting.sampling(plan.sampling),
                confidence=plan.confidence,
                vocabulary=logits.shape[-1],
            )
            self._proposer = drafter.proposer(start)
        self._proposal: Proposal | None = None
        self._drop_ended()

    @property
    def running(self) -> bool:
        """Whether any row continues."""
        return bool(self._rows)

    @property
    def proposed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Drafts (rows, drafts) that wait to be verified, and their distributions and one of zeros,
        (rows, drafts + 1, vocabulary).
        """
        assert self._proposal is not None, "draft first"
        return self._proposal.tokens, self._proposal.distributions

    @torch.inference_mode()
    def draft(self) -> None:
        """Propose up to k tokens a row; fewer where every text ends before its k-th draft, and none
        after a last token.
        """
        allowed = [row.allowed(self._plan.k) for row in self._rows]
        controls = [row.control for row in self._rows if row.control is not None]
        # Where a drafter cannot draft fewer in between, the further drafts are thrown away.
        fewer = self._varies or not controls
        k = max(allowed if fewer else [row.room(self._plan.k) for row in self._rows])
        proposer = self._proposer if k else self._plain
        if controls:
            prepare(self._proposer, controls, self._sequences, k)
        proposal = proposer.propose(self._sequences, k, self._plan.generator)
        self._proposal = limited(proposal, allowed) if controls else proposal

    @torch.inference_mode()
    def verify(self) -> None:
        """The target's pass over the drafts, the rule, and all that a round leaves to do after
        them.
        """
        assert self._proposal is not None, "draft before verifying"
        plan, sequences, proposal = self._plan, self._sequences, self._proposal
        self._proposal = None
        k = proposal.tokens.shape[1]
        logits = self._target.feed(sequences, sequences.lengths + k, k + 1, sequences.agreed)
        check_logits(logits)
        logits, dead = self._processed(logits)
        if k:
            taken, following = self._verified(logits, proposal)
            accepted = taken.cpu().numpy()
        else:
            following = sample(logits[:, 0], plan.sampling, plan.generator)
            accepted = np.zeros_like(sequences.lengths)
        # After a rejected draft, or one that ends the text, the processors may allow nothing.
        check_alive(dead[np.arange(len(accepted)), accepted])
        tokens = proposal.tokens.tolist()
        emitted = [
            [*drafts[:count], token]
            for drafts, count, token in zip(tokens, accepted, following.tolist(), strict=True)
        ]
        sequences.put(accepted, following)
        kept = []
        for row, new, start, proposed, drafts in zip(
            self._rows, emitted, sequences.lengths, proposal.drafted, tokens, strict=True
        ):
            # As if the row were alone, whatever others of the batch have room for.
            room = row.allowed(plan.k)
            played = Round(int(start), min(int(proposed), room), min(len(new) - 1, room))
            row.rounds.append(played)
            row.drafts.append(tuple(drafts[: played.drafted]))
            kept.append(row.emit(new, plan.stop))
            if row.control is not None:
                row.control.played(played, len(kept[-1]), self._proposer, len(kept) - 1)
        sequences.lengths = sequences.lengths + accepted + 1
        self._proposer.emitted(kept)
        self._drop_ended()

    def _verified(self, logits: torch.Tensor, proposal: Proposal) -> Verified:
        """What the rule returns. Greedy verification of certain drafts, which compares arg-maxima,
        goes without distributions.
        """
        plan = self._plan
        greedy = plan.rule is GREEDY and plan.sampling.temperature == 0
        if greedy and isinstance(proposal, CertainProposal):
            return matched(likeliest(logits), proposal.tokens, proposal.proposed)
        return plan.rule.verify(
            probabilities(logits, plan.sampling),
            proposal.distributions,
            proposal.tokens,
            plan.generator,
        )

    def _processed(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The target's logits (rows, positions, vocabulary) of the tokens after the emitted ones
        and after each draft, with the processors applied, and where these left no token.
        """
        processors = self._sequences.processors
        if processors is None:
            return logits, torch.zeros(logits.shape[:2], dtype=torch.bool)
        return processors.target(self._sequences.ids, self._sequences.lengths, logits)

    def _drop_ended(self) -> None:
        """Rows that have ended leave the batch and its caches."""
        alive = np.flatnonzero([not row.ended for row in self._rows])
        if 0 < len(alive) < len(self._rows):
            for part in (self._sequences, self._target, self._proposer):
                part.select(alive)
        self._rows = [self._rows[at] for at in alive]


def run(plan: DecodingPlan, rows: list[BatchRow]) -> list[Lap]:
    """Decode rows to their ends, round by round."""
    batch, laps = Batch(plan, rows), []
    while batch.running:
        laps.append(Lap.of(batch, plan.target.device))
    return laps
