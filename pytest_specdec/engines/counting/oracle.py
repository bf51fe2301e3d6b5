"""The oracle: compares an engine's counts with what its own models imply on the texts that it
emitted. It needs no baseline.

Where nothing is random given the text (greedy decoding, drafts that are arg-maxima or copies),
every round is known, and the first that differs is named. Otherwise the counts are judged by their
exact distribution given the texts (`deviations`).
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import torch

from ...acceptance.moments import Moments
from ...cases.drafter import DrafterSpec
from ...common.errors import MeasurementError
from ...decoding.loading import LoadedModel
from ...decoding.sampling import eos_ids
from ...lossless.texts.greedy_divergence import TOLERANCES
from .deviations import (
    Deviation,
    combined,
    counted_rounds,
    delivered_rounds,
    deviations_of,
)
from .margins import draft_margins
from .normalise import starts_of
from .possible_rounds import CountedRun, Walk, tree_field_of, walk_of
from .time_course import PlayedRounds, TimeCourse, time_course


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A round that the models would have ended elsewhere, or a text's sum of rounds where the
    engine reports no rounds.
    """

    prompt: str
    round: int | None
    """Its number in the text; None for a sum."""
    position: int
    """Of its first draft token, prompt included."""
    reported: int
    """Accepted tokens of the round, or rounds of the text."""
    expected: int
    gap: float
    """Logits between the draft's choice and the text's token, where the two differ; infinite where
    that is not a close call.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """Whether an engine counts what its models imply. Use it as
    `assert result.agrees, result.message`.
    """

    engine: str
    alpha: float
    texts: int
    rounds: int
    """As the engine counted them, by the definition of the run."""
    counted: float
    """Its acceptance length."""
    expected: float
    """The models' on the same texts."""
    deviations: tuple[Deviation, ...] = ()
    """The sum's over all positions, then each position's, where they are known; empty where nothing
    is random.
    """
    exact: bool = False
    """Whether every round was compared by itself, since nothing is random."""
    differences: tuple[Mismatch, ...] = ()
    """Where nothing is random: what only another model, or a fault, explains."""
    ties: int = 0
    """Differences that rounding explains: two drafts within a logit's precision."""
    played: PlayedRounds | None = dataclasses.field(default=None, repr=False, compare=False)
    """The rounds beside the models; None where nothing is random or the rounds are not known."""

    @functools.cached_property
    def course(self) -> TimeCourse | None:
        """How acceptance ran from the first request to the last; None where nothing is random, so
        that every round is compared, and where the rounds are not known. It has its own error rate.
        """
        return None if self.played is None else time_course(self.played, alpha=self.alpha)

    @property
    def z(self) -> float:
        """What was accepted beyond the models' expectation, all positions together, in standard
        deviations; else 0.
        """
        return self.deviations[0].z if self.deviations else 0.0

    @property
    def p_value(self) -> float:
        """Two-sided, of the sum and the positions together; 0 or 1 where nothing is random."""
        return float(not self.differences) if self.exact else combined(self.deviations)

    @property
    def agrees(self) -> bool:
        return self.p_value > self.alpha

    @property
    def message(self) -> str:
        """One sentence: what differs, and what to do."""
        if self.agrees:
            ties = f", {self.ties} within rounding" if self.ties else ""
            kind = "every round as" if self.exact else f"z {self.z:+.2f} beside what"
            return (
                f"{self.rounds} rounds of {self.texts} texts: {kind} the models imply{ties}; "
                "nothing to do"
            )
        claim = (
            f"{self.engine} counts an acceptance length of {self.counted:.4f} where its models "
            f"imply {self.expected:.4f}"
        )
        if self.exact:
            return f"{claim} on the same texts: {self._first()}; {self._cure()}"
        return f"{claim} on the same texts{self._improbable()}; {self._cure()}"

    @property
    def worst(self) -> Deviation:
        """The most improbable count of those judged. Only where something is random."""
        return min(
            self.deviations, key=lambda deviation: (deviation.adjusted, deviation.position or 0)
        )

    def _improbable(self) -> str:
        deviation = self.worst
        if deviation.impossible is not None:
            first, number = deviation.impossible[0], len(deviation.impossible)
            return (
                f" (z {self.z:+.1f}), and rejects {number} drafts where the text goes on with a "
                "token that q makes at least as "
                f"likely as p, first in round {first.round} of prompt {first.prompt}, at position "
                f"{first.position}, which "
                f"rejection sampling with this p and q never does (p {self.p_value:.1g})"
            )
        odds = f"z {deviation.z:+.1f}, p {self.p_value:.1g}"
        if deviation.position is None:
            return f" ({odds}), so it is {self._side()}"
        shares = (
            f" accepts {deviation.counted:.2%} of its drafts and not {deviation.expected:.2%},"
            if deviation.expected
            else ""
        )
        return (
            f" (z {self.z:+.1f}), and draft position {deviation.position}{shares} is "
            f"{self._side()} ({odds})"
        )

    def _first(self) -> str:
        mismatch, more = self.differences[0], len(self.differences) - 1
        others = f", and {more} more differ" if more else ""
        if mismatch.round is None:
            return (
                f"the text of prompt {mismatch.prompt} takes {mismatch.reported} rounds and not "
                f"{mismatch.expected}{others}"
            )
        return (
            f"round {mismatch.round} of prompt {mismatch.prompt}, at position {mismatch.position}, "
            f"accepts {mismatch.reported} tokens and not {mismatch.expected}{others}"
        )

    def _side(self) -> str:
        below = self.counted < self.expected if self.exact else self.worst.z < 0
        return "below its models" if below else "above its models"

    def _cure(self) -> str:
        if not self.exact and self.worst.impossible is not None:
            return (
                "if the texts conform, check that the engine's drafter holds the weights named "
                "here and samples with their "
                "temperature, top-k and top-p, once; if they do not, that acceptance test and "
                "residual take the q from which "
                "the drafts are drawn, and that recovered tokens are drawn from max(p - q, 0)"
            )
        if self._side().startswith("below"):
            return (
                "check that the engine's drafter holds the weights named here, and its cache and "
                "positions after a rejected draft"
            )
        return (
            "check that its drafts are drawn from the q of its acceptance test, and that no lossy "
            "mode is on"
        )


