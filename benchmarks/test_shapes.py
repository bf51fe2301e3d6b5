"""The times of published shapes (`benchmarks/shapes.py`), on shapes that take seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapes
import torch

from pytest_specdec.decoding.loading import load_model


def test_parts_of_a_round_and_the_share_of_the_ceiling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tiny.json"
    shapes.main(
        ["tiny", "--device", "cpu", "--texts=8", "--length=64", "--repeats=8", "-o", str(output)]
    )
    said = capsys.readouterr().out
    found = json.loads(output.read_text())
    assert said.startswith("tiny on ")
    assert [(row["depth"], row["texts"], row["length"]) for row in found["replay"]] == [
        (0, 8, 64),
        (3, 8, 64),
    ]
    assert all(0 < row["share_of_ceiling"] < 1 for row in found["replay"])
    assert found["costs"]["draft"]["0"]["16"] > found["costs"]["draft"]["0"]["4"]


def test_flops_are_two_for_each_weight_and_token(tmp_path: Path) -> None:
    shape = shapes.SHAPES["tiny"][0]
    model = load_model(
        str(shapes.write_checkpoint(shape, tmp_path / "tiny", "cpu", "float32", 128)), "cpu"
    )
    linear = [
        module for module in model.model.model.modules() if isinstance(module, torch.nn.Linear)
    ]
    mixing = 2 * shape.layers * shape.heads * shape.head_dim * 100
    weights = sum(module.weight.numel() for module in linear)
    assert shape.flops(100, 0, 100, 0) == 100 * (2 * weights + mixing)
    assert shape.flops(0, 10, 100, 0) == 2 * 10 * model.model.lm_head.weight.numel()
    heads = [
        module for module in model.heads.layers.modules() if isinstance(module, torch.nn.Linear)
    ]
    own = shape.flops(100, 0, 100, shapes.MTP_LAYERS) - shape.flops(100, 0, 100, 0)
    mixing = 2 * shapes.MTP_LAYERS * shape.heads * shape.head_dim * 100
    assert own == 100 * (2 * sum(module.weight.numel() for module in heads) + mixing)
