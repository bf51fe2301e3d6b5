"""A fixed drafter measured with one target after the other, in the contexts of the first one's
texts.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from ..acceptance.contexts import ContextCounts, context_counts
from ..acceptance.renewal import expected_counts, with_requests
from ..acceptance.scores import Scores
from ..cases.case import Sampling
from ..cases.prompts import Prompt
from ..cases.rules import default_rule
from ..cases.texts import Text, texts_of_prompts
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.tokenizer_files import vocabulary_of
from ..common.errors import MeasurementError, RequestError
from ..gate.changed_target import LEAST_EFFECTIVE
from ..gate.staleness import TargetMeasured
from .drafters.registry import DrafterSource, loaded_pair
from .loading import LoadedModel
from .replay import DrafterPlan, text_scores
from .sampling import encode_prompts, sample_new_tokens

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class _Contexts:
    """Texts of one of the targets."""

    name: str
    texts: tuple[Text, ...]
    logprobs: list[list[float]] | None
    """Of the texts' new tokens by that target; None at temperature 0, where texts are no sample."""


class StaleDrafter:
    """Measures one drafter with a sequence of targets.

    The first target emits texts. Each later one is measured in their contexts (see
    `acceptance.contexts`), so that it costs one pass of target and drafter and is paired to the
    context. Where fewer than a fifth of the contexts are effective it emits texts of its own, which
    later targets are measured on in turn.

    Parameters
    ----------
    drafter
        As in `decode`; a draft model is best given loaded.
    prompts
        What texts begin with.
    k, depth, temperature, new_tokens, seed
        Of the rounds and of the texts.

    Examples
    --------
    >>> from pytest_specdec.cases.prompts import Prompt
    >>> from pytest_specdec.decoding.loading import load_model
    >>> prompts = [Prompt(key=text, category="all", text=text) for text in ("A list", "The map")]
    >>> target, draft = map(load_model, ("suites/models/text-target", "suites/models/text-draft"))
    >>> drafter = StaleDrafter(draft, prompts, k=4, new_tokens=32)
    >>> first, same = drafter.measure("step-0", target), drafter.measure("step-1", target)
    >>> first.counts.acceptance_length == same.counts.acceptance_length
    True
    """

    def __init__(
        self,
        drafter: DrafterSource,
        prompts: Sequence[Prompt],
        *,
        k: int,
        depth: int = 0,
        temperature: float = 1.0,
        new_tokens: int = 128,
        seed: int = 0,
        progress: Progress = lambda what, done, total: None,
    ) -> None:
        self._drafter, self._prompts = drafter, tuple(prompts)
        self._k, self._depth, self._new_tokens, self._seed = k, depth, new_tokens, seed
        self._sampling = Sampling(temperature)
        self._rule = default_rule(temperature)
        self._progress = progress
        self._contexts: _Contexts | None = None
        self._first: Checkpoint | None = None
        self.request_length: float | None = None
        """Tokens per pass of the first target over whole texts; None before it is measured."""

    def measure(self, name: str, target: LoadedModel, *, fresh: bool = False) -> TargetMeasured:
        """The drafter with the next target; `fresh` also on texts that it emits now.

        Raises RequestError for a target with other tokens than the first one's, or a drafter that
        does not say how it would accept in given contexts; MeasurementError for texts without a
        round of k drafts.
        """
        self._check_tokens(target.checkpoint)
        model, drafter = loaded_pair(target, self._drafter, self._depth)
        plan = DrafterPlan(drafter, self._depth, self._k)
        contexts = self._contexts
        if contexts is None:
            return self._begun(name, model, plan)
        counts, _ = self._counts(model, plan, contexts.texts, contexts.logprobs)
        weighted = contexts.logprobs is not None
        if weighted and counts.effective_share < LEAST_EFFECTIVE:
            return self._begun(name, model, plan)
        measured = _measured(name, contexts.name, counts, weighted=weighted)
        if not fresh:
            return measured
        emitted = self._emitted(name, model)
        counts, _ = self._counts(model, plan, emitted, None)
        return dataclasses.replace(measured, fresh=counts.counts)

    def _emitted(self, name: str, target: LoadedModel) -> tuple[Text, ...]:
        """Texts that a target emits now."""
        ids = encode_prompts(target.tokenizer, self._prompts)
        new = sample_new_tokens(
            target,
            ids,
            new_tokens=self._new_tokens,
            sampling=self._sampling,
            seed=self._seed,
            keys=[prompt.key for prompt in self._prompts],
            progress=functools.partial(self._progress, f"sampling texts of {name}"),
        )
        return tuple(texts_of_prompts(self._prompts, ids, new))

    def _begun(self, name: str, target: LoadedModel, plan: DrafterPlan) -> TargetMeasured:
        """On texts that the target emits now, and the later ones' contexts."""
        texts = self._emitted(name, target)
        counts, scores = self._counts(target, plan, texts, None)
        if not counts.counts.total_rounds > 0:
            raise MeasurementError(
                f"no text is long enough for a round of k={self._k}; use longer texts or a "
                "smaller k"
            )
        sampled = self._sampling.temperature > 0
        self._contexts = _Contexts(name, texts, _logprobs(scores, texts) if sampled else None)
        if self.request_length is None:
            field = scores.field(self._rule)
            self.request_length = with_requests(
                expected_counts(field, self._k), field
            ).request_length
        return _measured(name, name, counts, weighted=sampled)

    def _counts(
        self,
        target: LoadedModel,
        plan: DrafterPlan,
        texts: tuple[Text, ...],
        source: list[list[float]] | None,
    ) -> tuple[ContextCounts, Scores]:
        (scores,) = text_scores(
            target,
            [plan],
            texts,
            self._sampling,
            functools.partial(self._progress, "replay"),
            overlaps=True,
            source=source,
        )
        limits = np.array([text.prompt_length + self._new_tokens for text in texts])
        counts = context_counts(scores, self._rule, self._k, limits)
        if counts is None:
            raise RequestError(
                "this drafter does not say how it would accept in given contexts; measure a draft "
                "model or heads instead"
            )
        return counts, scores

    def _check_tokens(self, checkpoint: Checkpoint) -> None:
        """Raises RequestError for a target whose tokens are not those of the first one."""
        first = self._first
        if first is None:
            self._first = checkpoint
            return
        ours, theirs = (
            vocabulary_of(one.folder / "tokenizer.json") if one.folder.is_dir() else None
            for one in (first, checkpoint)
        )
        same = ours is None or theirs is None or ours == theirs
        if checkpoint.vocabulary != first.vocabulary or not same:
            raise RequestError(
                f"the target {checkpoint.folder} has other tokens than {first.folder}, so it "
                "cannot be measured on its texts; leave it out"
            )


def _measured(name: str, contexts: str, counts: ContextCounts, *, weighted: bool) -> TargetMeasured:
    return TargetMeasured(
        name=name,
        counts=counts.counts,
        contexts=contexts,
        effective_share=counts.effective_share if weighted else None,
        unseen=counts.unseen,
    )


def _logprobs(scores: Scores, texts: Sequence[Text]) -> list[list[float]]:
    """Of each text's new tokens by the target that emitted them."""
    return [
        scores.target[row, text.prompt_length : len(text.ids)].astype(float).tolist()
        for row, text in enumerate(texts)
    ]
