"""NaN, infinite and overflowing numbers are refused where they are met, never averaged away.

`benchmarks/poisoned_numbers.py` puts them into each weight of each kind of drafter.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.support import llama
from poisoned_numbers import FORMS, SAMPLINGS, Workshop, poisoned
from safetensors.torch import load_file, save_file

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.scores import Scores
from pytest_specdec.cases.case import Sampling
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.distributions import check_logits, check_scores, filtered, log_scores
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.replay import replay
from pytest_specdec.decoding.sampling import sample_new_tokens
from pytest_specdec.lossless import conformance

REFUSED = "a model returns NaN or infinite logits; check its weights"
EVERY = {"draft model": 211}
"""One run in so many; of the other kinds one in 101."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("poisoned"))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_a_poisoned_weight_is_refused_or_not_read(workshop: Workshop, name: str) -> None:
    tally = poisoned(workshop, name, EVERY.get(name, 101))
    assert tally.faults == []
    assert tally.outcomes["refused"] > 0


def edited(folder: Path, name: str, value: float, scale: float = 1.0) -> Path:
    """The checkpoint with one element of a weight changed, after all of it is scaled."""
    weights = load_file(folder / "model.safetensors")
    weights[name] *= scale
    weights[name].view(-1)[0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"])
def test_weights_that_are_not_finite_are_refused_when_loaded(
    tmp_path: Path, name: str, value: float
) -> None:
    folder = edited(llama(tmp_path / "target", seed=1), name, value)
    with pytest.raises(
        RequestError, match=f"{name} of .* holds NaN or infinite numbers in float32; save"
    ):
        load_model(str(folder), "cpu")


def test_those_of_mtp_layers_when_they_are_used(tmp_path: Path) -> None:
    folder = llama(tmp_path / "target", seed=1)
    (name,) = [
        name for name in load_file(folder / "model.safetensors") if "layers.3.eh_proj" in name
    ]
    target = load_model(str(edited(folder, name, math.nan)), "cpu")
    with pytest.raises(RequestError, match=r"eh_proj.* holds NaN or infinite numbers in"):
        decode(target, "mtp", [[0, 3]], k=2, depth=2, new_tokens=8)


def test_weights_that_half_precision_cannot_hold_are_refused_in_it(tmp_path: Path) -> None:
    folder = edited(llama(tmp_path / "target", seed=1), "model.norm.weight", 1e5)
    with pytest.raises(RequestError, match=r"infinite numbers in float16; .*dtype=float32"):
        load_model(str(folder), "cpu", "float16")
    for dtype in ("float32", "bfloat16"):
        load_model(str(folder), "cpu", dtype)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_activations_that_overflow_in_half_precision_are_refused(
    tmp_path: Path, sampling: Sampling
) -> None:
    """Each weight fits, what they compute does not: in float32 the same folder is measured."""
    name = "model.layers.0.mlp.down_proj.weight"
    folder = edited(llama(tmp_path / "target", seed=1), name, 6e4, scale=3e4)
    draft = str(llama(tmp_path / "draft", seed=2))
    options = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }
    whole = load_model(str(folder), "cpu")
    texts = decode(whole, draft, [[0, 3, 7]] * 3, k=2, new_tokens=12, **options).texts
    assert replay(whole, draft, texts, k=2, **options).total_rounds > 0
    half = load_model(str(folder), "cpu", "float16")
    with pytest.raises(MeasurementError, match=REFUSED):
        decode(half, draft, [[0, 3, 7]] * 3, k=2, new_tokens=12, **options)
    with pytest.raises(MeasurementError, match=REFUSED):
        replay(draft, half, texts, k=2, **options)
    with pytest.raises(MeasurementError, match=REFUSED):
        sample_new_tokens(half, [[0, 3]], new_tokens=4, sampling=sampling, seed=0)


def test_what_makes_a_distribution() -> None:
    check_logits(torch.tensor([[0.0, -math.inf, 3e38], [-math.inf, -1e38, -math.inf]]))
    for row in ([0.0, math.nan], [0.0, math.inf], [-math.inf, -math.inf], [math.inf, math.nan]):
        with pytest.raises(MeasurementError, match=REFUSED):
            check_logits(torch.tensor([[1.0, 2.0], row]))
    check_scores(torch.tensor([0.0, -math.inf]))
    for value in (math.nan, math.inf):
        with pytest.raises(MeasurementError, match=REFUSED):
            check_scores(torch.tensor([0.0, value]))


