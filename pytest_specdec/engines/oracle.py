"""The oracle: what an engine's own models imply on the texts that it emitted, beside what it counted. No baseline needed.

Where nothing is random given the text (greedy decoding, drafts that are arg-maxima or copies), every round is known, and
the first that differs is named. Otherwise the counts are judged by their exact mean and variance given the texts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..acceptance.case import LOOKUP, Case, Sampling
from ..acceptance.counts import Counts
from ..acceptance.moments import Moments, round_moments
from ..acceptance.renewal import AcceptanceField
from ..acceptance.tails import tail_bound
from ..acceptance.texts import Text
from ..decoding.heads import project, teacher_forced_hidden
from ..decoding.loading import LoadedModel
from ..decoding.replay import DrafterPlan, text_scores
from ..decoding.sampling import eos_ids
from ..errors import RequestError
from ..lossless.divergence import TOLERANCES
from .identities import rounds_of
from .normalise import Definition, starts_of, text_of
from .reported import Pooled, Reported


@dataclasses.dataclass(frozen=True)
class Difference:
    """A round that the models would have ended elsewhere, or a text's sum of rounds where the engine tells no rounds."""

    prompt: str
    round: int | None
    """Its number in the text; None for a sum."""
    position: int
    """Of its first draft token, prompt included."""
    reported: int
    """Accepted tokens of the round, or rounds of the text."""
    expected: int
    gap: float
    """Logits between the draft's choice and the text's token, where the two part; infinite where that is no close call."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Whether an engine counts what its models imply. Natural reading: `assert found.agrees, found.message`."""

    engine: str
    alpha: float
    texts: int
    rounds: int
    """As the engine counted them, by the definition of the run."""
    counted: float
    """Its acceptance length."""
    expected: float
    """The models' on the same texts."""
    z: float = 0.0
    """Accepted tokens beyond the expected ones in standard deviations, over all texts; 0 where nothing is random."""
    chance: float = 1.0
    """Bound on the probability of counts so far from the expected ones; 1 where nothing is random."""
    exact: bool = False
    """Whether every round was compared by itself, since nothing is random."""
    differences: tuple[Difference, ...] = ()
    """Where nothing is random: what only another model, or a fault, explains."""
    ties: int = 0
    """Differences that rounding explains: two drafts within a logit's precision."""

    @property
    def p_value(self) -> float:
        """Two-sided, an upper bound; 0 or 1 where nothing is random."""
        return float(not self.differences) if self.exact else self.chance

    @property
    def agrees(self) -> bool:
        return self.p_value > self.alpha

    @property
    def message(self) -> str:
        """One sentence: what differs, and what to do."""
        if self.agrees:
            ties = f", {self.ties} within rounding" if self.ties else ""
            kind = "every round as" if self.exact else f"z {self.z:+.2f} beside what"
            return f"{self.rounds} rounds of {self.texts} texts: {kind} the models imply{ties}; nothing to do"
        told = f"{self.engine} counts an acceptance length of {self.counted:.4f} where its models imply {self.expected:.4f}"
        if self.exact:
            return f"{told} on the same texts: {self._first()}; {self._cure()}"
        return f"{told} on the same texts (z {self.z:+.1f}, p {self.p_value:.1g}), so it is {self._side()}; {self._cure()}"

    def _first(self) -> str:
        one, more = self.differences[0], len(self.differences) - 1
        others = f", and {more} more differ" if more else ""
        if one.round is None:
            return f"the text of prompt {one.prompt} takes {one.reported} rounds and not {one.expected}{others}"
        return (
            f"round {one.round} of prompt {one.prompt}, at position {one.position}, accepts {one.reported} tokens and not "
            f"{one.expected}{others}"
        )

    def _side(self) -> str:
        below = self.z < 0 if not self.exact else self.counted < self.expected
        return "below its models" if below else "above its models"

    def _cure(self) -> str:
        if self._side().startswith("below"):
            return (
                "check that the engine's drafter holds the weights named here, and its cache and positions after a rejected draft"
            )
        return "check that its drafts are drawn from the q of its acceptance test, and that no lossy mode is on"


