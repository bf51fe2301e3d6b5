"""Replay as an engine: one pass of each model over given texts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from ...acceptance.contexts import ContextCounts, context_counts
from ...acceptance.first_rounds import Samples
from ...acceptance.interleaved import judged_scores
from ...acceptance.reference_drafters import References, reference_counts
from ...acceptance.renewal import expected_counts, with_requests
from ...acceptance.scores import Scores
from ...acceptance.text_origin import source_problem
from ...cases.case import Case, TextKey
from ...cases.prompts import Prompt, read_prompts
from ...cases.texts import Text, texts_of_prompts
from ...checkpoints.text_ends import target_fingerprint
from ...common.errors import SpecdecError
from ...decoding.environment import environment
from ...decoding.loading import LoadedModel
from ...decoding.named_processors import ready_processors
from ...decoding.processors import Processors
from ...decoding.replay import DrafterPlan, check_drafter, text_scores
from ...decoding.sampling import encode_prompts, sample_new_tokens
from ...decoding.target_passes import TargetPasses
from ...records.same_contexts import SameContexts
from ...records.text_set import TextSet
from ..fingerprints import template_of
from ..kept_texts import KeptTexts, wanted_texts
from ..models import ModelPool
from ..protocol import Engine, Measurement, check_rounds
from .score_keys import ScoresKey, block_notes, scores_key

_LOGPROB_DECIMALS = 5
"""Of stored log-probabilities: a weight is off by 5e-6 at most, and its errors average out."""


class ReplayEngine(Engine):
    """Measures by replay: scores reach as far as any case of the plan needs, from one pass for each
    set of texts.

    `plan` is every case of the session; in `kept` sampled texts wait for the next run.
    """

    name = "replay"

    def __init__(
        self,
        plan: Sequence[Case],
        models: ModelPool,
        *,
        stored_texts: Callable[[TextKey], TextSet | None] = lambda key: None,
        kept: Path | None = None,
    ) -> None:
        self._plan, self._models, self._stored_texts = tuple(plan), models, stored_texts
        self._kept = KeptTexts(kept, f"{models.device} {models.dtype}")

    @property
    def models(self) -> ModelPool:
        return self._models

    @functools.cached_property
    def _group(self) -> Callable[[TextKey], _TextGroup]:
        return functools.cache(self._measure_group)

    def measure(self, case: Case) -> Measurement:
        target = self.models.target(case.target)
        group = self._group(case.texts)
        scores = group.scores[scores_key(case)]
        if isinstance(scores, SpecdecError):
            raise scores
        heads = _heads(case, scores, group.texts)
        field = heads.field(case.rule)
        counts = with_requests(expected_counts(field, case.k), field)
        check_rounds(counts, case)
        return Measurement(
            counts=counts,
            fingerprints=self.models.fingerprints(case),
            environment=environment(target.device, self.models.dtype),
            tokenizer=group.stored.tokenizer,
            template=group.stored.template,
            text_fingerprints=group.fingerprints,
            texts=group.stored,
            looping=group.looping,
            samples=Samples.of(field, case.k),
            field=functools.partial(heads.field, case.rule),
            scores=functools.partial(_heads, case, scores, group.texts),
            smoothed=expected_counts(heads.smoothed_field(), case.k)
            if case.temperature == 0
            else None,
            contexts=functools.partial(self._own_contexts, case),
            stored_contexts=functools.partial(self._stored_contexts, case),
            notes=(*group.notes, *block_notes(case)),
            references=functools.partial(self._references, case, heads, group.texts),
        )

    @functools.cached_property
    def _context_group(self) -> Callable[[TextKey, bool], _ContextGroup | None]:
        return functools.cache(self._measure_contexts)

    def _own_contexts(self, case: Case) -> ContextCounts | None:
        group = self._context_group(case.texts, False)
        return None if group is None else group.counts(case)

    def _stored_contexts(self, case: Case) -> SameContexts | None:
        group = self._context_group(case.texts, True)
        measured = None if group is None else group.counts(case)
        if group is None or measured is None:
            return None
        return SameContexts(
            target=group.target,
            text_fingerprints=group.fingerprints,
            measured=measured,
            problem=group.problem,
        )

    def _measure_contexts(self, key: TextKey, stored: bool) -> _ContextGroup | None:
        """Overlaps of all drafters on the texts of a key, or on the `stored` ones of another
        target; None where those are missing or hold no log-probabilities.
        """
        target = self.models.target(key.target)
        group = self._group(key)
        texts, text_set, source = group.texts, group.stored, None
        if stored:
            others = self._stored_texts(key)
            if others is None or not _usable(others, group.stored):
                return None
            known = others.texts if others.logprobs is None else others.logprobs
            prompts = [
                prompt
                for prompt in read_prompts(key.prompts, key.prompt_limit)
                if prompt.key in known
            ]
            ids = encode_prompts(target.tokenizer, prompts)
            texts = texts_of_prompts(prompts, ids, [others.texts[prompt.key] for prompt in prompts])
            text_set = others
            if others.logprobs is not None:
                source = [others.logprobs[prompt.key] for prompt in prompts]
        scores = text_scores(
            target,
            list(group.plans.values()),
            texts,
            key.sampling,
            functools.partial(self.models.report, f"{key.suite}: contexts"),
            overlaps=True,
            source=source,
            passes=self._passes(target),
            processors=self._processors(key),
        )
        return _ContextGroup(
            target=text_set.target,
            texts=texts,
            scores=dict(zip(group.plans, scores, strict=True)),
            problem=_source_problem(texts, scores[0]) if scores else None,
        )

    def _references(self, case: Case, scores: Scores, texts: Sequence[Text]) -> References:
        vocabulary = self.models.target(case.target).model.get_input_embeddings().num_embeddings
        return reference_counts(
            scores, texts, vocabulary=vocabulary, k=case.k, rule=case.rule, judged=case.judged
        )

    def _passes(self, target: LoadedModel) -> TargetPasses | None:
        """What stands in for the target's own passes."""
        return None

    def emitted(self, case: Case) -> Sequence[Text]:
        return self._group(case.texts).texts

    def _measure_group(self, key: TextKey) -> _TextGroup:
        target = self.models.target(key.target)
        texts, stored = self._texts(key, target)
        cases = [case for case in self._plan if case.texts == key]
        scores: dict[ScoresKey, Scores | SpecdecError] = {}
        plans: dict[ScoresKey, DrafterPlan] = {}
        for name in dict.fromkeys(map(scores_key, cases)):
            try:
                plans[name] = self._drafter_plan(
                    [case for case in cases if scores_key(case) == name]
                )
            except SpecdecError as error:
                scores[name] = error
        measured = text_scores(
            target,
            list(plans.values()),
            texts,
            key.sampling,
            functools.partial(self.models.report, f"{key.suite}: replay"),
            judge_origin=True,
            passes=self._passes(target),
            processors=self._processors(key),
        )
        notes = self._kept.notes(key)
        for name, replayed in zip(plans, measured, strict=True):
            scores[name] = replayed if (problem := _foreign(replayed)) is None else problem
        if (
            measured
            and (origin := measured[0].origin) is not None
            and (note := origin.note) is not None
        ):
            notes = (*notes, f"texts of {key.suite} at {key.sampling.suffix}: {note}")
        stored = msgspec.structs.replace(stored, logprobs=_logprobs(texts, measured, key))
        return _TextGroup(texts, stored, scores, plans, notes)

    def _processors(self, key: TextKey) -> Processors | None:
        return ready_processors(key.processors, self.models.target(key.target), key.temperature)

    def _drafter_plan(self, cases: list[Case]) -> DrafterPlan:
        """One drafter's plan for its cases; loads what it needs, so that a bad drafter fails
        alone.
        """
        depth, steps = max(case.depth for case in cases), max(case.verified for case in cases)
        target, model = self.models.target(cases[0].target), self.models.drafting(cases[0])
        check_drafter(target, model, depth)
        self.models.load_drafter(max(cases, key=lambda case: case.depth))
        rules = tuple(dict.fromkeys(case.rule for case in cases))
        return DrafterPlan(model, depth, steps, rules, cases[0].drafting)

    def _texts(self, key: TextKey, target: LoadedModel) -> tuple[tuple[Text, ...], TextSet]:
        """The texts of a key, and what is stored of them."""
        prompts = read_prompts(key.prompts, key.prompt_limit)
        target.checkpoint.hash_now(self.models.report)
        ids = encode_prompts(target.tokenizer, prompts)
        wanted = wanted_texts(
            key,
            target=target_fingerprint(target.checkpoint),
            tokenizer=target.checkpoint.tokenizer_fingerprint,
            template=template_of(target, prompts),
        )
        known = self._new_tokens(key, target, prompts, ids, wanted)
        used = {prompt.key: known[prompt.key] for prompt in prompts}
        texts = texts_of_prompts(prompts, ids, list(used.values()))
        return texts, msgspec.structs.replace(wanted, texts=used)

    def _new_tokens(
        self,
        key: TextKey,
        target: LoadedModel,
        prompts: Sequence[Prompt],
        ids: Sequence[Sequence[int]],
        wanted: TextSet,
    ) -> dict[str, tuple[int, ...]]:
        """New tokens by prompt key: stored ones where they fit the target, then those kept by an
        earlier run; the missing ones are sampled.
        """
        known, kept, missing = self._kept.known(key, wanted, prompts, self._stored_texts(key))
        if missing:
            sampled = sample_new_tokens(
                target,
                [ids[row] for row in missing],
                new_tokens=key.new_tokens,
                sampling=key.sampling,
                seed=key.seed,
                keys=[prompts[row].key for row in missing],
                progress=functools.partial(self.models.report, f"{key.suite}: sampling texts"),
                processors=self._processors(key),
            )
            new_texts = {prompts[row].key: new for row, new in zip(missing, sampled, strict=True)}
            known |= new_texts
            self._kept.write(key, wanted, kept | new_texts)
        return known


