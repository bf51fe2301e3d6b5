"""Replay as an engine: one pass of each model over given texts."""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ...acceptance.contexts import ContextCounts
from ...acceptance.first_rounds import Samples
from ...acceptance.renewal import expected_counts, with_requests
from ...acceptance.rounds import Round
from ...acceptance.scores import Scores
from ...acceptance.trees.field import TreeField
from ...cases.case import Case, TextKey
from ...cases.prompts import Prompt
from ...cases.texts import Text, texts_of_prompts
from ...common.errors import RequestError, SpecdecError
from ...decoding.likeliest_drafts import LikeliestDrafts
from ...decoding.named_processors import ProcessorSource
from ...decoding.sampling import SAMPLED_TOGETHER
from ...decoding.scoring import assembled
from ...decoding.stored_states import StoredStates
from ...lossless.texts.conformance import Conformance
from ...records.same_contexts import SameContexts
from ...records.text_set import TextSet
from ..executor import Executor, LocalExecutor, SharedOutError, Work
from ..kept_texts import KeptTexts, wanted_texts
from ..models import ModelPool
from ..protocol import Engine, Measurement, check_rounds
from .conformance_work import ConformancePreparation, judged
from .replay_work import (
    Preparation,
    Prepared,
    Scoring,
    TextSampling,
    Tokens,
)
from .score_keys import ScoresKey, block_notes, scores_key
from .text_groups import (
    BegunGroup,
    ContextGroup,
    TextGroup,
    foreign,
    heads_of,
    logprobs_of,
    references_of,
    source_problem_of,
    texts_of_stored,
    usable,
)
from .tree_work import TreeScoring


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
        executor: Executor | None = None,
    ) -> None:
        """`executor` says where the work is done; by default here."""
        self._plan, self._models, self._stored_texts = tuple(plan), models, stored_texts
        self._kept = KeptTexts(kept, f"{models.device} {models.dtype}")
        self._executor = LocalExecutor(models) if executor is None else executor

    @property
    def models(self) -> ModelPool:
        return self._models

    @functools.cached_property
    def _group(self) -> Callable[[TextKey], TextGroup]:
        return functools.cache(self._measure_group)

    def measure(self, case: Case) -> Measurement:
        group = self._group(case.texts)
        scores = group.scores[scores_key(case)]
        if isinstance(scores, SpecdecError):
            raise scores
        heads = heads_of(case, scores, group.begun.texts)
        field = (
            heads.field(case.rule)
            if case.tree is None
            else self._tree_field(group.begun.tree_work(case))
        )
        counts = with_requests(expected_counts(field, case.k), field)
        check_rounds(counts, case)
        return Measurement(
            counts=counts,
            fingerprints=group.begun.fingerprints_of(case),
            environment=group.begun.environment,
            tokenizer=group.stored.tokenizer,
            template=group.stored.template,
            text_fingerprints=group.begun.fingerprints,
            texts=group.stored,
            looping=group.begun.looping,
            samples=Samples.of(field, case.k),
            **({} if case.tree is not None else self._by_head(case, heads, group)),
            notes=(*group.notes, *block_notes(case)),
            references=functools.partial(references_of, case, heads, group.begun),
        )

    def _tree_field(self, work: TreeScoring) -> TreeField:
        return work.field(self._executor.results(work))

    def _by_head(self, case: Case, heads: Scores, group: TextGroup) -> dict[str, Any]:
        """What a measurement of chains holds of single heads and contexts."""
        scores = group.scores[scores_key(case)]
        assert isinstance(scores, Scores)
        return {
            "field": functools.partial(heads.field, case.rule),
            "scores": functools.partial(heads_of, case, scores, group.begun.texts),
            "smoothed": expected_counts(heads.smoothed_field(), case.k)
            if case.temperature == 0
            else None,
            "likeliest": functools.partial(self._likeliest, case, group.begun.texts),
            "contexts": functools.partial(self._own_contexts, case),
            "stored_contexts": functools.partial(self._stored_contexts, case),
        }

    def _likeliest(
        self, case: Case, texts: Sequence[Text], prompts: Sequence[str]
    ) -> Mapping[str, LikeliestDrafts]:
        """What the case's drafter finds likeliest; nothing where this process holds no models."""
        if self._states is not None or not isinstance(self._executor, LocalExecutor):
            return {}
        chosen = [text for text in texts if text.key in prompts]
        found = self.models.likeliest_drafts(case, chosen) if chosen else None
        return {} if found is None else dict(zip((text.key for text in chosen), found, strict=True))

    @functools.cached_property
    def _context_group(self) -> Callable[[TextKey, bool], ContextGroup | None]:
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

    def _measure_contexts(self, key: TextKey, stored: bool) -> ContextGroup | None:
        """Overlaps of all drafters on the texts of a key, or on the `stored` ones of another
        target; None where those are missing or hold no log-probabilities.
        """
        begun = self._begun(key)
        texts, target, source = begun.texts, begun.prepared.target, None
        if stored:
            if (others := self._others(key, begun)) is None:
                return None
            target, (texts, source) = others.target, texts_of_stored(others, key, begun)
        scores = self._scores(begun.work(texts, overlaps=True, source=source), source)
        return ContextGroup(
            target=target,
            texts=texts,
            scores=dict(zip(begun.plans, scores, strict=True)),
            problem=source_problem_of(texts, scores[0]) if scores else None,
        )

    def _others(self, key: TextKey, begun: BegunGroup) -> TextSet | None:
        """The stored texts of a key where another target emitted them and they can serve as
        contexts.
        """
        others = self._stored_texts(key)
        return None if others is None or not usable(others, begun.stored) else others

    def _scores(
        self, work: Scoring, source: Sequence[Sequence[float]] | None = None
    ) -> list[Scores]:
        """The scores of each plan, put together from batches; those of a replay judge the texts'
        origin.
        """
        return assembled(
            work.texts,
            self._executor.results(work),
            drafters=len(work.plans),
            judge_origin=not work.overlaps,
            source=source,
        )

    @property
    def _states(self) -> StoredStates | None:
        """What stands in for the target's own passes."""
        return None

    def emitted(self, case: Case) -> Sequence[Text]:
        return self._begun(case.texts).texts

    def check_target(self, case: Case) -> None:
        """Nothing: the work that judges texts loads it where it is done."""

    def conformance(
        self,
        case: Case,
        alpha: float,
        rounds: Sequence[Sequence[Round]] | None,
        processors: ProcessorSource,
    ) -> Conformance:
        """Replay counts no rounds, so `rounds` is None and `processors` are the case's."""
        return self._judged(ConformancePreparation.of(case, self.emitted(case)), alpha)

    @functools.cached_property
    def _judged(self) -> Callable[[ConformancePreparation, float], Conformance]:
        return functools.cache(functools.partial(judged, self._executor))

    def share(self, case: Case, *, contexts: bool, conformance: bool) -> None:
        """Do this process's share of what a case needs, with its own texts as contexts and their
        conformance where they are asked for. Raises SpecdecError.
        """
        with contextlib.suppress(SharedOutError):
            begun = self._begun(case.texts)
            works: list[Work[Any]] = [begun.work()]
            if case.tree is not None and scores_key(case) not in begun.problems:
                works.append(begun.tree_work(case))
            if contexts:
                works.append(begun.work(overlaps=True))
            if (others := self._others(case.texts, begun)) is not None:
                texts, source = texts_of_stored(others, case.texts, begun)
                works.append(begun.work(texts, overlaps=True, source=source))
            for work in works:
                with contextlib.suppress(SharedOutError):
                    collections.deque(self._executor.results(work), maxlen=0)
            if conformance:
                self._judged(ConformancePreparation.of(case, begun.texts), 0.5)

    @functools.cached_property
    def _begun(self) -> Callable[[TextKey], BegunGroup]:
        return functools.cache(self._begin_group)

    def _begin_group(self, key: TextKey) -> BegunGroup:
        cases = tuple(case for case in self._plan if case.texts == key)
        ((_, prepared),) = self._executor.results(Preparation(key=key, cases=cases))
        texts, stored = self._texts(key, prepared)
        return BegunGroup(
            key=key,
            cases=cases,
            prepared=prepared,
            texts=texts,
            stored=stored,
            states=self._states,
        )

    def _measure_group(self, key: TextKey) -> TextGroup:
        begun = self._begun(key)
        measured = self._scores(begun.work())
        scores: dict[ScoresKey, Scores | SpecdecError] = {
            name: RequestError(problem) for name, problem in begun.problems.items()
        }
        notes = self._kept.notes(key)
        for name, replayed in zip(begun.plans, measured, strict=True):
            scores[name] = replayed if (problem := foreign(replayed)) is None else problem
        if (
            measured
            and (origin := measured[0].origin) is not None
            and (note := origin.note) is not None
        ):
            notes = (*notes, f"texts of {key.suite} at {key.sampling.suffix}: {note}")
        logprobs = logprobs_of(begun.texts, measured, key)
        stored = msgspec.structs.replace(begun.stored, logprobs=logprobs)
        return TextGroup(begun=begun, stored=stored, scores=scores, notes=notes)

    def _texts(self, key: TextKey, prepared: Prepared) -> tuple[tuple[Text, ...], TextSet]:
        """The texts of a key, and what is stored of them."""
        prompts = key.read_prompts()
        wanted = wanted_texts(
            key,
            target=prepared.target,
            tokenizer=prepared.tokenizer,
            template=prepared.template,
        )
        known = self._new_tokens(key, prompts, prepared, wanted)
        used = {prompt.key: known[prompt.key] for prompt in prompts}
        texts = texts_of_prompts(prompts, prepared.ids, list(used.values()))
        return texts, msgspec.structs.replace(wanted, texts=used)

    def _new_tokens(
        self, key: TextKey, prompts: Sequence[Prompt], prepared: Prepared, wanted: TextSet
    ) -> dict[str, Tokens]:
        """New tokens by prompt key: stored ones where they fit the target, then those kept by an
        earlier run; the missing ones are sampled.
        """
        known, kept, missing = self._kept.known(key, wanted, prompts, self._stored_texts(key))
        if missing:
            work = TextSampling(
                key=key,
                ids=tuple(prepared.ids[row] for row in missing),
                keys=tuple(prompts[row].key for row in missing),
                together=SAMPLED_TOGETHER,
            )
            sampled = dict(self._executor.results(work))
            texts = [text for unit in sorted(sampled) for text in sampled[unit]]
            new_texts = {prompts[row].key: new for row, new in zip(missing, texts, strict=True)}
            known |= new_texts
            self._kept.write(key, wanted, kept | new_texts)
        return known
