"""Replay as an engine: one pass of each model over given texts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ...acceptance.first_rounds import Samples
from ...acceptance.interleaved import judged_scores
from ...acceptance.reference_drafters import References, reference_counts
from ...acceptance.renewal import expected_counts, with_requests
from ...acceptance.scores import Scores
from ...cases.case import Case, TextKey
from ...cases.drafter import DrafterSpec
from ...cases.prompts import read_prompts
from ...cases.texts import Text, texts_of_prompts
from ...common.errors import SpecdecError
from ...decoding.environment import environment
from ...decoding.loading import LoadedModel
from ...decoding.replay import DrafterPlan, check_drafter, text_scores
from ...decoding.sampling import encode_prompts, sample_new_tokens
from ...records.record import SCHEMA
from ...records.text_set import TextSet
from ..fingerprints import template_of
from ..kept_texts import KeptTexts
from ..models import ModelPool
from ..protocol import Engine, Measurement, check_rounds

_ScoresKey = tuple[DrafterSpec, int | None]
"""Drafter, and the depth where each depth needs scores of its own."""


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
        target = self.models.model(case.target)
        group = self._group(case.texts)
        scores = group.scores[_scores_key(case)]
        if isinstance(scores, SpecdecError):
            raise scores
        heads = scores if case.draft_model is None else scores.first_heads(1 + case.depth)
        if case.judged is not None:
            heads = judged_scores(heads, group.texts, case.judged, own_heads=case.uses_own_heads)
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
            notes=group.notes,
            references=functools.partial(self._references, case, heads, group.texts),
        )

    def _references(self, case: Case, scores: Scores, texts: Sequence[Text]) -> References:
        vocabulary = self.models.model(case.target).model.get_input_embeddings().num_embeddings
        return reference_counts(
            scores, texts, vocabulary=vocabulary, k=case.k, rule=case.rule, judged=case.judged
        )

    def emitted(self, case: Case) -> Sequence[Text]:
        return self._group(case.texts).texts

    def _measure_group(self, key: TextKey) -> _TextGroup:
        target = self.models.model(key.target)
        texts, stored = self._texts(key, target)
        cases = [case for case in self._plan if case.texts == key]
        scores: dict[_ScoresKey, Scores | SpecdecError] = {}
        plans: dict[_ScoresKey, DrafterPlan] = {}
        for name in dict.fromkeys(map(_scores_key, cases)):
            try:
                plans[name] = self._drafter_plan(
                    [case for case in cases if _scores_key(case) == name]
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
        return _TextGroup(texts, stored, scores, notes)

    def _drafter_plan(self, cases: list[Case]) -> DrafterPlan:
        """One drafter's plan for its cases; loads what it needs, so that a bad drafter fails
        alone.
        """
        depth, steps = max(case.depth for case in cases), max(case.verified for case in cases)
        target, model = self.models.model(cases[0].target), self.models.drafting(cases[0])
        check_drafter(target, model, depth)
        self.models.load_drafter(max(cases, key=lambda case: case.depth))
        return DrafterPlan(model, depth, steps)

    def _texts(self, key: TextKey, target: LoadedModel) -> tuple[tuple[Text, ...], TextSet]:
        """The stored texts where they fit the target, then those kept by an earlier run; the
        missing ones are sampled.
        """
        prompts = read_prompts(key.prompts, key.prompt_limit)
        target.checkpoint.hash_now(self.models.report)
        ids = encode_prompts(target.tokenizer, prompts)
        wanted = TextSet(
            schema=SCHEMA,
            target=target.checkpoint.model_fingerprint,
            tokenizer=target.checkpoint.tokenizer_fingerprint,
            template=template_of(target, prompts),
            new_tokens=key.new_tokens,
            temperature=key.temperature,
            seed=key.seed,
            texts={},
            top_k=key.top_k,
            top_p=key.top_p,
        )
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
            )
            new_texts = {prompts[row].key: new for row, new in zip(missing, sampled, strict=True)}
            known |= new_texts
            self._kept.write(key, wanted, kept | new_texts)
        texts = texts_of_prompts(prompts, ids, [known[prompt.key] for prompt in prompts])
        used = {prompt.key: known[prompt.key] for prompt in prompts}
        return texts, msgspec.structs.replace(wanted, texts=used)


@dataclasses.dataclass(frozen=True)
class _TextGroup:
    """All that the cases of one text key share."""

    texts: tuple[Text, ...]
    stored: TextSet
    scores: dict[_ScoresKey, Scores | SpecdecError]
    notes: tuple[str, ...]

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        return {text.key: text.fingerprint for text in self.texts}

    @functools.cached_property
    def looping(self) -> int:
        return sum(text.loops for text in self.texts)


def _foreign(scores: Scores) -> SpecdecError | None:
    """Why the texts that were scored are not the target's; None where they may be."""
    try:
        if scores.origin is not None:
            scores.origin.check()
    except SpecdecError as error:
        return error
    return None


def _scores_key(case: Case) -> _ScoresKey:
    return (case.drafter, case.depth if case.draft_model is None else None)