@dataclasses.dataclass(frozen=True)
class Judged:
    """One run of an engine to be judged."""

    case: Case
    reported: Sequence[Reported]
    categories: Sequence[str]
    definition: Definition
    counts: Counts
    """By that definition."""
    pooled: Pooled | None = None

    @property
    def certain(self) -> bool:
        """Whether the text alone decides the rounds: then `accept` is 0 or 1."""
        manner = self.reported[0].manner
        return self.case.temperature == 0 or manner.argmax_drafts or self.case.drafter == LOOKUP

    @property
    def texts(self) -> list[Text]:
        """Raises RequestError where the engine does not tell its tokens."""
        for one in self.reported:
            if not (one.prompt_ids and one.new_ids):
                raise RequestError(
                    f"{one.where or one.key} comes without token ids, and only these can be replayed; "
                    "let the engine return them, or leave specdec_oracle out"
                )
        return [text_of(one, category) for one, category in zip(self.reported, self.categories, strict=True)]


@dataclasses.dataclass(frozen=True)
class _Walk:
    """The rounds that the engine's manner allows on its texts."""

    field: AcceptanceField
    proposed: NDArray[np.int64]
    """(texts, longest): tokens drafted by a round at each start."""
    survival: NDArray[np.float64]
    played: NDArray[np.bool_]
    counted: NDArray[np.bool_]

    def moments(self) -> Moments:
        return round_moments(self.survival, self.field.starts, self.played, self.counted)


def agreement(judged: Judged, target: LoadedModel, drafter: LoadedModel | str, alpha: float) -> Agreement:
    """Judge a run by its models; an engine that is right disagrees with probability `alpha` at most.

    Raises RequestError for a rule or a text that cannot be replayed.
    """
    walk = _walk(judged, target, drafter)
    moments = walk.moments()
    found = Agreement(
        judged.case.engine,
        alpha,
        len(judged.reported),
        int(judged.counts.total_rounds),
        judged.counts.acceptance_length,
        1 + float(moments.accepted.sum() / moments.rounds.sum()),
    )
    if not judged.certain:
        z, chance = _excess(judged, walk, moments)
        return dataclasses.replace(found, z=z, chance=chance)
    differences, ties = _differences(judged, walk, moments, target, drafter)
    return dataclasses.replace(found, exact=True, differences=tuple(differences), ties=ties)


def _walk(judged: Judged, target: LoadedModel, drafter: LoadedModel | str) -> _Walk:
    case, definition, texts = judged.case, judged.definition, judged.texts
    sampling, rule = (Sampling(0.0), "greedy") if judged.certain else (case.texts.sampling, case.rule)
    if definition.prefill_drafts:  # the first round drafts the first new token
        texts = [dataclasses.replace(text, prompt_length=text.prompt_length - 1) for text in texts]
    (scores,) = text_scores(target, [DrafterPlan(drafter, case.depth, case.k)], texts, sampling)
    field = scores.field(rule)
    at = np.arange(field.accept.shape[2])
    left = field.lengths[:, None] - at
    proposed = np.full(left.shape, case.k) if field.available is None else np.minimum(field.available, case.k)
    if judged.reported[0].manner.end == "clipped":
        limits = np.array([len(one.prompt_ids) for one in judged.reported]) + case.texts.new_tokens
        proposed = np.clip(np.minimum(proposed, limits[:, None] - at - 1), 0, None)
    if definition.end == "inside":
        played = left >= case.k
        counted = played & (at != field.starts[:, None]) if definition.prefill_drafts else played
    else:
        played = left > 0
        counted = played if definition.counts_empty else played & (proposed > 0)
    # What is drafted past the text's end may be accepted, and is not counted where it is not delivered.
    within = proposed if judged.reported[0].manner.undelivered else np.clip(np.minimum(proposed, left - 1), 0, None)
    return _Walk(field, proposed, field.survival(within, case.k), played, counted)


def _excess(judged: Judged, walk: _Walk, moments: Moments) -> tuple[float, float]:
    """What was accepted beyond the mean of all texts, in standard deviations, and a bound on the chance of as much."""
    if judged.definition.end == "inside":
        # Accepted tokens beyond the expected ones of the rounds that were played: a ratio's numerator, with mean 0.
        slope = float(moments.accepted.sum() / moments.rounds.sum())
        weights = (1.0, -slope)
        excess = judged.counts.accepted.sum() - slope * judged.counts.total_rounds
    else:
        # Rounds and delivered tokens add up to the text, so fewer rounds are all that more acceptance can mean.
        weights = (0.0, -1.0)
        excess = float(moments.rounds.sum()) - _rounds(judged)
    mean, variance = moments.linear(*weights)
    deviation = math.sqrt(float(variance.sum()))
    if abs(excess) < 1e-6:
        return 0.0, 1.0
    if not deviation > 0:
        return math.copysign(math.inf, excess), 0.0
    law = (walk.survival, walk.field.starts, walk.played, walk.counted)
    bound = tail_bound(*law, per_accepted=weights[0], per_round=weights[1], mean=float(mean.sum()), excess=excess)
    return float(excess / deviation), min(1.0, 2 * bound)


