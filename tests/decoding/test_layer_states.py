"""States between layers, taken by hooks, are the ones that transformers' own layers hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.families import FAMILIES, LAYERS, Family, make_family

from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.loading import LoadedModel

IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    folder = tmp_path_factory.mktemp("families")
    return {name: make_family(family, folder / name) for name, family in FAMILIES.items()}


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return make_family(FAMILIES["llama"], tmp_path / "llama")


@pytest.mark.parametrize("name", FAMILIES)
def test_they_are_transformers_hidden_states_and_the_last_is_before_the_norm(
    models: dict[str, LoadedModel], name: str
) -> None:
    model, family = models[name], FAMILIES[name]
    with torch.no_grad(), captured_states(model, range(LAYERS + 1)) as states:
        outputs = model.model(IDS, output_hidden_states=True)
    assert sorted(states) == list(range(LAYERS + 1))
    for number in range(LAYERS):
        assert torch.equal(states[number], outputs.hidden_states[number])
    last = outputs.hidden_states[LAYERS]
    assert not torch.allclose(states[LAYERS], last)
    assert torch.allclose(family.norm(model.model)(states[LAYERS]), last)


@pytest.mark.parametrize("kind", [tuple, list])
def test_layers_may_return_their_state_with_others(model: LoadedModel, kind: Any) -> None:
    last = model.model.model.layers[-1]
    with torch.no_grad(), captured_states(model, [LAYERS]) as states:
        model.model(IDS)
    last.register_forward_hook(lambda module, inputs, output: kind([output, None]))
    with torch.no_grad(), captured_states(model, [LAYERS]) as packed:
        model.model.model.norm.register_forward_pre_hook(
            lambda module, inputs: tuple(inputs[0][:1])
        )
        model.model(IDS)
    assert torch.equal(packed[LAYERS], states[LAYERS])


@pytest.mark.parametrize("number", [0, 1])
def test_layers_that_hand_on_several_states_are_refused(tmp_path: Path, number: int) -> None:
    several = Family(
        "gemma3n_text",
        {
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 32,
            "num_kv_shared_layers": 0,
            "pad_token_id": 0,
        },
    )
    model = make_family(several, tmp_path / "gemma3n")
    with (
        pytest.raises(RequestError, match=r"hand on \[4, 2, 6, 32\] and not one vector a token"),
        captured_states(model, [number]),
    ):
        model.model(IDS)


def test_afterwards_no_hook_stays(model: LoadedModel) -> None:
    with pytest.raises(KeyError), captured_states(model, [0, 2]):
        raise KeyError
    for layer in model.model.model.layers:
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks


def test_no_states_cost_no_search_for_layers(model: LoadedModel) -> None:
    model.model.model.layers = torch.nn.ModuleList()
    with captured_states(model, []) as states:
        pass
    assert states == {}


def test_a_model_whose_layers_are_not_found_is_refused(model: LoadedModel) -> None:
    model.model.config.num_hidden_layers = LAYERS + 1
    with (
        pytest.raises(
            RequestError, match=r"the decoder layers of .* are not found .*; use another"
        ),
        captured_states(model, [1]),
    ):
        pass
