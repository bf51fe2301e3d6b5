"""From an engine's numbers to counts under a named definition.

Where an engine reports its rounds in order, each round's place in the text is known, so
`acceptance/1` holds: rounds whose k draft positions all lie inside the text, the prompt pass left
out. Where it gives sums only, rounds near the end cannot be taken out again: such counts stand
under a definition of their own, which names how the engine counts, and are compared only within
that definition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ...acceptance.counts import Counts
from ...acceptance.renewal import End
from ...acceptance.rounds import Round, counts_of_rounds, with_passes
from ...acceptance.sums import accepted_by_position, drafted_by_position
from ...cases.case import DEFINITION, LOOKUP
from ...cases.texts import Text
from ...common.errors import MeasurementError
from ...records.prompt_counts import POOLED
from ..adapter_api import CountingConvention, PooledCounters, Reported, Totals
from .checks import rounds_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
    """How counts were made: an expectation must be made the same way to be comparable."""

    end: End = "inside"
    prefill_drafts: bool = False
    """Whether the first round starts at the first new token, in the prompt pass; `acceptance/1`
    plays and does not count it.
    """
    full: bool = False
    """Whether rounds near the end draft k tokens all the same."""
    counts_empty: bool = True
    """Whether a round that drafts nothing is a round."""
    positions: bool = True
    """Whether accepted tokens are known by position."""

    @property
    def name(self) -> str:
        """`acceptance/1`, or for sums of all rounds `sums/1` and what is special about them."""
        if self.end == "inside":
            return DEFINITION
        words = {
            "prefill": self.prefill_drafts,
            "full": self.full,
            "empty": self.counts_empty,
            "no-positions": not self.positions,
        }
        return "-".join(["sums/1", *(word for word, holds in words.items() if holds)])


def definition_of(
    reported: Sequence[Reported], drafter: str, pooled: PooledCounters | None = None
) -> Definition:
    """The definition that all texts of a run allow, with a drafter as `Case.drafter_name` names it.

    Raises MeasurementError where they differ in how they count.
    """
    conventions = {text.convention for text in reported} | (
        {pooled.convention} if pooled else set()
    )
    if len(conventions) > 1:
        raise MeasurementError(
            "texts of one run follow different counting conventions; run the engine with one "
            "configuration"
        )
    (convention,) = conventions
    if all(text.rounds is not None for text in reported) and (
        convention.counts_empty or drafter != LOOKUP
    ):
        return Definition(prefill_drafts=convention.prefill_drafts)
    sums = [pooled.totals] if pooled else [_totals(text) for text in reported]
    # Rounds derived from the tokens alone include those that drafted nothing, even if the engine
    # does not count them.
    derived = convention.end != "full" and any(totals.rounds is None for totals in sums)
    return Definition(
        end="clip",
        prefill_drafts=convention.prefill_drafts,
        full=convention.end == "full",
        counts_empty=convention.counts_empty or derived,
        positions=all(totals.per_position is not None for totals in sums),
    )


def normalised(
    definition: Definition,
    reported: Sequence[Reported],
    categories: Sequence[str],
    k: int,
    pooled: PooledCounters | None = None,
) -> Counts:
    """Counts of a run by its definition, see `definition_of`; `categories` are the texts' own."""
    if definition.end == "inside":
        texts = [
            text_of(text, category) for text, category in zip(reported, categories, strict=True)
        ]
        # This definition does not count the prompt pass's round.
        placed = [starts_of(text)[definition.prefill_drafts :] for text in reported]
        counts = counts_of_rounds(texts, placed, k)
        # Where the prompt pass drafts, too, no pass emits the first new token alone.
        return counts if definition.prefill_drafts else with_passes(counts, texts, placed)
    if pooled is not None:
        rounds = rounds_of(pooled.totals, pooled.convention, k, [text.tokens for text in reported])
        return _counts([POOLED], ["all"], [(pooled.totals, rounds)], k)
    sums = [
        (totals := _totals(text), rounds_of(totals, text.convention, k, [text.tokens]))
        for text in reported
    ]
    return _counts([text.key for text in reported], categories, sums, k)


def text_of(reported: Reported, category: str) -> Text:
    """A reported text; places count even where the ids are not known."""
    prompt, new = reported.prompt_ids or (0,), reported.new_ids or (0,) * reported.tokens
    return Text(reported.key, category, (*prompt, *new), len(prompt))


def first_start(prompt_length: int, convention: CountingConvention) -> int:
    """Where the first round's first draft token stands."""
    return prompt_length + (not convention.prefill_drafts)


def starts_of(text: Reported) -> list[Round]:
    """Every reported round with its place, the prompt pass's included."""
    start, placed = first_start(len(text.prompt_ids or (0,)), text.convention), []
    for drafted, accepted in text.rounds or ():
        placed.append(Round(start, drafted, accepted))
        start += accepted + 1
    return placed


def comparable_rounds(text: Reported, k: int) -> list[Round]:
    """The rounds that all engines with the same first start play alike, for the same greedy text
    and k.

    They have room for k drafts and the bonus token, so that no engine clips them, and the prompt
    pass's is left out. `acceptance/1` counts one start more, which has room for the k drafts alone:
    engines that keep room for the bonus token draft k - 1 tokens there, and others k. Engines that
    draft in the prompt pass start one token earlier than those that draft after it, and cut the
    same text into other rounds.
    """
    first, end = len(text.prompt_ids or (0,)), len(text.prompt_ids or (0,)) + text.tokens
    return [placed for placed in starts_of(text) if first < placed.start < end - k]


def _totals(text: Reported) -> Totals:
    """A text's sums, added up where it gives rounds. Raises MeasurementError where it has
    neither.
    """
    if text.totals is not None:
        return text.totals
    if text.rounds is None:
        where = text.where or f"prompt {text.key}"
        raise MeasurementError(
            f"{where} comes without rounds or sums; turn on the engine's speculative decoding "
            "metrics"
        )
    drafting = [
        one_round for one_round in text.rounds if one_round.drafted or text.convention.counts_empty
    ]
    most = max((one_round.drafted for one_round in drafting), default=0)
    return Totals(
        rounds=len(drafting),
        drafted=sum(one_round.drafted for one_round in drafting),
        accepted=sum(one_round.accepted for one_round in drafting),
        per_position=tuple(
            sum(one_round.accepted > step for one_round in drafting) for step in range(most)
        ),
    )


def _counts(
    keys: Sequence[str], categories: Sequence[str], sums: Sequence[tuple[Totals, int]], k: int
) -> Counts:
    # Evenly where the engine gives only their sum (`no-positions`).
    accepted = [accepted_by_position(totals.accepted, totals.per_position, k) for totals, _ in sums]
    drafted = [
        drafted_by_position(totals.drafted, rounds, row)
        for (totals, rounds), row in zip(sums, accepted, strict=True)
    ]
    rounds = [float(rounds) for _, rounds in sums]
    return Counts(
        tuple(keys), tuple(categories), np.array(rounds), np.array(drafted), np.array(accepted)
    )
