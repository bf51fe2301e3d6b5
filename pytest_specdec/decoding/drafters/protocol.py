"""What a type of drafter provides, and what replay and decode give it.

A type of drafter is one file: two functions of a `DrafterType`, which check a checkpoint by its
files, before any model is loaded, and load it; and the `Drafter` that they load, which

- proposes drafts step by step, for `decode` (`Drafter.proposer`),
- scores given texts, for `replay` (`Drafter.score`),
- names its weights and rules by a hash (`Drafter.fingerprint`), so that a baseline can report
  whether they changed.

`replay` and `decode` know this protocol only. `docs/add-a-drafter.md` shows how another package
adds a type through the entry-point group `pytest_specdec.drafters`.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ...cases.case import Sampling
from ...cases.texts import Text
from ...checkpoints.checkpoint import Checkpoint
from ..loading import LoadedModel
from ..processors import BatchProcessors
from ..ragged import CachedModel, Rows, Sequences

Report = Callable[[str, int, int], None]
"""Called with (what is done, units done, units in all)."""

Observer = Callable[[int, int, torch.Tensor, torch.Tensor | None], None]
"""Called with the arguments of `ScoreArrays.fill`: a head, the first position that it scores, its
logits (rows, positions, tokens), and the ids of these tokens where they are not all.
"""


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Drafts of one round."""

    tokens: torch.Tensor
    """(rows, k): token ids; any id from where a row has no more drafts."""
    distributions: torch.Tensor
    """(rows, k + 1, vocabulary): the distribution that each draft was drawn from, after temperature
    and filters; zero from where a row has no more drafts.
    """
    drafted: Rows
    """(rows,): number of tokens proposed."""


class CertainProposal(Proposal):
    """Drafts that were certain: their distributions have all mass on them.

    They are made when they are asked for; greedy verification needs none.
    """

    def __init__(self, tokens: torch.Tensor, drafted: Rows, vocabulary: int) -> None:
        """`tokens` and `drafted` are those of a `Proposal`; `vocabulary` is the target's."""
        self.__dict__.update(tokens=tokens, drafted=drafted, _vocabulary=vocabulary)

    @functools.cached_property
    def distributions(self) -> torch.Tensor:
        rows, k = self.tokens.shape
        whole = torch.zeros(rows, k + 1, self.__dict__["_vocabulary"], device=self.tokens.device)
        whole[:, :-1].scatter_(2, self.tokens[..., None], self.proposed[..., None].float())
        return whole

    @property
    def vocabulary(self) -> int:
        """Number of tokens in the distributions."""
        size: int = self.__dict__["_vocabulary"]
        return size

    @property
    def proposed(self) -> torch.Tensor:
        """(rows, k): which of the tokens are drafts."""
        k = self.tokens.shape[1]
        return torch.from_numpy(np.arange(k) < self.drafted[:, None]).to(self.tokens.device)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingStart:
    """What a proposer is made from, once the prompts are read and the first tokens are emitted."""

    target: CachedModel
    """The target with its caches; it keeps its last hidden states for drafters that read them, or
    those of `Drafter.reads_layers`, joined.
    """
    texts: Sequence[Sequence[int]]
    """Each row's tokens so far: its prompt and the first new token."""
    k: int
    """Most drafts of a round."""
    sampling: Sampling
    """What drafts are drawn by."""
    confidence: float
    """A row's drafts end after the first one that the drafter found less likely than this; 0 means
    never. Not 0 only where `Drafter.takes_confidence`.
    """
    vocabulary: int
    """Number of tokens in the target's distributions."""


class Proposer(Protocol):
    """Drafts for the rows of one batch, round after round."""

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        """Draft at most k tokens a row after the emitted ones.

        Each draft is also written into the sequences, `sequences.put(step, tokens)`: the target
        reads them there.
        """

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """Receive what each row emitted in the round."""

    def select(self, rows: Rows) -> None:
        """Keep these rows: the others have ended."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Texts to be scored together, in the order of the rows."""

    texts: Sequence[Text]
    ids: torch.Tensor
    """(rows, length), on the target's device: token ids, zeros after shorter texts."""
    begin: int
    """First position scored."""
    steps: int
    """Most drafts of a round."""
    sampling: Sampling
    """What drafts are drawn by: their q is the softmax after its temperature and filters, one-hot
    at temperature 0.
    """
    hidden_states: Sequence[torch.Tensor] | None
    """The target's hidden states of every layer, each (rows, length, width); None where no drafter
    reads them.
    """
    layer_states: Mapping[int, torch.Tensor] = dataclasses.field(default_factory=dict)
    """The target's states of `Drafter.reads_layers`, each (rows, length, width), by number."""
    target: torch.Tensor | None = None
    """(rows, length - begin, vocabulary): the target's log-probabilities in each context, after
    temperature and filters, at temperature 0 those at `acceptance.scores.SMOOTHING`; None where no
    overlaps are needed.
    """
    rules: tuple[str, ...] = ()
    """The verification rules whose overlaps are needed; none without `target`."""
    greedy: bool = False
    """Whether the target decodes at temperature 0: then drafters also score at
    `acceptance.scores.SMOOTHING`.
    """
    processors: BatchProcessors | None = None
    """The texts' logits processors, which `target` has been through."""
    observe: Observer | None = None
    """Called with all that heads compute, for trees of drafts."""

    def drafter_logits(self, first: int, logits: torch.Tensor) -> torch.Tensor:
        """A drafter's logits (rows, positions, vocabulary) of the texts' tokens from position
        `first` on, after the processors.
        """
        if self.processors is None:
            return logits
        new = [(text.prompt_length, len(text.ids)) for text in self.texts]
        return self.processors.draft(self.ids, [first] * len(new), logits, new)


