"""Texts judged by their target batch by batch. What is found of a batch depends on its own texts
alone, so batches may be judged in any order and in any process; `conformance.concluded` puts them
together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ...acceptance.rounds import Round
from ...cases.case import Sampling
from ...cases.texts import Text
from ...decoding.distributions import filtered
from ...decoding.loading import LoadedModel
from ...decoding.processors import Processors
from ...decoding.text_batches import padded
from .greedy_divergence import Divergence, greedy_gaps, near_cutoff
from .histories import Drafts, histories_of
from .martingale import Draws
from .processed_logits import after_processors
from .readable import FORBIDDEN, Violation, outside
from .teacher_forcing import TeacherForced, force, forced_batches, new_places
from .token_scores import TokenDistributions


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedTexts:
    """What is known of texts before their target has passed over them."""

    lengths: tuple[int, ...]
    """Tokens of each text that can be read, its prompt included."""
    violations: tuple[Violation, ...]
    batches: tuple[tuple[int, ...], ...]
    """Numbers of the texts that are judged together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedTokens:
    """What is found of new tokens that were judged together."""

    at: NDArray[np.int64]
    """(tokens,): which of all new tokens each is of those that the target can emit."""
    draws: Draws | None
    """Their scores; None at temperature 0."""
    beyond: tuple[Violation, ...] = ()
    ties: int = 0
    """Tokens that only a tie at the cut-off of top-k or top-p explains."""
    divergences: tuple[Divergence, ...] = ()
    """At temperature 0: tokens that are not the target's arg-max."""
    failed: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Errors of logits processors after the histories of wrong engines, and how often."""


class TextJudge:
    """Judges batches of texts by models that are loaded."""

    def __init__(
        self,
        target: LoadedModel,
        drafter: LoadedModel | None,
        texts: Sequence[Text],
        sampling: Sampling,
        *,
        ends: Sequence[int],
        tolerance: float,
        processors: Processors | None,
        rounds: Sequence[Sequence[Round]] | None = None,
        drafts: Sequence[Drafts] | None = None,
    ) -> None:
        """`texts` end where they can no longer be read; `ends` are the tokens that end a text.
        Under processors, `rounds` and `drafts` are bet on.
        """
        self._target, self._drafter, self._texts = target, drafter, texts
        self._sampling, self._ends, self._tolerance = sampling, ends, tolerance
        self._processors = processors
        self._places = new_places(texts)
        self._histories = partial(histories_of, texts, rounds, drafts)

    def batches(self) -> tuple[tuple[int, ...], ...]:
        """Which texts are judged together."""
        return tuple(map(tuple, forced_batches(self._target, self._texts)))

    @torch.inference_mode()
    def read_ahead(self, batches: Sequence[tuple[int, ...]]) -> None:
        """Before batches are judged: run models whose weights stay in files layer by layer over all
        of them, unless that was done for replay.
        """
        for model in filter(None, (self._target, self._drafter)):
            if model.stream is not None:
                texts = [[self._texts[row].ids for row in rows] for rows in batches]
                ids = [padded(batch, model.device) for batch in texts]
                if not model.stream.holds(ids):
                    model.stream.compute(ids)

    @torch.inference_mode()
    def judge(self, rows: tuple[int, ...]) -> tuple[JudgedTokens, ...]:
        """One batch, in parts that are held at once. Raises MeasurementError for NaN."""
        judged = self._greedy if self._sampling.temperature == 0 else self._sampled
        return tuple(map(judged, self._parts(rows)))

    def parts(self) -> Iterator[TeacherForced]:
        """All new tokens with the logits that judge them."""
        for rows in self.batches():
            yield from self._parts(rows)

    def _parts(self, rows: tuple[int, ...]) -> Iterator[TeacherForced]:
        parts = force(self._target, self._drafter, self._texts, rows)
        return after_processors(
            parts,
            self._texts,
            self._places,
            self._processors,
            self._sampling,
            self._histories if self._sampling.temperature else lambda: None,
        )

    def _greedy(self, part: TeacherForced) -> JudgedTokens:
        best, gaps = greedy_gaps(part.logits, part.tokens)
        found = []
        for index in (best != part.tokens).nonzero()[:, 0].tolist():
            (text, position), gap = self._places[part.at[index]], float(gaps[index])
            found.append(
                Divergence(
                    text=text,
                    position=position,
                    token=int(part.tokens[index]),
                    expected=int(best[index]),
                    gap=gap,
                    tie=gap <= self._tolerance,
                )
            )
        return JudgedTokens(at=part.at, draws=None, divergences=tuple(found))

    def _sampled(self, part: TeacherForced) -> JudgedTokens:
        """Tokens outside the support, and the scores of all others."""
        log_p = log_distribution(part.logits, self._sampling)
        inside = log_p.gather(-1, part.tokens[:, None])[:, 0] > -torch.inf
        # A tie at the cut-off has probability zero in these distributions: leaving it out of the
        # bets keeps them valid.
        near = near_cutoff(
            part.logits[~inside], part.tokens[~inside], self._sampling, self._tolerance
        )
        beyond = []
        for index in (~inside).nonzero()[:, 0][~near].tolist():
            text, position = self._places[part.at[index]]
            token = int(part.tokens[index])
            forbidden = bool(part.logits[index, token] == -torch.inf)
            reason = FORBIDDEN if forbidden else outside(self._sampling)
            beyond.append(Violation(text, position, token, reason))
        distributions = self._distributions(part, inside, log_p)
        return JudgedTokens(
            at=part.at[inside.cpu().numpy()],
            draws=distributions.draws(part.tokens[inside]),
            beyond=tuple(beyond),
            ties=int(near.sum()),
            failed=part.failed,
        )

    def _distributions(
        self, part: TeacherForced, inside: torch.Tensor, log_p: torch.Tensor
    ) -> TokenDistributions:
        """What the tokens inside the support are bet on with: p, and where they were given q and
        other distributions.
        """
        drafts, sampling = part.draft_logits, self._sampling
        others = {
            name: log_distribution(logits[inside], sampling) for name, logits in part.others.items()
        }
        log_q = None if drafts is None else log_distribution(drafts[inside], sampling)
        return TokenDistributions(log_p[inside], log_q, self._ends, others)


def log_distribution(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Log-probabilities in float64, after temperature and filters."""
    return torch.log_softmax(filtered(logits, sampling).double(), -1)