def agreement(
    judged: CountedRun, target: LoadedModel, drafter: LoadedModel | DrafterSpec, alpha: float
) -> Agreement:
    """Judge a run by its models; an engine that is right disagrees with probability `alpha` at
    most.

    Raises RequestError for a rule or a text that cannot be replayed, MeasurementError for texts
    without room for a round.
    """
    walk = walk_of(judged, target, drafter)
    moments = walk.moments()
    if not moments.rounds.sum() > 0:
        raise MeasurementError(
            f"no text has room for a round of k={judged.case.k}; raise --specdec-new-tokens"
        )
    unjudged = Agreement(
        engine=judged.case.engine,
        alpha=alpha,
        texts=len(judged.reported),
        rounds=int(judged.counts.total_rounds),
        counted=judged.counts.acceptance_length,
        expected=1 + float(moments.accepted.sum() / moments.rounds.sum()),
    )
    if not judged.certain:
        return dataclasses.replace(
            unjudged, deviations=deviations_of(judged, walk), played=_played(judged, walk)
        )
    differences, ties = _differences(judged, walk, moments, target, drafter)
    return dataclasses.replace(unjudged, exact=True, differences=tuple(differences), ties=ties)


def _played(judged: CountedRun, walk: Walk) -> PlayedRounds | None:
    if judged.definition.end != "inside":
        return None
    rows, begun, accepted = delivered_rounds(judged, walk)
    return PlayedRounds(
        survival=walk.survival,
        starts=walk.field.starts,
        played=walk.played,
        counted=walk.counted,
        rows=rows,
        begun=begun,
        accepted=accepted,
    )