@dataclasses.dataclass(frozen=True)
class DraftScores:
    """One drafter's scores of a batch."""

    log_q: NDArray[np.float32]
    """(rows, heads, length - begin): log-probability of each text's own token by each head, after
    temperature and filters; -inf where a head has none.

    With `heads` 1 + depth, draft step i of a round uses head i % (1 + depth); with `heads` equal to
    the number of draft steps each step has its own.
    """
    available: NDArray[np.int64] | None = None
    """(rows, length - begin): number of tokens proposed by a round that starts at each position;
    None where that is always k.
    """
    smoothed: NDArray[np.float32] | None = None
    """As `log_q` at temperature 0, by the distribution at `acceptance.scores.SMOOTHING`; None at
    other temperatures, and for drafts that are certain.
    """
    overlaps: Mapping[str, NDArray[np.float32]] = dataclasses.field(default_factory=dict)
    """For each of `TextBatch.rules`, shaped as `log_q`: the chance that the draft is accepted in
    each context, whatever the text's own token. A drafter that leaves them out is not judged in the
    contexts of a changed target.
    """


class Drafter(abc.ABC):
    """A drafter that is ready to draft for one target."""

    models: Sequence[LoadedModel] = ()
    """Its own models that read the texts: their contexts and vocabularies limit the texts."""
    reads_hidden = False
    """Whether it reads the target's hidden states."""
    reads_layers: Sequence[int] = ()
    """The states between the target's layers that it reads, taken by hooks: 0 the embeddings, i the
    output of the i-th decoder layer. Without `reads_hidden`.
    """
    takes_processors = False
    """Whether proposer and scores apply logits processors: drafts are taken by `drafts.Drafts` and
    scores filled by `score_arrays.ScoreArrays`, or all are certain.
    """
    in_order = False
    """Whether its drafts depend on the texts before: then those are decoded one by one, in the
    order of the prompts.
    """
    most_drafts: int | None = None
    """Most draft tokens of a round; None for any number."""
    can_draft_more = False
    """Whether `most_drafts` is what it was trained for, and engines let it draft more."""
    takes_confidence = False
    """Whether its proposer can stop at a draft below `DecodingStart.confidence`."""
    varies = False
    """Whether each round may ask for any number of drafts, or for none. Of others a controller's
    rounds are drafted in full, and drafts that it does not want are thrown away.
    """
    whole_blocks = False
    """Whether k decides all drafts of a round, as where they are drafted together in a block: then
    scores for one k say nothing of another, and `score` is asked for each k by itself.
    """

    @abc.abstractmethod
    def proposer(self, start: DecodingStart) -> Proposer:
        """A proposer for a new batch of rows."""

    def begin(self, texts: Sequence[Text]) -> None:  # noqa: B027  # most drafters have no history
        """Begin a run: called with the texts that are to be scored, in the order of the prompts, or
        with none before texts are decoded.
        """

    def heads(self, steps: int) -> int:
        """Heads of the scores, see `DraftScores.log_q`; one for each draft step by default."""
        return steps

    @abc.abstractmethod
    def score(self, batch: TextBatch) -> DraftScores:
        """Log-probabilities of texts that the target emitted.

        Raises MeasurementError for NaN.
        """

    @abc.abstractmethod
    def fingerprint(self, report: Report = lambda what, done, total: None) -> str:
        """A hash of all that decides its drafts: weights, tables, rules. Letters, digits, `-`."""

    def prepare(self) -> None:  # noqa: B027  # most drafters load nothing late
        """Load now what drafting would load on first use."""


class DrafterType(Protocol):
    """Checks and loads the drafters of one type; a module with these functions is one, too.

    `folder` is None for a drafter without files, given by the name of its type. Of another
    package's type a function `recognises(config)` is called, too, where it has one: whether a
    folder with this config.json holds a drafter of this type. Where k decides all drafts of a round
    (`Drafter.whole_blocks`) the type says `whole_blocks = True`; where not every k goes it has
    `most_drafts(folder)`, which reads the largest one from files alone, and `can_draft_more`.
    """

    def check(self, target: Checkpoint, folder: Path | None, depth: int) -> None:
        """Refuse a drafter that cannot draft for the target, or not at this depth, by files alone.

        Called before models are loaded. Raises RequestError.
        """

    def load(self, target: LoadedModel, folder: Path | None, depth: int) -> Drafter:
        """Load a drafter that was checked. Raises RequestError."""
