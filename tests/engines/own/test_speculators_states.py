"""Replay from hidden states that speculators' own commands wrote and its trainer reads."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.stored_states import TARGET, cases_at, from_states, replayed, write_states
from helpers.support import ROOT

PYTHON = ROOT / ".venv-engines" / "speculators" / "bin" / "python"
SCRIPT = ROOT / "tests" / "helpers" / "speculators_states.py"

if not PYTHON.is_file():
    pytest.skip(
        "speculators is not installed here; make speculators-parity runs this",
        allow_module_level=True,
    )


def data_set(temperature: float, folder: Path, dtype: torch.dtype, *options: str) -> Path:
    """The folder of a data set of speculators, with the states of all texts at a temperature."""
    write_states(cases_at(temperature), folder / "given", dtype)
    without_us = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [PYTHON, SCRIPT, TARGET, folder / "given", folder / "data", *options],
        check=True,
        env=without_us | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        timeout=600,
    )
    return folder / "data"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_states_in_float32_give_the_counts_of_full_replay(
    temperature: float, tmp_path: Path
) -> None:
    cases = cases_at(temperature)
    data = data_set(temperature, tmp_path, torch.float32)
    assert sorted(path.name for path in data.iterdir() if path.suffix != ".arrow") == [
        "dataset_info.json",
        "hidden_states",
        "state.json",
    ]
    for full, stored in zip(replayed(cases), from_states(cases, data), strict=True):
        assert stored.text_fingerprints == full.text_fingerprints
        np.testing.assert_allclose(stored.counts.rounds, full.counts.rounds, atol=1e-5)
        np.testing.assert_allclose(stored.counts.accepted, full.counts.accepted, atol=1e-5)


@pytest.mark.parametrize(
    ("temperature", "dtype", "options", "error"),
    [
        (1.0, torch.bfloat16, (), 0.001),
        (0.0, torch.bfloat16, (), 0.02),  # arg-maxes flip
        (1.0, torch.float32, ("fp8",), 0.01),
    ],
    ids=["bfloat16", "bfloat16-greedy", "fp8"],
)
def test_rounded_states_move_lengths_by_their_rounding(
    temperature: float, dtype: torch.dtype, options: tuple[str, ...], error: float, tmp_path: Path
) -> None:
    cases = cases_at(temperature)
    data = data_set(temperature, tmp_path, dtype, *options)
    for full, stored in zip(replayed(cases), from_states(cases, data), strict=True):
        assert stored.counts.acceptance_length == pytest.approx(
            full.counts.acceptance_length, rel=error
        )