def test_a_temperature_that_makes_logits_infinite_is_refused() -> None:
    logits = torch.tensor([[3e38, 2e38, -3e38]])
    assert filtered(logits, Sampling(1.0)).tolist() == logits.tolist()
    with pytest.raises(MeasurementError, match=REFUSED):
        filtered(logits, Sampling(0.5))
    assert filtered(-logits[:, :2], Sampling(0.5)).tolist() == [[-math.inf, -math.inf]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_masked_tokens_have_probability_0_and_bad_ones_none(bad: float) -> None:
    logits = torch.tensor([[0.0, 1.0, -math.inf, 2.0]])
    for sampling in SAMPLINGS:
        scores = [log_scores(logits, torch.tensor([token]), sampling).item() for token in range(4)]
        assert math.fsum(map(math.exp, scores)) == pytest.approx(1, abs=1e-6)
        assert scores[2] == -math.inf
        wrong = logits.index_fill(1, torch.tensor([2]), bad)
        with pytest.raises(MeasurementError, match=REFUSED):
            check_scores(log_scores(wrong, torch.tensor([0]), sampling))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"temperature": value} for value in (math.nan, math.inf, -1.0, "1")),
        *({"top_p": value} for value in (math.nan, 0.0, -0.1, 1.1)),
        {"top_k": -1},
    ],
    ids=str,
)
def test_settings_that_make_no_distribution_are_refused(
    tmp_path: Path, wrong: dict[str, float]
) -> None:
    target = load_model(str(llama(tmp_path / "target", seed=1)), "cpu")
    texts = decode(target, None, [[0, 3, 7]] * 3, k=0, new_tokens=6).texts
    calls: list[Callable[[], object]] = [
        lambda: decode(target, target, [[0, 3]], k=2, new_tokens=4, **wrong),
        lambda: replay(target, target, texts, k=2, **wrong),
        lambda: conformance(target, texts, **wrong),
        lambda: sample_new_tokens(
            target, [[0, 3]], new_tokens=4, sampling=Sampling(**wrong), seed=0
        ),
    ]
    for call in calls:
        with pytest.raises(RequestError, match="are not valid sampling settings; temperature and"):
            call()


@pytest.mark.parametrize("token", [-1, 32, 2**40])
def test_tokens_that_a_model_does_not_have_are_refused(tmp_path: Path, token: int) -> None:
    """In prompts by an error; an emitted one is a token of probability 0."""
    target = load_model(str(llama(tmp_path / "target", seed=1)), "cpu")
    texts = decode(target, None, [[0, 3, 7]] * 3, k=0, new_tokens=6).texts
    spoilt = [dataclasses.replace(text, ids=(*text.ids[:-1], token)) for text in texts]
    calls: list[Callable[[], object]] = [
        lambda: decode(target, target, [[0, token]], k=2, new_tokens=4),
        lambda: replay(target, target, spoilt, k=2),
        lambda: replay(target, "prompt-lookup", spoilt, k=2),
        lambda: sample_new_tokens(
            target, [[0, token]], new_tokens=4, sampling=Sampling(1.0), seed=0
        ),
    ]
    for call in calls:
        with pytest.raises(
            RequestError, match=f"a text holds the token {token} and .* knows 32 tokens; use"
        ):
            call()
    assert conformance(target, texts).verdict == "conforms"
    assert conformance(target, spoilt).verdict == "violates"


def counts(**changes: object) -> Counts:
    arrays = {"rounds": np.ones(2), "drafted": np.ones((2, 3)), "accepted": np.ones((2, 3))}
    return Counts(("a", "b"), ("", ""), **(arrays | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["rounds", "drafted", "accepted", "emitted", "passes"])
def test_counts_are_finite(name: str, bad: float) -> None:
    whole = {"emitted": np.ones(2), "passes": np.ones(2)}
    array = np.ones(2 if name in ("rounds", *whole) else (2, 3))
    assert counts(**whole | {name: array}).total_rounds == 2
    array.flat[-1] = bad
    with pytest.raises(MeasurementError, match=f"{name} of a prompt are not finite; "):
        counts(**whole | {name: array})


@pytest.mark.parametrize("side", ["target", "draft"])
@pytest.mark.parametrize("rule", ["rejection", "sample-match", "greedy", "block"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_log_probabilities_make_a_field_only_where_they_are_some(
    side: str, rule: str, bad: float
) -> None:
    arrays = {"target": np.full((1, 6), -0.5), "draft": np.full((1, 1, 6), -0.7)}
    places = {"starts": np.array([2]), "lengths": np.array([6])}
    assert Scores(("a",), ("",), **arrays, **places).field(rule) is not None
    arrays[side].flat[-1] = bad
    with pytest.raises(MeasurementError, match="log-probability of text a is nan or inf; "):
        Scores(("a",), ("",), **arrays, **places).field(rule)
