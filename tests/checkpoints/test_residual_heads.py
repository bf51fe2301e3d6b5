"""Medusa and Hydra heads are checked against their own files and their target before any model is
loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.residual_heads import HEADS, write_hydra, write_medusa
from helpers.support import edit_config, llama
from safetensors.torch import load_file, save_file

from pytest_specdec.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pytest_specdec.checkpoints.hydra_checks import check_hydra, hydra_heads, read_hydra
from pytest_specdec.checkpoints.medusa_checks import check_medusa, medusa_heads, read_medusa
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.drafters.registry import drafter_for
from pytest_specdec.decoding.loading import load_model

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("target") / "llama"
    return open_checkpoint(llama(folder, seed=3, layers=3, mtp_layers=0))


def edit(folder: Path, change: Callable[[Weights], object]) -> Path:
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    return folder


def refusal(target: Checkpoint, heads: Path) -> str:
    read = read_hydra if "hydra" in (heads / "config.json").read_text() else read_medusa
    with pytest.raises(RequestError) as refused:
        read(target, heads)
    message = str(refused.value)
    assert "; " in message  # cause; cure
    assert str(heads) in message
    return message


def test_each_packaging_is_read(target: Checkpoint, tmp_path: Path) -> None:
    heads = write_medusa(tmp_path / "flat", target.folder, layers=2)
    files = read_medusa(target, heads)
    assert (files.packaging, files.heads, files.layers) == ("packed by FasterDecoding", HEADS, 2)
    assert medusa_heads(heads) == HEADS
    files = read_medusa(target, write_medusa(tmp_path / "v", target.folder, packaging="vLLM"))
    assert (files.packaging, files.heads, files.layers) == ("packed for vLLM", HEADS, 1)
    heads = write_hydra(tmp_path / "hydra", target.folder, hidden_state_offset=2)
    hydra = read_hydra(target, heads)
    assert (hydra.heads, hydra.reads_tokens, hydra.state_from_end) == (HEADS, True, 2)
    assert hydra_heads(heads) == HEADS


def test_one_output_layer_may_have_either_name(target: Checkpoint, tmp_path: Path) -> None:
    heads = write_medusa(tmp_path / "heads", target.folder, packaging="vLLM", original_lm_head=True)
    named = read_medusa(target, heads).names
    assert {named[f"{head}.out.weight"] for head in range(HEADS)} == {"lm_heads.0.weight"}
    edit(
        heads, lambda weights: weights.update({"lm_head.weight": weights.pop("lm_heads.0.weight")})
    )
    assert read_medusa(target, heads).names["1.out.weight"] == "lm_head.weight"


@pytest.mark.parametrize("write", [write_medusa, write_hydra])
def test_a_pickle_is_refused_with_the_command_that_converts_it(
    target: Checkpoint, tmp_path: Path, write: Any
) -> None:
    heads = write(tmp_path / "heads", target.folder)
    (path,) = heads.glob("*.safetensors")
    torch.save(load_file(path), heads / "medusa_lm_head.pt")
    path.unlink()
    message = refusal(target, heads)
    assert "holds a pickle (medusa_lm_head.pt), which is never opened" in message
    assert "save_file" in message


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "fewer heads announced": (
        write_medusa,
        {"medusa_num_heads": 2},
        f"are of {HEADS} heads and config.json says medusa_num_heads: 2; write",
    ),
    "more heads announced": (write_medusa, {"medusa_num_heads": 5}, "says medusa_num_heads: 5"),
    "no number": (write_hydra, {"hydra_num_heads": None}, "config.json does not say so"),
    "a wild number": (write_medusa, {"medusa_num_heads": 1 << 40}, "heads have 1 to 64"),
    "more layers announced": (
        write_medusa,
        {"medusa_num_layers": 2},
        "lacks the tensor 0.1.linear",
    ),
    "another width": (write_medusa, {"hidden_size": 64}, "says hidden_size: 64 and the target's"),
    "another vocabulary": (write_medusa, {"vocab_size": 31}, "says vocab_size: 31"),
    "an output layer of nobody's": (
        write_medusa,
        {"version": "2"},
        "holds the tensor '0.1.weight'",
    ),
    "heads with attention": (
        write_hydra,
        {"hydra_head_arch": "prefix-mlp"},
        "says hydra_head_arch: prefix-mlp, heads with attention",
    ),
    "grounded unsaid": (write_hydra, {"grounded_heads": None}, "has the shape"),
    "grounded in words": (write_hydra, {"grounded_heads": "yes"}, "write true or false"),
    "a state that is not there": (write_hydra, {"hidden_state_offset": 3}, "has 3 layers"),
}


@pytest.mark.parametrize(("write", "config", "expected"), WRONG.values(), ids=WRONG)
def test_what_config_and_tensors_say_must_agree(
    target: Checkpoint, tmp_path: Path, write: Any, config: dict[str, Any], expected: str
) -> None:
    heads = edit_config(write(tmp_path / "heads", target.folder), **config)
    assert expected in refusal(target, heads)


WRONG_FOR_VLLM: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "biases unsaid": (
        {"medusa_fc_bias": True},
        {"medusa_fc_bias": None},
        "holds the tensor 'blocks.0.layers.0.bias', which Medusa heads (packed for vLLM)",
    ),
    "biases announced": ({}, {"medusa_fc_bias": True}, "lacks the tensor blocks.0.layers.0.bias"),
    "a map unsaid": (
        {"truncated_vocab_size": 20},
        {"truncated_vocab_size": None},
        "holds a token_map, which loaders leave out",
    ),
    "a map announced": ({}, {"truncated_vocab_size": 20}, "has no token_map"),
    "a map of another size": (
        {"truncated_vocab_size": 20},
        {"truncated_vocab_size": 21},
        "has the shape [20, 32]",
    ),
    "no scale": ({}, {"logit_scale": 0}, "which is no positive number"),
    "many output layers, one announced": ({}, {"original_lm_head": True}, "'lm_heads.1.weight'"),
}


@pytest.mark.parametrize(
    ("written", "config", "expected"), WRONG_FOR_VLLM.values(), ids=WRONG_FOR_VLLM
)
def test_what_vllm_would_pass_over_is_refused(
    target: Checkpoint,
    tmp_path: Path,
    written: dict[str, Any],
    config: dict[str, Any],
    expected: str,
) -> None:
    heads = write_medusa(tmp_path / "heads", target.folder, packaging="vLLM", **written)
    assert expected in refusal(target, edit_config(heads, **config))


def test_tensors_that_loaders_pass_over_are_refused(target: Checkpoint, tmp_path: Path) -> None:
    heads = write_medusa(tmp_path / "heads", target.folder)
    edit(heads, lambda weights: weights.update({"model.norm.weight": torch.ones(32)}))
    assert "holds the tensor 'model.norm.weight'" in refusal(target, heads)


def test_a_missing_head_is_refused(target: Checkpoint, tmp_path: Path) -> None:
    heads = write_medusa(tmp_path / "heads", target.folder)
    edit(
        heads,
        lambda weights: [
            weights.pop(f"1.{part}") for part in ("0.linear.weight", "0.linear.bias", "1.weight")
        ],
    )
    assert "of the heads [0, 2, 3], which are not numbered" in refusal(target, heads)


def test_quantised_heads_are_refused(target: Checkpoint, tmp_path: Path) -> None:
    heads = write_medusa(tmp_path / "heads", target.folder)
    edit(
        heads, lambda weights: weights.update({"0.1.weight": weights["0.1.weight"].to(torch.int8)})
    )
    assert "is stored as I8" in refusal(target, heads)


def test_another_target_by_name_is_refused(target: Checkpoint, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--lmsys--vicuna-7b" / "snapshots" / "1"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(target.folder)
    heads = write_medusa(tmp_path / "heads", snapshot, base_model_name_or_path="lmsys/Vicuna-7b")
    named = Checkpoint(snapshot)
    assert read_medusa(named, heads).heads == HEADS
    edit_config(heads, base_model_name_or_path="lmsys/vicuna-13b")
    assert "were trained for lmsys/vicuna-13b, and the target is lmsys/vicuna-7b" in refusal(
        named, heads
    )


def test_heads_need_a_folder_and_depth_0(target: Checkpoint, tmp_path: Path) -> None:
    for check, write in ((check_medusa, write_medusa), (check_hydra, write_hydra)):
        heads = write(tmp_path / write.__name__, target.folder)
        check(target, heads, 0)
        with pytest.raises(RequestError, match="name their folder"):
            check(target, None, 0)
        with pytest.raises(RequestError, match="are no MTP layers; use --specdec-depth=0"):
            check(target, heads, 1)
        with pytest.raises(RequestError, match=r"no head at .*; check the path"):
            check(target, tmp_path / "nowhere", 0)


def test_weights_must_be_finite_and_maps_whole(target: Checkpoint, tmp_path: Path) -> None:
    model = load_model(str(target.folder), "cpu")
    heads = write_medusa(tmp_path / "heads", target.folder)
    edit(heads, lambda weights: weights["1.1.weight"].fill_(torch.nan))
    with pytest.raises(RequestError, match=r"1\.1\.weight of .* holds NaN or infinite numbers; "):
        drafter_for(model, str(heads), 0)
    mapped = write_medusa(
        tmp_path / "mapped", target.folder, packaging="vLLM", truncated_vocab_size=20
    )
    edit(mapped, lambda weights: weights["token_map"].fill_(3))
    with pytest.raises(RequestError, match=r"token_map of .* lists a token twice, or one that"):
        drafter_for(model, str(mapped), 0)


def test_the_fingerprint_is_of_weights_and_config(target: Checkpoint, tmp_path: Path) -> None:
    model = load_model(str(target.folder), "cpu")
    first, same, other = (
        write_medusa(tmp_path / name, target.folder, seed=seed)
        for name, seed in (("first", 0), ("same", 0), ("other", 1))
    )
    scaled = write_medusa(tmp_path / "scaled", target.folder, packaging="vLLM", logit_scale=2.0)
    plain = write_medusa(tmp_path / "plain", target.folder, packaging="vLLM")
    prints = [
        drafter_for(model, str(folder), 0).fingerprint()
        for folder in (first, same, other, scaled, plain)
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4
    assert json.loads((scaled / "config.json").read_text())["logit_scale"] == 2.0
