"""States that a model keeps of texts: passes over them again run the output layer alone, and compute
the same bits.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.families import FAMILIES, make_family

from pytest_specdec.decoding.drafters.teacher_forcing import forward
from pytest_specdec.decoding.kept_states import KeptStates, StateBudget
from pytest_specdec.decoding.layer_states import _blocks, captured_states
from pytest_specdec.decoding.loading import LoadedModel

IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])
OTHERS = torch.tensor([[2, 7, 1, 8, 2, 8]])
PLENTY = 1 << 20


def keeping(model: LoadedModel, room: StateBudget) -> LoadedModel:
    return dataclasses.replace(model, kept=KeptStates(model.model.get_decoder(), room))


def size(model: LoadedModel, ids: torch.Tensor) -> int:
    """Bytes of a model's last states."""
    return ids.numel() * model.model.config.hidden_size * model.model.dtype.itemsize


class Passes:
    """Counts how often a model's first layer runs, without a hook."""

    def __init__(self, model: LoadedModel) -> None:
        self.made = 0
        layer = _blocks(model)[0]
        self._run, layer.forward = layer.forward, self._counted  # type: ignore[method-assign]

    def _counted(self, *given: object, **named: object) -> object:
        self.made += 1
        return self._run(*given, **named)


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return make_family(FAMILIES["llama"], tmp_path / "llama")


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_of_every_family_logits_are_the_same_bits_without_its_layers(
    tmp_path: Path, name: str
) -> None:
    plain = make_family(FAMILIES[name], tmp_path / name)
    model, passes = keeping(plain, StateBudget(PLENTY)), Passes(plain)
    own = [forward(plain, ids, 2, hidden=False).logits for ids in (IDS, OTHERS)]
    before = passes.made
    for _ in range(3):
        for ids, wanted in zip((IDS, OTHERS), own, strict=True):
            assert torch.equal(forward(model, ids, 2, hidden=False).logits, wanted)
    assert passes.made == before + 2


@torch.inference_mode()
def test_a_pass_whose_other_states_are_read_is_a_whole_one(model: LoadedModel) -> None:
    kept = keeping(model, StateBudget(PLENTY))
    forward(kept, IDS, 2, hidden=False)
    wanted = forward(model, IDS, 2, hidden=True).hidden_states
    hidden = forward(kept, IDS, 2, hidden=True).hidden_states
    assert len(hidden) == len(wanted)
    assert all(map(torch.equal, hidden, wanted))
    with captured_states(kept, [0, 1]) as states:
        forward(kept, IDS, 2, hidden=False)
    assert sorted(states) == [0, 1]


@torch.inference_mode()
def test_what_a_whole_pass_kept_serves_the_next(model: LoadedModel) -> None:
    kept, passes = keeping(model, StateBudget(PLENTY)), Passes(model)
    first = forward(kept, IDS, 2, hidden=True).logits
    assert torch.equal(forward(kept, IDS, 2, hidden=False).logits, first)
    assert passes.made == 1


@torch.inference_mode()
def test_texts_beyond_the_room_pass_again(model: LoadedModel) -> None:
    room = StateBudget(size(model, OTHERS))
    kept, passes = keeping(model, room), Passes(model)
    for _ in range(2):
        for ids in (IDS, OTHERS):
            forward(kept, ids, 2, hidden=False)
    assert (passes.made, room.left) == (3, 0)


@torch.inference_mode()
def test_models_share_the_room(model: LoadedModel, tmp_path: Path) -> None:
    other = make_family(FAMILIES["llama"], tmp_path / "other")
    room = StateBudget(size(model, IDS))
    passes = [Passes(one) for one in (model, other)]
    kept = [keeping(one, room) for one in (model, other)]
    for _ in range(2):
        for one in kept:
            forward(one, IDS, 2, hidden=False)
    assert [one.made for one in passes] == [1, 2]


@torch.inference_mode()
def test_a_decoder_that_returns_more_than_states_passes_again(model: LoadedModel) -> None:
    """Such as the choices of experts, which a model may need for its logits."""
    decoder = model.model.get_decoder()
    run = decoder.forward

    def with_choices(*args: object, **named: object) -> object:
        output = run(*args, **named)
        output["router_logits"] = (IDS,)
        return output

    decoder.forward = with_choices
    kept, passes = keeping(model, StateBudget(PLENTY)), Passes(model)
    for _ in range(2):
        forward(kept, IDS, 2, hidden=False)
    assert passes.made == 2
    assert decoder.forward is with_choices


@torch.inference_mode()
def test_a_pass_that_fails_leaves_the_decoder_as_it_was(model: LoadedModel) -> None:
    kept, decoder = keeping(model, StateBudget(PLENTY)), model.model.get_decoder()
    with pytest.raises(IndexError):
        forward(kept, torch.tensor([[10**6]]), 1, hidden=False)
    assert "forward" not in vars(decoder)
