"""The work of replay that needs models, divided into units: reading the prompts, sampling texts,
scoring them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ...cases.case import Case, TextKey
from ...cases.texts import Text
from ...checkpoints.text_ends import target_fingerprint
from ...common.errors import SpecdecError
from ...decoding.environment import environment
from ...decoding.named_processors import ready_processors
from ...decoding.processors import Processors
from ...decoding.replay import check_drafter
from ...decoding.sampling import encode_prompts, eos_ids, sample_new_tokens
from ...decoding.scoring import BatchScorer, DrafterPlan, ScoredBatch, ScoringPlan
from ...decoding.stored_states import StoredStates
from ...decoding.target_passes import StoredPasses
from ...records.conditions import Environment, Fingerprints
from ..fingerprints import template_of
from ..models import ModelPool
from .score_keys import scores_key

Tokens = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that a session needs to know of the models of a text key; the models themselves may be
    elsewhere.
    """

    ids: tuple[Tokens, ...]
    """Token ids of each prompt."""
    target: str
    """Fingerprints of the target and its tokenizer, and of its chat template where one is used."""
    tokenizer: str
    template: str | None
    device: str
    """The type of the device."""
    vocabulary: int
    """Tokens that the target can read."""
    ends: Tokens
    """Token ids that end a text."""
    environment: Environment
    fingerprints: tuple[Fingerprints | None, ...]
    """Of the models of each case."""
    problems: tuple[str | None, ...]
    """Why the drafter of each case cannot be measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """Reads the prompts and loads the models of a key: one unit, which every process needs."""

    key: TextKey
    cases: tuple[Case, ...]

    everywhere = True
    result = Prepared
    sizes = (0,)

    @property
    def name(self) -> str:
        return work_name("prepare", self.key, [case.id for case in self.cases])

    @property
    def label(self) -> str:
        return f"{self.key.suite}: models"

    def opened(self, models: ModelPool, units: Sequence[int]) -> Callable[[int], Prepared]:
        return lambda unit: self._prepared(models)

    def _prepared(self, models: ModelPool) -> Prepared:
        key, target = self.key, models.target(self.key.target)
        prompts = key.read_prompts()
        target.checkpoint.hash_now(models.report)
        ids = encode_prompts(target.tokenizer, prompts)
        problems = {
            name: _problem(models, [case for case in self.cases if scores_key(case) == name])
            for name in dict.fromkeys(map(scores_key, self.cases))
        }
        return Prepared(
            ids=tuple(map(tuple, ids)),
            target=target_fingerprint(target.checkpoint),
            tokenizer=target.checkpoint.tokenizer_fingerprint,
            template=template_of(target, prompts),
            device=target.device.type,
            vocabulary=target.model.get_input_embeddings().num_embeddings,
            ends=tuple(eos_ids(target)),
            environment=environment(target.device, models.dtype),
            fingerprints=tuple(
                None if problems[scores_key(case)] else models.fingerprints(case)
                for case in self.cases
            ),
            problems=tuple(problems[scores_key(case)] for case in self.cases),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSampling:
    """Samples texts after prompts, as many together as one process would."""

    key: TextKey
    ids: tuple[Tokens, ...]
    keys: tuple[str, ...]
    """The prompts' own."""
    together: int
    """Texts of a unit."""

    everywhere = False
    result = tuple[Tokens, ...]

    @property
    def name(self) -> str:
        return work_name("sample", self.key, self.keys)

    @property
    def label(self) -> str:
        return f"{self.key.suite}: sampling texts"

    @property
    def sizes(self) -> Sequence[int]:
        return [len(self.keys[begin : begin + self.together]) for begin in self._begins]

    @property
    def _begins(self) -> range:
        return range(0, len(self.keys), self.together)

    def opened(
        self, models: ModelPool, units: Sequence[int]
    ) -> Callable[[int], tuple[Tokens, ...]]:
        return functools.partial(self._sampled, models, _processors(models, self.key))

    def _sampled(
        self, models: ModelPool, processors: Processors | None, unit: int
    ) -> tuple[Tokens, ...]:
        part = slice(self._begins[unit], self._begins[unit] + self.together)
        sampled = sample_new_tokens(
            models.target(self.key.target),
            self.ids[part],
            new_tokens=self.key.new_tokens,
            sampling=self.key.sampling,
            seed=self.key.seed,
            keys=self.keys[part],
            processors=processors,
        )
        return tuple(sampled)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CasePlan:
    """A drafter of cases and how far its scores must reach."""

    case: Case
    """The one of greatest depth."""
    steps: int
    """Largest k."""
    rules: tuple[str, ...]

    @classmethod
    def of(cls, cases: Sequence[Case]) -> CasePlan:
        """Of the cases of one drafter."""
        return cls(
            case=max(cases, key=lambda case: case.depth),
            steps=max(case.steps for case in cases),
            rules=tuple(dict.fromkeys(case.chain_rule for case in cases)),
        )

    def drafter_plan(self, models: ModelPool) -> DrafterPlan:
        """With the drafter, loaded."""
        return DrafterPlan(
            models.drafting(self.case),
            self.case.depth,
            self.steps,
            self.rules,
            self.case.drafting,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scoring:
    """Scores texts by target and drafters, batch by batch."""

    key: TextKey
    plans: tuple[CasePlan, ...]
    texts: tuple[Text, ...]
    plan: ScoringPlan
    overlaps: bool = False
    source: bool = False
    """Whether the texts are another target's, with known log-probabilities."""
    states: StoredStates | None = None
    """Stands in for the target's own passes."""

    everywhere = False
    result = ScoredBatch

    @property
    def name(self) -> str:
        drafters = [f"{plan.case.id} {plan.steps} {plan.rules}" for plan in self.plans]
        texts = [f"{text.key} {text.fingerprint}" for text in self.texts]
        if self.states is not None:
            texts.append(f"states {self.states.fingerprint([text.ids for text in self.texts])}")
        kind = f"score{'-contexts' * self.overlaps}{'-source' * self.source}"
        return work_name(kind, self.key, [*drafters, *texts, str(self.plan)])

    @property
    def label(self) -> str:
        return f"{self.key.suite}: {'contexts' if self.overlaps else 'replay'}"

    @property
    def sizes(self) -> Sequence[int]:
        return [*map(len, self.plan.batches), *([0] * len(self.plan.greedy))]

    def opened(self, models: ModelPool, units: Sequence[int]) -> Callable[[int], ScoredBatch]:
        target = models.target(self.key.target)
        scorer = BatchScorer(
            target,
            [plan.drafter_plan(models) for plan in self.plans],
            self.texts,
            self.key.sampling,
            overlaps=self.overlaps,
            own=not self.source,
            passes=None if self.states is None else StoredPasses(target, self.states),
            processors=_processors(models, self.key),
        )
        sampled = len(self.plan.batches)
        chosen = [self.plan.units[unit] for unit in units if unit < sampled]
        scorer.read_ahead(chosen)

        def scored(unit: int) -> ScoredBatch:
            rows = self.plan.units[unit]
            return scorer.score(rows) if unit < sampled else scorer.greedy_origin(rows)

        return scored


def _problem(models: ModelPool, cases: Sequence[Case]) -> str | None:
    """Why a drafter cannot be measured, so that a bad one fails alone; loads what it needs."""
    deepest = max(cases, key=lambda case: case.depth)
    try:
        target = models.target(deepest.target)
        check_drafter(target, models.drafting(deepest), deepest.depth)
        models.load_drafter(deepest)
    except SpecdecError as error:
        return str(error)
    return None


def _processors(models: ModelPool, key: TextKey) -> Processors | None:
    return ready_processors(key.processors, models.target(key.target), key.temperature)


def work_name(kind: str, key: TextKey, contents: Iterable[str]) -> str:
    """A name that is equal wherever the same work is to be done."""
    words = [Path(key.target).name, str(key.prompt_limit), *contents]
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
    return f"{kind} {key.suite}/{key.name} {digest}"
