"""What the default cases of `suites/engines` find: each defect of a decoder in the case that is
there for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.engine_cases import Defect, decoder_defects, default_cases, judged, level
from helpers.support import EMBEDDED, ROOT
from helpers.tiers import crossed, exhaustive, some
from museum.exhibits import EXHIBITS

from pytest_specdec.cases.case import Case
from pytest_specdec.decoding import layer_states
from pytest_specdec.decoding.drafters import eagle3_head
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.lossless.texts.causes import FROM_P, RAW_BONUS, RAW_Q, SMALL_Q, SOFTMAX_Q

CASES, EAGLE3 = default_cases(), default_cases(heads=True)
LEVEL = level(CASES)
FOUND_IN = {
    "q before temperature and filters": ("TestTopK", RAW_Q),
    "arg-max drafts, softmax q": ("TestSampling", SOFTMAX_Q),
    "drafter ignores the settings": ("TestTopP", None),
    "bonus token unfiltered": ("TestTopP", RAW_BONUS),
    "recovered token from p": ("TestTopP", FROM_P),
    "q a tenth too small": ("TestTopK", SMALL_Q),
}
"""The case, and what conformance calls the defect; None where the texts are right and only the
oracle sees it.
"""
MUSEUM_IN = {
    "approximated keys": "TestReusedHeads",
    "missing key": "TestGreedy",
    "doubled sequence": "TestGreedy",
    "short buffer": "TestManyDrafts",
    "evicted keys": "TestManyDrafts",
    "full cache": "TestManyDrafts",
    "exact match": "TestSampling",
    "greedy drafts": "TestSampling",
}
"""All others are found by TestOwnHeads."""
FOR_EACH_CASE = {
    "missing key",
    "short buffer",
    "exact match",
    "approximated keys",
    "state of the layer below",
}
"""A defect for each case that finds the museum's."""


def settings(case: Case) -> tuple[str, int, int, float, int, float]:
    name = case.draft_model and "draft"
    return (
        name or str(case.drafter),
        case.k,
        case.depth,
        case.temperature,
        case.texts.top_k,
        case.texts.top_p,
    )


def test_the_suite_has_the_settings_in_which_defects_show() -> None:
    assert {settings(case) for case in CASES.values()} == {
        ("draft", 3, 0, 0, 0, 1.0),
        ("draft", 12, 0, 0, 0, 1.0),
        ("draft", 3, 0, 1.0, 0, 1.0),
        ("draft", 3, 0, 1.6, 20, 1.0),
        ("draft", 3, 0, 0.8, 0, 0.9),
        ("mtp", 3, 3, 0, 0, 1.0),
        ("mtp", 8, 1, 0, 0, 1.0),
        ("mtp", 3, 3, 1.0, 0, 1.0),
        ("prompt-lookup", 3, 0, 0, 0, 1.0),
    }


@pytest.mark.parametrize(
    "name",
    [
        exhaustive(name) if cause in (SMALL_Q, RAW_Q) else name
        for name, (_, cause) in FOUND_IN.items()
    ],
)
def test_a_defect_of_sampling_is_found_and_named(name: str) -> None:
    label, cause = FOUND_IN[name]
    verdict = judged(CASES[label], LEVEL, decoder_defects()[name])
    if cause is None:
        assert verdict.finders == ["oracle"]
        assert (
            "if the texts conform, check that the engine's drafter holds the weights"
            in verdict.oracle.message
        )
    else:
        assert "conformance" in verdict.finders
        assert verdict.conformance.causes == (cause,)
        assert f"most like {cause.name}; {cause.cure}" in verdict.conformance.message


@pytest.mark.parametrize(
    "name",
    [
        exhibit.name if exhibit.name in FOR_EACH_CASE else exhaustive(exhibit.name)
        for exhibit in EXHIBITS
        if exhibit.defect is not None
    ],
)
def test_a_defect_of_the_museum_is_found(name: str) -> None:
    verdict = judged(CASES[MUSEUM_IN.get(name, "TestOwnHeads")], LEVEL, decoder_defects()[name])
    assert "oracle" in verdict.finders
    assert verdict.conformance.conforms  # each leaves the text right


