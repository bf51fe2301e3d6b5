"""States between layers, taken by hooks, are the ones that transformers' own layers hand on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.eagle3 import qwen3
from helpers.support import llama

from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.layer_states import captured_states
from pytest_specdec.decoding.loading import LoadedModel, load_model

LAYERS = 5
IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


@pytest.fixture(params=["llama", "qwen3"])
def model(tmp_path: Path, request: pytest.FixtureRequest) -> LoadedModel:
    folder = tmp_path / request.param
    if request.param == "llama":
        return load_model(str(llama(folder, seed=1, layers=LAYERS, mtp_layers=0)), "cpu")
    return load_model(str(qwen3(folder, seed=1, layers=LAYERS)), "cpu")


def test_they_are_transformers_hidden_states_and_the_last_is_before_the_norm(
    model: LoadedModel,
) -> None:
    with torch.no_grad(), captured_states(model, range(LAYERS + 1)) as states:
        outputs = model.model(IDS, output_hidden_states=True)
    assert sorted(states) == list(range(LAYERS + 1))
    for number in range(LAYERS):
        assert torch.equal(states[number], outputs.hidden_states[number])
    last = outputs.hidden_states[LAYERS]
    assert not torch.allclose(states[LAYERS], last)
    assert torch.allclose(model.model.model.norm(states[LAYERS]), last)


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
