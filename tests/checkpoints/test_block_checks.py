"""Folders of block drafters that are refused before anything is loaded, each with cause and cure."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.blocks import KINDS, MASK, edit_config, write_block
from helpers.eagle3 import edit_tensors
from helpers.support import llama

from pytest_specdec.checkpoints.block_checks import checked_block, read_block
from pytest_specdec.checkpoints.checkpoint import Checkpoint
from pytest_specdec.common.errors import RequestError


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("targets") / "llama", seed=3, layers=8, mtp_layers=0)


@pytest.mark.parametrize("form", KINDS.values(), ids=KINDS)
def test_every_form_is_read(
    target: Path, tmp_path: Path, form: tuple[str, str, dict[str, Any]]
) -> None:
    files = checked_block(
        Checkpoint(target), write_block(tmp_path / "head", target, *form), form[0]
    )
    assert files.states == (1, 4)
    assert files.config.mask_token == MASK
    assert files.config.packaging == form[1]
    assert files.config.most_drafts == (6 if files.config.more_rows == 0 else 5)


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "no mask token": ({"mask_token_id": None}, "says mask_token_id: None, and the drafter reads"),
    "a mask without an embedding": ({"mask_token_id": 32}, "so the mask has no embedding"),
    "no layers": ({"target_layer_ids": None}, "names the layers None of the target"),
    "a layer twice": ({"target_layer_ids": [1, 1]}, "no list of different whole numbers"),
    "one layer too many": ({"target_layer_ids": [0, 3, 5]}, "fc.weight of .* has the shape"),
    "the last layer": ({"target_layer_ids": [0, 7]}, "read before the last norm by some"),
    "no block": ({"block_size": None}, "has no block_size"),
    "a block of one row": ({"block_size": 1}, "leaves nothing to draft"),
    "no rotary base": ({"rope_theta": None}, "loaders take for 10000 or for 1000000"),
    "a part rotated": ({"partial_rotary_factor": 0.5}, "rotates 4 of 8 numbers"),
    "other layers": ({"num_hidden_layers": 3}, "lacks the tensor layers.2"),
    "a width that is another": ({"hidden_size": 64}, "is 64 wide and the target"),
    "another vocabulary": ({"vocab_size": 40}, "has 32; name the target"),
    "DFlash 2": ({"conv_kernel_size": 4}, r"DFlash 2's convolution\), and only drafters without"),
    "DeepSeek-V4's DSpark": ({"dspark_block_size": 5}, "whose layers are its target's own"),
    "windows elsewhere": ({"use_swa": True}, "sliding windows beside layer_types"),
    "layers of a kind": (
        {"layer_types": ["full_attention", "linear_attention"]},
        "each full_attention or sliding_attention",
    ),
    "a window without a size": (
        {"layer_types": ["full_attention", "sliding_attention"]},
        "has no sliding_window",
    ),
    "Gemma's layers": ({"model_type": "gemma3_text"}, "only layers like Qwen3's is supported"),
    "GPT-J's pairs": ({"is_neox_style": False}, "is_neox_style: false"),
    "a field misspelt": ({"target_layers_ids": [1]}, "write target_layer_ids, or remove it"),
    "quantised": ({"quantization_config": {"quant_method": "fp8"}}, "quantised drafters are not"),
}


@pytest.mark.parametrize(("fields", "message"), CONFIGS.values(), ids=CONFIGS)
def test_configurations_that_do_not_fit_are_refused(
    target: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = edit_config(write_block(tmp_path / "head", target), **fields)
    with pytest.raises(RequestError, match=message):
        checked_block(Checkpoint(target), folder, "dflash")


FORMED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a Markov head of another kind": (
        "DSpark, DeepSpec",
        {"markov_head_type": "lstm"},
        "the heads are vanilla, gated, rnn",
    ),
    "a Markov head without its tensors": (
        "DSpark, DeepSpec, without Markov head",
        {"markov_rank": 4},
        "lacks the tensor markov_head",
    ),
    "an unannounced confidence head": (
        "DSpark, SpecForge, gated",
        {"confidence_head_alpha": 0.0},
        "holds the tensor 'confidence_head",
    ),
    "a recurrent head that begins at two rows": (
        "DSpark, speculators, rnn",
        {"sample_from_anchor": False},
        "begin the head's state at different rows",
    ),
    "no width of the GRU": ("Domino", {"gru_hidden_dim": None}, "has no gru_hidden_dim"),
    "a prefix that is no number": (
        "Domino",
        {"pure_draft_prefix_len": -1},
        "is no number of drafts",
    ),
    "another kind in speculators' config": (
        "DFlash, speculators",
        {"speculators_config": {"verifier": {"architectures": ["GPT2LMHeadModel"]}}},
        "was trained for a target",
    ),
}


@pytest.mark.parametrize(("form", "fields", "message"), FORMED.values(), ids=FORMED)
def test_parts_that_do_not_fit_each_other_are_refused(
    target: Path, tmp_path: Path, form: str, fields: dict[str, Any], message: str
) -> None:
    folder = edit_config(write_block(tmp_path / "head", target, *KINDS[form]), **fields)
    with pytest.raises(RequestError, match=message):
        checked_block(Checkpoint(target), folder, KINDS[form][0])


def test_tensors_that_do_not_fit_are_refused(target: Path, tmp_path: Path) -> None:
    folder = write_block(tmp_path / "head", target)
    edit_tensors(folder, layers__0__self_attn__q_norm__weight=None)
    with pytest.raises(RequestError, match=r"lacks the tensor layers.0.self_attn.q_norm.weight"):
        checked_block(Checkpoint(target), folder, "dflash")
    edit_tensors(folder, layers__0__self_attn__q_norm__weight=torch.ones(8).to(torch.int8))
    with pytest.raises(RequestError, match="stored as I8"):
        checked_block(Checkpoint(target), folder, "dflash")


def test_maps_that_disagree_are_refused(target: Path, tmp_path: Path) -> None:
    folder = write_block(tmp_path / "head", target, "dflash", "speculators")
    edit_tensors(folder, t2d=torch.arange(32) < 20)
    with pytest.raises(RequestError, match="t2d and d2t"):
        checked_block(Checkpoint(target), folder, "dflash")
    files, faults = read_block(Checkpoint(target), folder, "dflash")
    assert len(faults) == 1
    assert files.states == (1, 4)


def test_pickles_are_never_opened(target: Path, tmp_path: Path) -> None:
    folder = write_block(tmp_path / "head", target)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(RequestError, match="holds a pickle"):
        checked_block(Checkpoint(target), folder, "dflash")


@pytest.mark.parametrize("form", ["DFlash, speculators", "DSpark, speculators"])
def test_a_drafter_of_some_tokens_has_an_output_layer(
    target: Path, tmp_path: Path, form: str
) -> None:
    folder = write_block(tmp_path / "head", target, *KINDS[form])
    edit_tensors(folder, lm_head__weight=None)
    with pytest.raises(RequestError, match=r"lacks the tensor lm_head\.weight, which gives their"):
        checked_block(Checkpoint(target), folder, KINDS[form][0])