def _differences(
    judged: CountedRun,
    walk: Walk,
    moments: Moments,
    target: LoadedModel,
    drafter: LoadedModel | DrafterSpec,
) -> tuple[list[Mismatch], int]:
    """What differs beyond rounding, and how much only rounding explains."""
    if judged.definition.end == "inside":
        mismatches = [
            mismatch
            for row in range(len(judged.reported))
            for mismatch in _round_differences(judged, walk, row, target)
        ]
    elif judged.pooled is None:
        due = np.rint(moments.rounds).astype(int)
        pairs = enumerate(zip(judged.counts.rounds.astype(int).tolist(), due.tolist(), strict=True))
        mismatches = [
            (
                row,
                Mismatch(
                    prompt=judged.reported[row].key,
                    round=None,
                    position=0,
                    reported=reported,
                    expected=expected,
                    gap=math.inf,
                ),
            )
            for row, (reported, expected) in pairs
            if reported != expected
        ]
    else:
        reported, expected = int(counted_rounds(judged)), round(float(moments.rounds.sum()))
        mismatches = [
            (
                0,
                Mismatch(
                    prompt="all",
                    round=None,
                    position=0,
                    reported=reported,
                    expected=expected,
                    gap=math.inf,
                ),
            )
        ] * (reported != expected)
    return _without_ties(mismatches, judged, target, drafter)


def _round_differences(
    judged: CountedRun, walk: Walk, row: int, target: LoadedModel
) -> list[tuple[int, Mismatch]]:
    """Each round at its own start beside what the draft's choices there give."""
    text, length, mismatches = judged.reported[row], int(walk.field.lengths[row]), []
    whole = not eos_ids(target)  # a drafter that drafts EOS stops there
    for number, (start, drafted, accepted) in enumerate(starts_of(text)):
        if start >= length:
            continue
        # What an engine cannot deliver any more it may count or not.
        room = length - start - 1
        due = min(int(walk.survival[row, start].sum()), room)
        short = whole and drafted != walk.proposed[row, start] and room >= judged.case.k
        if min(accepted, room) != due or short:
            mismatches.append(
                (
                    row,
                    Mismatch(
                        prompt=text.key,
                        round=number,
                        position=start,
                        reported=accepted,
                        expected=due,
                        gap=math.inf,
                    ),
                )
            )
    return mismatches


def _without_ties(
    mismatches: list[tuple[int, Mismatch]],
    judged: CountedRun,
    target: LoadedModel,
    drafter: LoadedModel | DrafterSpec,
) -> tuple[list[Mismatch], int]:
    """Leave out what a logit's precision explains."""
    if not mismatches or judged.case.uses_lookup:
        return [mismatch for _, mismatch in mismatches], 0
    model = drafter if isinstance(drafter, LoadedModel) else target
    tolerance = TOLERANCES.get(model.model.dtype, TOLERANCES[torch.bfloat16])
    if judged.case.tree is not None:
        return _without_tree_ties(mismatches, judged, target, drafter, tolerance)
    kept, texts = [], judged.texts
    for row in dict.fromkeys(row for row, _ in mismatches):
        margins = draft_margins(target, drafter, judged.case, texts[row], judged.processors)
        for mismatch in (difference for its_row, difference in mismatches if its_row == row):
            if mismatch.round is None:
                gap = float(np.abs(margins[:, judged.texts[row].first_draft :]).min())
            else:
                step = min(mismatch.reported, mismatch.expected)
                gap = abs(float(margins[step % len(margins), mismatch.position + step]))
            if gap > tolerance:
                kept.append(dataclasses.replace(mismatch, gap=gap))
    return kept, len(mismatches) - len(kept)


def _without_tree_ties(
    mismatches: list[tuple[int, Mismatch]],
    judged: CountedRun,
    target: LoadedModel,
    drafter: LoadedModel | DrafterSpec,
    tolerance: float,
) -> tuple[list[Mismatch], int]:
    """The same for trees: what a node that was barely chosen, or barely left out, explains."""
    margins: dict[tuple[int, int], float] = {}
    tree_field_of(judged, judged.texts, target, drafter, margins)
    kept = []
    for row, mismatch in mismatches:
        of_text = {start: gap for (text, start), gap in margins.items() if text == row}
        known = of_text.get(mismatch.position)
        least = min(of_text.values(), default=math.inf)
        gap = least if known is None or mismatch.round is None else known
        if gap > tolerance:
            kept.append(dataclasses.replace(mismatch, gap=gap))
    return kept, len(mismatches) - len(kept)
