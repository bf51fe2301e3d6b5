"""The interface of engines: from a case to its counts. Engines know no baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from ..acceptance.contexts import ContextCounts
from ..acceptance.counts import Counts
from ..acceptance.first_rounds import Samples
from ..acceptance.reference_drafters import References
from ..acceptance.renewal import AcceptanceField
from ..acceptance.rounds import Round
from ..acceptance.scores import Scores
from ..cases.case import DEFINITION, Case
from ..cases.texts import Text
from ..common.errors import MeasurementError
from ..records.conditions import Environment, Fingerprints
from ..records.same_contexts import SameContexts
from ..records.text_set import TextSet
from .models import ModelPool

if TYPE_CHECKING:
    from ..decoding.likeliest_drafts import LikeliestDrafts
    from ..decoding.named_processors import ProcessorSource
    from ..lossless.texts.conformance import Conformance
    from .counting.possible_rounds import CountedRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredTimes:
    """What decoding took: median milliseconds of a batch's round, None where they are not
    reported, and tokens emitted per second.
    """

    draft_ms: float | None
    verify_ms: float | None
    batch_size: int
    tokens_per_second: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """Counts of one case, with what they were measured on."""

    counts: Counts
    fingerprints: Fingerprints
    environment: Environment
    tokenizer: str
    template: str | None
    text_fingerprints: Mapping[str, str]
    """By prompt key."""
    texts: TextSet | None
    """The texts used, to be stored beside a new baseline; None where every run emits its own."""
    times: MeasuredTimes | None = None
    looping: int = 0
    """Texts that end in a loop."""
    expected: Counts | None = None
    """Replay of the emitted texts, where the engine counted rounds of its own and the models are
    loaded.
    """
    samples: Samples | None = None
    """One round from each prompt's own context, where it is known."""
    field: Callable[[], AcceptanceField] | None = None
    """Makes the acceptance of every token by every head, where it is known: too large to keep for
    every case.
    """
    scores: Callable[[], Scores] | None = None
    """Makes the log-probabilities of each text's own tokens, where they were replayed."""
    smoothed: Counts | None = None
    """At temperature 0: the counts with the draft's distribution at a small temperature in the
    place of its arg-max.
    """
    contexts: Callable[[], ContextCounts | None] | None = None
    """Makes the acceptance of one round from every start of the same texts; None where it cannot
    be.
    """
    stored_contexts: Callable[[], SameContexts | None] | None = None
    """Makes the acceptance of one round from every start of the stored texts of another target;
    None where there are none that can be used.
    """
    likeliest: Callable[[Sequence[str]], Mapping[str, LikeliestDrafts]] | None = None
    """Makes what the drafter finds likeliest in the texts of some prompts, by their keys; without
    those where it is not known.
    """
    references: Callable[[], References] | None = None
    """Makes the counts of reference drafters on the same texts, where these are replayed.
    """
    definition: str = DEFINITION
    """What was counted."""
    notes: tuple[str, ...] = ()
    """What readers of the report should know of the measurement, a sentence each."""
    altered: str | None = None
    """A mode in which the engine does not decode with its own models: never compared with another.
    """


def check_rounds(counts: Counts, case: Case) -> None:
    """Refuse counts without a single round. Raises MeasurementError."""
    if not counts.total_rounds > 0:
        raise MeasurementError(
            f"no text is long enough for a round of k={case.k}; raise --specdec-new-tokens"
        )


class Engine(Protocol):
    """A way to measure acceptance."""

    @property
    def name(self) -> str:
        """The engine's name on the command line; stored in every baseline."""

    @property
    def models(self) -> ModelPool:
        """The session's models in this process."""

    def measure(self, case: Case) -> Measurement:
        """Counts of one case. Raises SpecdecError where there is no usable record."""

    def unsupported(self, case: Case) -> str | None:
        """Why the engine cannot run a case at all; None where it can, and for mistakes in the
        request, which are errors.
        """
        return None

    def check_target(self, case: Case) -> None:
        """Refuse to judge texts where the case's target is not at hand. Raises RequestError."""
        _ = self.models.model(case.target)

    def conformance(
        self,
        case: Case,
        alpha: float,
        rounds: Sequence[Sequence[Round]] | None,
        processors: ProcessorSource,
    ) -> Conformance:
        """Whether the texts of a case, with these rounds and under these logits processors, follow
        its target; those that do fail with probability alpha.
        """
        return self.models.conformance(case, self.emitted(case), alpha, rounds, processors)

    def emitted(self, case: Case) -> Sequence[Text]:
        """The texts that were emitted for a case, at least one."""

    def counted(self, case: Case) -> CountedRun | None:
        """The rounds that were counted for a case, to be judged by its models; None where the
        engine counts none of its own.
        """
        return None
