"""Variants of checkpoints: LoRA beside peft where it is installed and beside the formula, rounding
beside brute force, and what is refused.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pytest_specdec.__main__ import main
from pytest_specdec.checkpoints.checkpoint import open_checkpoint
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.variants import ROUNDINGS, read_adapter, rounded, write_variant

MATRIX = "model.layers.0.self_attn.q_proj"
RANK, ALPHA = 2, 6


def write_adapter(
    folder: Path, model: Path, names: tuple[str, ...] = (MATRIX,), **config: Any
) -> Path:
    shapes = {name: open_checkpoint(model).tensors[f"{name}.weight"].shape for name in names}
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, (outputs, inputs) in shapes.items():
        key = f"base_model.model.{name}"
        tensors[f"{key}.lora_A.weight"] = torch.randn(RANK, inputs, generator=generator)
        tensors[f"{key}.lora_B.weight"] = torch.randn(outputs, RANK, generator=generator)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    modules = sorted({name.rpartition(".")[2] for name in names})
    plain = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": modules}
    (folder / "adapter_config.json").write_text(json.dumps(plain | config))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for path in folder.glob("*.safetensors") for name, t in load_file(path).items()}


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_adds_its_scaled_product_and_nothing_else(
    tiny_target: Path, tmp_path: Path, rslora: bool
) -> None:
    adapter = write_adapter(tmp_path / "adapter", tiny_target, use_rslora=rslora)
    changed = write_variant(tiny_target, tmp_path / "out", adapter=read_adapter(adapter))
    before, now = weights(tiny_target), weights(tmp_path / "out")
    held = load_file(adapter / "adapter_model.safetensors")
    a, b = (held[f"base_model.model.{MATRIX}.lora_{half}.weight"] for half in "AB")
    scale = ALPHA / (RANK**0.5 if rslora else RANK)
    assert changed == 1
    torch.testing.assert_close(now[f"{MATRIX}.weight"], before[f"{MATRIX}.weight"] + scale * b @ a)
    assert {name for name in before if not torch.equal(before[name], now[name])} == {
        f"{MATRIX}.weight"
    }
    folders = (tiny_target, tmp_path / "out")
    prints = [open_checkpoint(folder).model_fingerprint for folder in folders]
    assert prints[0] != prints[1]
    assert len({open_checkpoint(folder).tokenizer_fingerprint for folder in folders}) == 1


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own
def test_logits_are_those_of_peft(tiny_target: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed; pip install peft")
    names = (MATRIX, "model.layers.1.mlp.down_proj")
    adapter = write_adapter(tmp_path / "adapter", tiny_target, names)
    write_variant(tiny_target, tmp_path / "out", adapter=read_adapter(adapter))
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    ours = load_model(str(tmp_path / "out"), "cpu").model(ids).logits
    # peft matches modules by their last names, in all layers: the others have no tensors.
    base = load_model(str(tiny_target), "cpu").model
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(names))
    model = peft.get_peft_model(base, config)
    held = load_file(adapter / "adapter_model.safetensors")
    assert not peft.set_peft_model_state_dict(model, held).unexpected_keys
    torch.testing.assert_close(ours, model.eval()(ids).logits, rtol=1e-4, atol=1e-4)


def test_rounding_is_the_nearest_multiple_of_the_scale() -> None:
    weight = torch.randn(5, 256, generator=torch.Generator().manual_seed(1))
    for bits, group in ((8, None), (4, 128)):
        parts = weight.reshape(-1, group or 256)
        got = rounded(weight, bits, group).reshape(parts.shape)
        most = 2 ** (bits - 1) - 1
        grid = torch.arange(-most, most + 1)[None, None] * (
            parts.abs().amax(-1)[:, None, None] / most
        )
        nearest = (parts[..., None] - grid).abs().argmin(-1, keepdim=True)
        torch.testing.assert_close(got, grid.expand(*parts.shape, -1).gather(-1, nearest)[..., 0])


@pytest.mark.parametrize("name", sorted(ROUNDINGS))
def test_layers_are_rounded_and_the_rest_is_not(
    name: str, tiny_target: Path, tmp_path: Path
) -> None:
    write_variant(tiny_target, tmp_path / "out", rounding=name)
    before, now = weights(tiny_target), weights(tmp_path / "out")
    moved = {key for key in before if not torch.equal(before[key], now[key])}
    checkpoint = open_checkpoint(tiny_target)
    layers = {
        key
        for key, weight in before.items()
        if weight.dim() == 2 and ".layers." in key and not checkpoint.is_mtp_tensor(key)
    }
    assert moved == layers
    assert all(now[key].dtype == weight.dtype for key, weight in before.items())
    for key in layers:
        error = (now[key] - before[key]).abs().max() / before[key].abs().max()
        assert 0 < error < 0.15


def test_the_zero_matrix_stays(tmp_path: Path) -> None:
    for change in ROUNDINGS.values():
        assert torch.equal(change(torch.zeros(2, 128)), torch.zeros(2, 128))


def test_the_command_writes_a_model_that_loads(
    tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "variants" / "int8"
    assert main(["variant", str(tiny_target), "--weights", "int8", "-o", str(out)]) == 0
    assert "matrices changed" in capsys.readouterr().out
    load_model(str(out), "cpu")
    assert main(["variant", str(tiny_target), "--weights", "int8", "-o", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["variant", str(tiny_target), "-o", str(tmp_path / "x")]) == 2
    assert "nothing to change" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "LOHA"}, "is not that of a LoRA adapter"),
        ({"use_dora": True}, "use_dora is true, and only plain LoRA is merged here"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern is"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is"),
        ({"layers_to_transform": [1]}, "layers_to_transform is"),
        ({"target_modules": ["k_proj"]}, "is none of the target_modules"),
        ({"target_modules": "model.*k_proj"}, "is none of the target_modules"),
        ({"r": 4}, "are not a pair of rank 4"),
        ({"r": None}, "names no r and lora_alpha"),
    ],
)
def test_other_adapters_are_refused(
    tiny_target: Path, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    adapter = write_adapter(tmp_path / "adapter", tiny_target, **config)
    with pytest.raises(RequestError, match=message):
        read_adapter(adapter)


def test_an_adapter_of_zeros_changes_nothing_and_one_of_nan_is_refused(
    tiny_target: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter", tiny_target)
    tensors = load_file(adapter / "adapter_model.safetensors")
    zeros = {name: tensor * 0 if "lora_B" in name else tensor for name, tensor in tensors.items()}
    save_file(zeros, adapter / "adapter_model.safetensors")
    assert write_variant(tiny_target, tmp_path / "out", adapter=read_adapter(adapter)) == 0
    save_file(
        {name: tensor * float("nan") for name, tensor in tensors.items()},
        adapter / "adapter_model.safetensors",
    )
    with pytest.raises(RequestError, match="is not finite; train it again"):
        read_adapter(adapter)


def test_pickled_weights_are_refused(tiny_target: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", tiny_target)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(RequestError, match="pickled ones are not loaded"):
        read_adapter(adapter)


def test_an_adapter_of_another_model_is_refused_and_nothing_is_left(
    tiny_target: Path, tmp_path: Path
) -> None:
    adapter = read_adapter(write_adapter(tmp_path / "adapter", tiny_target))
    other = shutil.copytree(tiny_target, tmp_path / "other")
    (path,) = other.glob("*.safetensors")
    tensors = load_file(path)
    save_file({**tensors, f"{MATRIX}.weight": torch.zeros(3, 5)}, path, {"format": "pt"})
    with pytest.raises(RequestError, match=r"was made for another model: .*q_proj.* is \[3, 5\]"):
        write_variant(other, tmp_path / "out", adapter=adapter)
    del tensors[f"{MATRIX}.weight"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(
        RequestError, match=r"was made for another model: .* has no model\.layers\.0"
    ):
        write_variant(other, tmp_path / "out", adapter=adapter)
    assert not [entry for entry in tmp_path.iterdir() if "out" in entry.name]
