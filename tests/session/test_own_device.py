"""Which device's baselines a session keeps apart."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.session_parts import settings

from pytest_specdec.common.errors import RequestError
from pytest_specdec.session.own_device import own_device


def named(**options: Any) -> str | None:
    return own_device(settings(**options))


@pytest.mark.parametrize("options", [{}, {"baselines_per": "case"}])
def test_one_baseline_serves_all_devices_unless_asked(options: dict[str, Any]) -> None:
    assert named(device="cuda", dtype="bfloat16", **options) is None


def test_the_device_and_the_dtype_of_the_options_are_named() -> None:
    assert named(baselines_per="device", device="cuda") == "cuda-float32"
    assert named(baselines_per="device", device="cpu", dtype="bfloat16") == "cpu-bfloat16"
    assert named(baselines_per="device", device="cuda", engine="vllm") == "cuda-float32"


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
@pytest.mark.parametrize("engine", ["replay", "decode", "transformers"])
def test_auto_is_what_torch_picks(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, device: str, engine: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert named(baselines_per="device", engine=engine) == f"{device}-float32"


@pytest.mark.parametrize("engine", ["logprobs", "vllm", "trace"])
def test_where_another_engine_runs_must_be_named(engine: str) -> None:
    with pytest.raises(RequestError, match=rf"engine '{engine}' runs on.*--specdec-device=cpu or"):
        named(baselines_per="device", engine=engine)