@pytest.mark.parametrize("label", some([*CASES, *EAGLE3], 2))
def test_a_correct_decoder_passes(label: str) -> None:
    verdict = judged((CASES | EAGLE3)[label], LEVEL)
    assert verdict.finders == [], (verdict.oracle.message, verdict.conformance.message)


def states_one_layer_early(patch: pytest.MonkeyPatch) -> None:
    """Ids that count outputs of layers, read as those of hidden states: in vLLM 0.32, SGLang until
    #25454.
    """

    def keep_input(
        states: dict[int, torch.Tensor], number: int, model: LoadedModel
    ) -> Callable[..., None]:
        def hook(module: Any, arguments: Any, output: Any) -> None:
            states[number] = arguments[0]

        return hook

    patch.setattr(layer_states, "_keep_output", keep_input)


def carry_after_the_norm(patch: pytest.MonkeyPatch) -> None:
    """EAGLE-3 handed on as EAGLE-3.1 hands on."""
    patch.setattr(eagle3_head.Eagle3Head, "handed_on", lambda head, state: head.norm(state))


def residual_before_the_norm(patch: pytest.MonkeyPatch) -> None:
    """`norm_before_residual` taken for true where it is false."""
    forward = eagle3_head._Layer.forward

    def normed(layer: Any, *given: Any) -> torch.Tensor:
        with pytest.MonkeyPatch.context() as flag:
            flag.setattr(layer, "_before_residual", True)
            return forward(layer, *given)

    patch.setattr(eagle3_head._Layer, "forward", normed)


@crossed(
    defect=[states_one_layer_early, carry_after_the_norm, residual_before_the_norm],
    label=["eagle3/TestGreedy", "eagle3/TestSampling"],
)
def test_a_defect_of_eagle3_drafting_is_found(label: str, defect: Defect) -> None:
    verdict = judged(EAGLE3[label], LEVEL, defect)
    assert verdict.finders == ["oracle"]
    assert "check that the engine's drafter holds the weights named here" in verdict.oracle.message


def test_texts_of_the_eos_cases_end_at_different_places() -> None:
    for label in ("eos/TestGreedy", "eos/TestSampling"):
        case = CASES[label]
        texts = judged(case, LEVEL).texts
        ended = [
            len(text.ids) - text.prompt_length
            for text in texts
            if len(text.ids) - text.prompt_length < 64
        ]
        assert len(ended) >= 15
        assert len(set(ended)) >= 8


def test_the_eos_target_is_the_target_with_another_end() -> None:
    with_eos, plain = EMBEDDED / "text-target-eos", EMBEDDED / "text-target"
    for file in plain.glob("*.json"):
        if file.name not in ("generation_config.json", "training.json"):
            assert (with_eos / file.name).read_bytes() == file.read_bytes()
    assert (with_eos / "model.safetensors").read_bytes() == (
        plain / "model.safetensors"
    ).read_bytes()
    assert json.loads((with_eos / "generation_config.json").read_text())["eos_token_id"] == 15


def test_what_an_engine_cannot_run_is_skipped_with_its_reason() -> None:
    engine = ExternalEngine("transformers", ModelPool("cpu"))
    case = default_cases("transformers")["TestReusedHeads"]
    assert engine.unsupported(case) == (
        "transformers drafts 8 tokens with 3 of the target's 3 MTP layers, not with 1; use "
        "--specdec-depth=3"
    )


def test_an_engine_without_eagle3_skips_its_cases() -> None:
    engine = ExternalEngine("transformers", ModelPool("cpu"))
    assert engine.unsupported(default_cases("transformers", heads=True)["eagle3/TestGreedy"]) == (
        "transformers drafts with model or mtp or prompt-lookup, not with eagle3; choose another "
        "drafter"
    )


def test_the_page_names_every_defect() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text()
    for name in decoder_defects():
        assert f"| {name} |" in page
    for label in CASES:
        assert f"`{label}`" in page or label in page
