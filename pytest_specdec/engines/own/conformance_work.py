"""Judging texts by their target, divided into units."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from ...cases.case import Case, TextKey
from ...cases.texts import Text
from ...lossless.texts.conformance import Conformance, concluded
from ...lossless.texts.preparation import PreparedJudge, prepare
from ...lossless.texts.text_judge import JudgedTexts, JudgedTokens
from ..executor import Executor
from ..models import ModelPool
from .replay_work import work_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConformancePreparation:
    """Looks at texts before their target passes over them: one unit, which every process needs."""

    key: TextKey
    drafter: str | None
    """The draft model, on whose wrong verification bets are laid, too."""
    texts: tuple[Text, ...]

    everywhere = True
    result = JudgedTexts
    sizes = (0,)

    @classmethod
    def of(cls, case: Case, texts: Sequence[Text]) -> ConformancePreparation:
        """For the texts of a case; the same for cases that differ in k alone."""
        drafter = None if case.depth else case.draft_model
        return cls(key=case.texts, drafter=drafter, texts=tuple(texts))

    @property
    def name(self) -> str:
        drafter = "" if self.drafter is None else Path(self.drafter).name
        texts = [f"{text.key} {text.fingerprint}" for text in self.texts]
        return work_name("judge-texts", self.key, [drafter, *texts])

    @property
    def label(self) -> str:
        return f"{self.key.suite}: models"

    def prepared(self, models: ModelPool) -> PreparedJudge:
        """With the models, loaded."""
        return prepare(
            models.model(self.key.target),
            self.texts,
            self.key.sampling,
            drafter=None if self.drafter is None else models.model(self.drafter),
            processors=self.key.processors,
        )

    def opened(self, models: ModelPool, units: Sequence[int]) -> Callable[[int], JudgedTexts]:
        facts = self.prepared(models).facts
        return lambda unit: facts


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextJudging:
    """Judges texts batch by batch."""

    preparation: ConformancePreparation
    batches: tuple[tuple[int, ...], ...]

    everywhere = False
    result = tuple[JudgedTokens, ...]

    @property
    def name(self) -> str:
        return f"{self.preparation.name} in {len(self.batches)}"

    @property
    def label(self) -> str:
        return f"{self.preparation.key.suite}: conformance"

    @property
    def sizes(self) -> Sequence[int]:
        return [*map(len, self.batches)]

    def opened(
        self, models: ModelPool, units: Sequence[int]
    ) -> Callable[[int], tuple[JudgedTokens, ...]]:
        judge = self.preparation.prepared(models).judge
        judge.read_ahead([self.batches[unit] for unit in units])
        return lambda unit: judge.judge(self.batches[unit])


def judged(executor: Executor, preparation: ConformancePreparation, alpha: float) -> Conformance:
    """Whether texts follow their target; those that do fail with probability alpha."""
    ((_, facts),) = executor.results(preparation)
    found = dict(executor.results(TextJudging(preparation=preparation, batches=facts.batches)))
    parts = [found[unit] for unit in sorted(found)]
    return concluded(preparation.key.sampling, alpha, preparation.texts, facts, parts)
