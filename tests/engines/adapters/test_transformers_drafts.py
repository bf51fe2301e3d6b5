"""Real defects, found by the oracle: transformers' drafters when it samples. Each is mended here,
and the oracle agrees.

Both cost acceptance and no losslessness, so that the texts are the target's all the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import transformers
from helpers.real_engine import case
from helpers.tiers import exhaustive
from transformers.generation.candidate_generator import (
    AssistedCandidateGenerator,
    PromptLookupCandidateGenerator,
)
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pytest_specdec.cases.case import Case
from pytest_specdec.cases.drafter import DrafterSpec, PromptLookupSpec
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.model_checks import conformance, oracle
from pytest_specdec.engines.models import ModelPool

FIRST, LAST = (5, 14), (5, 24)
"""Releases that were tried, and have both."""

pytestmark = pytest.mark.skipif(
    not FIRST <= tuple(map(int, transformers.__version__.split(".")[:2])) <= LAST,
    reason=f"the defects are those of transformers {FIRST} to {LAST}; try suites/engines/ on this "
    "one and move LAST",
)


def sampled(
    temperature: float, top_k: int = 0, top_p: float = 1.0, drafter: DrafterSpec | None = None
) -> Case:
    default = case("transformers", temperature=temperature, prompts=20 if drafter is None else 8)
    texts = dataclasses.replace(default.texts, top_k=top_k, top_p=top_p)
    return dataclasses.replace(default, texts=texts, drafter=drafter or default.drafter)


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A draft model that filters its logits by its own configuration, and not by the target's
    processors on top.
    """
    make = AssistedCandidateGenerator.__init__

    def init(self: AssistedCandidateGenerator, *given: object, **named: object) -> None:
        make(self, *given, **named)
        warpers = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)
        self.logits_processor = [
            processor for processor in self.logits_processor if not isinstance(processor, warpers)
        ]

    monkeypatch.setattr(AssistedCandidateGenerator, "__init__", init)
    return


@pytest.fixture
def unfiltered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Prompt lookup that drafts whatever it copies."""
    make = PromptLookupCandidateGenerator.__init__

    def init(self: PromptLookupCandidateGenerator, *given: object, **named: object) -> None:
        make(self, *given, **named)
        self.logits_processor = None

    monkeypatch.setattr(PromptLookupCandidateGenerator, "__init__", init)
    return


HOT = sampled(1.6, top_k=20)
"""Drafts drawn at temperature 1.6 of 1.6: `generate` makes the draft's processors again, and adds
the target's.
"""
HOT_ON_FEW = dataclasses.replace(HOT, texts=dataclasses.replace(HOT.texts, prompt_limit=8))
LOOKUP = sampled(0.8, top_p=0.9, drafter=PromptLookupSpec())
"""Drafts are cut at tokens that top-p removes from made-up logits, all equal: one token in ten of
the vocabulary.
"""


@pytest.mark.parametrize(("sampled_case", "kind"), [exhaustive(HOT, "z"), (LOOKUP, "rounds")])
def test_drafts_that_are_filtered_by_the_wrong_distribution_are_found(
    sampled_case: Case, kind: str
) -> None:
    engine = ExternalEngine("transformers", ModelPool("cpu"))
    agreement = oracle(engine, sampled_case, 0.001)
    assert not agreement.agrees
    assert agreement.exact == (kind == "rounds")
    assert conformance(engine, sampled_case, 0.001).conforms


@pytest.mark.usefixtures("once", "unfiltered")
@pytest.mark.parametrize("sampled_case", [HOT_ON_FEW, exhaustive(HOT), LOOKUP])
def test_without_the_second_filter_the_counts_are_the_models(sampled_case: Case) -> None:
    agreement = oracle(ExternalEngine("transformers", ModelPool("cpu")), sampled_case, 0.001)
    assert agreement.agrees, agreement.message