@dataclasses.dataclass(frozen=True)
class _TextGroup:
    """All that the cases of one text key share."""

    texts: tuple[Text, ...]
    stored: TextSet
    scores: dict[ScoresKey, Scores | SpecdecError]
    plans: dict[ScoresKey, DrafterPlan]
    notes: tuple[str, ...]

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        return {text.key: text.fingerprint for text in self.texts}

    @functools.cached_property
    def looping(self) -> int:
        return sum(text.loops for text in self.texts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ContextGroup:
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
        heads = _heads(case, scores, self.texts)
        if case.judged is None:
            limits = [text.prompt_length + case.texts.new_tokens for text in self.texts]
        else:
            limits = [case.texts.new_tokens // case.judged.every] * len(self.texts)
        rule = "greedy" if case.temperature == 0 else case.rule
        filters = case.texts.top_k > 0 or case.texts.top_p < 1 or case.texts.processors is not None
        return context_counts(heads, rule, case.k, np.array(limits), filters=filters)


def _heads(case: Case, scores: Scores, texts: Sequence[Text]) -> Scores:
    """The scores of the heads and tokens that a case judges."""
    heads = scores if case.draft_model is None else scores.first_heads(1 + case.depth)
    if case.judged is None:
        return heads
    return judged_scores(heads, texts, case.judged, own_heads=case.uses_own_heads)


def _usable(stored: TextSet, now: TextSet) -> bool:
    """Whether stored texts of another target can serve as contexts: the same tokenizer and
    settings, and the log-probabilities of sampled tokens.
    """
    known = stored.temperature == 0 or stored.logprobs is not None
    return known and msgspec.structs.replace(stored, target=now.target).fits(now)


def _source_problem(texts: Sequence[Text], scores: Scores) -> str | None:
    """Why the log-probabilities of texts of another target cannot be right; None where they may
    be.
    """
    if scores.source is None:
        return None
    position = np.arange(scores.target.shape[1])
    first = np.array([text.prompt_length for text in texts])
    new = (position >= first[:, None]) & (position < scores.lengths[:, None])
    return source_problem(scores.target, scores.source, new)


def _logprobs(
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


def _foreign(scores: Scores) -> SpecdecError | None:
    """Why the texts that were scored are not the target's; None where they may be."""
    try:
        if scores.origin is not None:
            scores.origin.check()
    except SpecdecError as error:
        return error
    return None