def _rounds(judged: Judged) -> float:
    if judged.pooled is None:
        return judged.counts.total_rounds
    tokens = [one.tokens for one in judged.reported]
    return rounds_of(judged.pooled.totals, judged.pooled.manner, judged.case.k, tokens)


def _differences(
    judged: Judged, walk: _Walk, moments: Moments, target: LoadedModel, drafter: LoadedModel | str
) -> tuple[list[Difference], int]:
    """What differs beyond rounding, and how much only rounding explains."""
    if judged.definition.end == "inside":
        found = [one for row in range(len(judged.reported)) for one in _round_differences(judged, walk, row, target)]
    elif judged.pooled is None:
        due = np.rint(moments.rounds).astype(int)
        pairs = enumerate(zip(judged.counts.rounds.astype(int).tolist(), due.tolist(), strict=True))
        found = [
            (row, Difference(judged.reported[row].key, None, 0, said, expected, math.inf))
            for row, (said, expected) in pairs
            if said != expected
        ]
    else:
        said, expected = int(_rounds(judged)), round(float(moments.rounds.sum()))
        found = [(0, Difference("all", None, 0, said, expected, math.inf))] * (said != expected)
    return _without_ties(found, judged, target, drafter)


def _round_differences(judged: Judged, walk: _Walk, row: int, target: LoadedModel) -> list[tuple[int, Difference]]:
    """Each round at its own start beside what the draft's choices there give."""
    one, length, found = judged.reported[row], int(walk.field.lengths[row]), []
    whole = not eos_ids(target)  # a drafter that drafts EOS stops there
    for number, (start, drafted, accepted) in enumerate(starts_of(one)):
        if start >= length:
            continue
        # What an engine cannot deliver any more it may count or not.
        room = length - start - 1
        due = min(int(walk.survival[row, start].sum()), room)
        short = whole and drafted != walk.proposed[row, start] and room >= judged.case.k
        if min(accepted, room) != due or short:
            found.append((row, Difference(one.key, number, start, accepted, due, math.inf)))
    return found


def _without_ties(
    found: list[tuple[int, Difference]], judged: Judged, target: LoadedModel, drafter: LoadedModel | str
) -> tuple[list[Difference], int]:
    """Leave out what a logit's precision explains."""
    if not found or drafter == LOOKUP:
        return [one for _, one in found], 0
    model = target if isinstance(drafter, str) else drafter
    tolerance = TOLERANCES.get(model.model.dtype, TOLERANCES[torch.bfloat16])
    kept, texts = [], judged.texts
    for row in dict.fromkeys(row for row, _ in found):
        margins = draft_margins(target, drafter, judged.case, texts[row])
        for one in (difference for own, difference in found if own == row):
            if one.round is None:
                gap = float(np.abs(margins[:, judged.texts[row].first_draft :]).min())
            else:
                step = min(one.reported, one.expected)
                gap = abs(float(margins[step % len(margins), one.position + step]))
            if gap > tolerance:
                kept.append(dataclasses.replace(one, gap=gap))
    return kept, len(found) - len(kept)


@torch.inference_mode()
def draft_margins(target: LoadedModel, drafter: LoadedModel | str, case: Case, text: Text) -> NDArray[np.float64]:
    """(heads, length): logits of the text's own tokens over the best other ones, by each head; infinite where undefined."""
    own = drafter if isinstance(drafter, LoadedModel) else target
    heads = 1 + case.depth if isinstance(drafter, LoadedModel) else case.k
    ids = torch.tensor([text.ids], device=own.device)
    found = np.full((heads, len(text.ids)), np.inf)
    passed = own.model(ids, use_cache=False, output_hidden_states=case.depth > 0)
    first = 0
    if isinstance(drafter, LoadedModel):
        found[0, 1:], first = _margins(passed.logits[0, :-1], ids[0, 1:]), 1
    if case.depth:
        states = teacher_forced_hidden(own.heads, ids, passed.hidden_states[-1], case.depth, heads - first)
        for step, state in enumerate(states):
            found[first + step, step + 2 :] = _margins(project(own.heads, state[:, :-1])[0], ids[0, step + 2 :])
    return found


def _margins(logits: torch.Tensor, tokens: torch.Tensor) -> NDArray[np.float64]:
    own = logits.gather(-1, tokens[:, None])[:, 0]
    best = logits.scatter(-1, tokens[:, None], -torch.inf).max(-1).values
    margins: NDArray[np.float64] = (own - best).double().cpu().numpy()
    return margins
