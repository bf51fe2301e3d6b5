"""Replay of a model in memory: equal to replay of the same weights on disk, and without traces."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from helpers.support import llama

from pytest_specdec import SpecdecCallback, load_model, replay
from pytest_specdec.cases.texts import Text, texts_from_ids
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding import target_passes as module
from pytest_specdec.decoding.live_model import evaluating
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.training_curve import CurveSettings, TrainingCurve
from pytest_specdec.gate.paired import Pair

PROMPTS = ["apple", "banana", "cherry", "elder", "fig", "grape"]
SETTINGS = {
    "k": 4,
    "depth": 0,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "new_tokens": 32,
    "seed": 0,
}


@pytest.fixture(scope="module")
def target(tiny_target: Path) -> LoadedModel:
    return load_model(str(tiny_target), "cpu")


@pytest.fixture
def draft(tiny_draft: Path) -> LoadedModel:
    return load_model(str(tiny_draft), "cpu")


def curve(target: LoadedModel | Path, **changes) -> TrainingCurve:
    return TrainingCurve(target, PROMPTS, None, CurveSettings(**{**SETTINGS, **changes}))


def texts_of(measured: TrainingCurve) -> tuple[Text, ...]:
    assert measured._texts is not None
    return measured._texts


@pytest.mark.parametrize(("temperature", "depth"), [(1.0, 0), (0.0, 0), (1.0, 2)])
def test_a_model_in_memory_measures_as_its_checkpoint_does(
    target: LoadedModel, draft: LoadedModel, temperature: float, depth: int
) -> None:
    measured = curve(target, temperature=temperature, depth=depth)
    values = measured.measure(draft.model, draft.heads if depth else None)
    expected = replay(target, draft, texts_of(measured), k=4, depth=depth, temperature=temperature)
    assert values["acceptance_length"] == pytest.approx(expected.acceptance_length)
    low, high = values["acceptance_length_low"], values["acceptance_length_high"]
    assert (high + low) / 2 == pytest.approx(expected.acceptance_length)
    assert high - low == pytest.approx(2 * 2.5706 * expected.standard_error, rel=1e-4)
    assert ("smoothed_acceptance_length" in values) == (temperature == 0)
    assert "change_since_best" not in values


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_the_change_is_paired_with_the_best_so_far(
    target: LoadedModel, draft: LoadedModel, temperature: float
) -> None:
    measured = curve(target, temperature=temperature)
    worse = copy.deepcopy(draft.model)
    for weights in worse.parameters():
        weights += 0.05 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1))
    name = "smoothed_acceptance_length" if temperature == 0 else "acceptance_length"
    first, second, third = (measured.measure(model) for model in (draft.model, worse, worse))
    change = second[name] - first[name]
    assert change < 0
    for later in (second, third):  # the best is still the first
        assert later["change_since_best"] == pytest.approx(change)
        assert later["change_since_best_low"] < change < later["change_since_best_high"]
    if temperature == 1:
        texts = texts_of(measured)
        pair = Pair.of(
            replay(target, draft, texts, k=4),
            replay(target, LoadedModel(draft.checkpoint, worse), texts, k=4),
        )
        low, high = pair.interval()
        assert (second["change_since_best_low"], second["change_since_best_high"]) == pytest.approx(
            (-high, -low), rel=1e-4
        )


def test_training_leaves_no_trace_of_a_measurement(target: LoadedModel, tiny_draft: Path) -> None:
    """Modes, gradients and random numbers are as before; dropout does not touch the measurement."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_draft, attention_dropout=0.5)
    model.train()
    frozen = model.get_submodule("model.layers.0").eval()
    model(torch.tensor([[0, 2, 3, 4]]), labels=torch.tensor([[0, 2, 3, 4]])).loss.backward()
    gradients = [weights.grad.clone() for weights in model.parameters() if weights.grad is not None]
    random = torch.random.get_rng_state()
    measured = curve(target)
    assert measured.measure(model) == {
        name: pytest.approx(value)
        for name, value in measured.measure(model).items()
        if not name.startswith("change")
    }
    assert torch.equal(random, torch.random.get_rng_state())
    assert model.training
    assert not frozen.training
    assert all(
        torch.equal(weights.grad, before)
        for weights, before in zip(
            (weights for weights in model.parameters() if weights.grad is not None),
            gradients,
            strict=True,
        )
    )
    assert all(weights.requires_grad for weights in model.parameters())
    model(torch.tensor([[0, 2, 3, 4]]), labels=torch.tensor([[0, 2, 3, 4]])).loss.backward()


def test_modes_are_restored_after_an_error() -> None:
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    module[1].eval()
    during = []

    def fail() -> None:
        with evaluating(module):
            during.extend(part.training for part in module.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert during == [False, False, False]
    assert [part.training for part in module.modules()] == [True, True, False]


def test_a_target_given_by_its_path_has_the_drafters_number_format(
    tiny_target: Path, draft: LoadedModel
) -> None:
    measured = curve(tiny_target)
    measured.measure(draft.model.bfloat16())
    assert isinstance(measured._target, LoadedModel)
    assert measured._target.model.dtype == torch.bfloat16


def test_given_texts_are_replayed_as_they_are(target: LoadedModel, draft: LoadedModel) -> None:
    texts = texts_from_ids([[0, *range(2, 30)], [0, *range(5, 31)]], [3, 4])
    measured = TrainingCurve(target, None, texts, CurveSettings(**SETTINGS))
    expected = replay(target, draft, texts, k=4).acceptance_length
    assert measured.measure(draft.model)["acceptance_length"] == pytest.approx(expected)


def test_one_text_has_no_interval(target: LoadedModel, draft: LoadedModel) -> None:
    texts = texts_from_ids([[0, *range(2, 30)]], [3])
    measured = TrainingCurve(target, None, texts, CurveSettings(**SETTINGS))
    assert list(measured.measure(draft.model)) == ["acceptance_length"]
    assert list(measured.measure(draft.model)) == ["acceptance_length", "change_since_best"]


def test_another_vocabulary_is_refused(target: LoadedModel, tmp_path: Path) -> None:
    other = load_model(str(llama(tmp_path / "other", seed=0, mtp_layers=0, vocabulary=40)), "cpu")
    with pytest.raises(RequestError, match="a vocabulary of 40 tokens"):
        curve(target).measure(other.model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs prompts or texts"),
        ({"prompts": ["a"], "texts": []}, "needs prompts or texts"),
        ({"prompts": ["a"], "every": 0}, "every=0 is below 1; pass a whole number"),
        ({"prompts": ["a"], "k": 0}, "k=0 is below 1; pass a whole number"),
        ({"prompts": ["a"], "depth": 1}, "depth=1 drafts with MTP layers; pass heads="),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(arguments: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        SpecdecCallback("org/target", **arguments)


def test_the_target_passes_over_its_texts_once(
    target: LoadedModel, draft: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[LoadedModel] = []
    forward = module.forward

    def counting(model: LoadedModel, *arguments, **options):
        passes.append(model)
        return forward(model, *arguments, **options)

    monkeypatch.setattr(module, "forward", counting)
    measured = curve(target)
    first, second = (measured.measure(draft.model) for _ in range(2))
    assert passes == [target]
    assert second == first | {
        name: pytest.approx(0)
        for name in ("change_since_best", "change_since_best_low", "change_since_best_high")
    }
