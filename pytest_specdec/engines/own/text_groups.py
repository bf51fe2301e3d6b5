"""What the cases of one set of texts share in replay: texts, scores, overlaps."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import msgspec
import numpy as np

from ...acceptance.contexts import ContextCounts, context_counts
from ...acceptance.interleaved import judged_scores
from ...acceptance.reference_drafters import References, reference_counts
from ...acceptance.scores import Scores
from ...acceptance.text_origin import source_problem
from ...cases.case import Case, TextKey
from ...cases.texts import Text, texts_of_prompts
from ...common.errors import SpecdecError
from ...decoding.scoring import ScoringPlan
from ...decoding.stored_states import StoredStates
from ...decoding.trees.replay import tree_batches
from ...records.conditions import Environment, Fingerprints
from ...records.text_set import TextSet
from .replay_work import CasePlan, Prepared, Scoring
from .score_keys import ScoresKey, scores_key
from .tree_work import TreeScoring

_LOGPROB_DECIMALS = 5
"""Of stored log-probabilities: a weight is off by 5e-6 at most, and its errors average out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BegunGroup:
    """The cases of one text key before anything is scored."""

    key: TextKey
    cases: tuple[Case, ...]
    prepared: Prepared
    texts: tuple[Text, ...]
    stored: TextSet
    """What is stored of the texts, still without log-probabilities."""
    states: StoredStates | None
    """What stands in for the target's own passes."""

    @functools.cached_property
    def problems(self) -> dict[ScoresKey, str]:
        """Why a drafter cannot be measured."""
        pairs = zip(self.cases, self.prepared.problems, strict=True)
        return {scores_key(case): problem for case, problem in pairs if problem is not None}

    @functools.cached_property
    def plans(self) -> dict[ScoresKey, CasePlan]:
        """How far the scores of each other drafter must reach."""
        return {
            name: CasePlan.of([case for case in self.cases if scores_key(case) == name])
            for name in dict.fromkeys(map(scores_key, self.cases))
            if name not in self.problems
        }

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of the texts, by prompt key."""
        return {text.key: text.fingerprint for text in self.texts}

    @functools.cached_property
    def looping(self) -> int:
        """How many texts end in a loop."""
        return sum(text.loops for text in self.texts)

    @functools.cached_property
    def environment(self) -> Environment:
        """Where the numbers come from: stored states are part of that."""
        here = self.prepared.environment
        if self.states is None:
            return here
        states = self.states.fingerprint([text.ids for text in self.texts])
        return msgspec.structs.replace(here, states=states)

    def fingerprints_of(self, case: Case) -> Fingerprints:
        """Of the models of a case whose drafter can be measured."""
        found = self.prepared.fingerprints[self.cases.index(case)]
        assert found is not None
        return found

    def work(
        self,
        texts: tuple[Text, ...] | None = None,
        *,
        overlaps: bool = False,
        source: Sequence[Sequence[float]] | None = None,
    ) -> Scoring:
        """What scores the group's texts or, as contexts, those of another target."""
        scored = self.texts if texts is None else texts
        return Scoring(
            key=self.key,
            plans=tuple(self.plans.values()),
            texts=scored,
            plan=ScoringPlan.of(
                scored,
                device=self.prepared.device,
                vocabulary=self.prepared.vocabulary,
                greedy=not overlaps and self.key.temperature == 0,
                stored=self.states is not None,
            ),
            overlaps=overlaps,
            source=source is not None,
            states=self.states,
        )

    def tree_work(self, case: Case) -> TreeScoring:
        """What replays a case's trees on the group's texts."""
        batches = tree_batches(self.texts, self.prepared.vocabulary)
        return TreeScoring(case=case, texts=self.texts, batches=batches)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextGroup:
    """All that the cases of one text key share."""

    begun: BegunGroup
    stored: TextSet
    """With the log-probabilities of the texts."""
    scores: dict[ScoresKey, Scores | SpecdecError]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextGroup:
    """Overlaps on one set of texts."""

    target: str
    """Fingerprint of the target that emitted them."""
    texts: tuple[Text, ...]
    scores: dict[ScoresKey, Scores]
    problem: str | None = None
    """Why the texts' log-probabilities by another target cannot be right."""

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        return {text.key: text.fingerprint for text in self.texts}

    def counts(self, case: Case) -> ContextCounts | None:
        """What a case's drafter accepts in the contexts; None where it has no overlaps."""
        scores = self.scores.get(scores_key(case))
        if scores is None:
            return None
        heads = heads_of(case, scores, self.texts)
        if case.judged is None:
            limits = [text.prompt_length + case.texts.new_tokens for text in self.texts]
        else:
            limits = [case.texts.new_tokens // case.judged.every] * len(self.texts)
        rule = "greedy" if case.temperature == 0 else case.rule
        filters = case.texts.top_k > 0 or case.texts.top_p < 1 or case.texts.processors is not None
        return context_counts(heads, rule, case.k, np.array(limits), filters=filters)


def heads_of(case: Case, scores: Scores, texts: Sequence[Text]) -> Scores:
    """The scores of the heads and tokens that a case judges."""
    heads = scores if case.draft_model is None else scores.first_heads(1 + case.depth)
    if case.judged is None:
        return heads
    return judged_scores(heads, texts, case.judged, own_heads=case.uses_own_heads)


def references_of(case: Case, scores: Scores, group: BegunGroup) -> References:
    return reference_counts(
        scores,
        group.texts,
        vocabulary=group.prepared.vocabulary,
        k=case.k,
        rule=case.chain_rule,
        judged=case.judged,
    )


def texts_of_stored(
    stored: TextSet, key: TextKey, group: BegunGroup
) -> tuple[tuple[Text, ...], list[tuple[float, ...]] | None]:
    """Stored texts of another target on the prompts of a group, and their log-probabilities where
    these are stored.
    """
    known = stored.texts if stored.logprobs is None else stored.logprobs
    prompts = key.read_prompts()
    pairs = [
        (prompt, ids)
        for prompt, ids in zip(prompts, group.prepared.ids, strict=True)
        if prompt.key in known
    ]
    new = [stored.texts[prompt.key] for prompt, _ in pairs]
    texts = texts_of_prompts([prompt for prompt, _ in pairs], [ids for _, ids in pairs], new)
    if stored.logprobs is None:
        return texts, None
    return texts, [stored.logprobs[prompt.key] for prompt, _ in pairs]


def usable(stored: TextSet, now: TextSet) -> bool:
    """Whether stored texts of another target can serve as contexts: the same tokenizer and
    settings, and the log-probabilities of sampled tokens.
    """
    known = stored.temperature == 0 or stored.logprobs is not None
    return known and msgspec.structs.replace(stored, target=now.target).fits(now)


def source_problem_of(texts: Sequence[Text], scores: Scores) -> str | None:
    """Why the log-probabilities of texts of another target cannot be right; None where they may
    be.
    """
    if scores.source is None:
        return None
    position = np.arange(scores.target.shape[1])
    first = np.array([text.prompt_length for text in texts])
    new = (position >= first[:, None]) & (position < scores.lengths[:, None])
    return source_problem(scores.target, scores.source, new)


def logprobs_of(
    texts: Sequence[Text], scores: Sequence[Scores], key: TextKey
) -> dict[str, tuple[float, ...]] | None:
    """The target's log-probability of each new token, as it is stored; None at temperature 0."""
    if key.temperature == 0 or not scores:
        return None
    rounded = np.minimum(np.round(scores[0].target.astype(np.float64), _LOGPROB_DECIMALS), 0.0)
    return {
        text.key: tuple((rounded[row, text.prompt_length : len(text.ids)] + 0.0).tolist())
        for row, text in enumerate(texts)
    }


def foreign(scores: Scores) -> SpecdecError | None:
    """Why the texts that were scored are not the target's; None where they may be."""
    try:
        if scores.origin is not None:
            scores.origin.check()
    except SpecdecError as error:
        return error
    return None
