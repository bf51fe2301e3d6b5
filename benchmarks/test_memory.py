"""Peak memory of replay above the models: 2,000 texts of 512 tokens at a vocabulary of 50,000, and
20 texts among 400 MiB of hidden states.

make bench
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MOST_GIB = 1.5
SCRIPT = Path(__file__).with_name("memory.py")
STATES_SCRIPT = Path(__file__).with_name("states_memory.py")
MOST_MIB_OF_A_FOLDER = 10


@pytest.mark.parametrize("texts", [200, 2000])
def test_peak_memory(
    benchmark, capsys: pytest.CaptureFixture[str], tmp_path: Path, texts: int
) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(texts)]
    out = benchmark.pedantic(
        lambda: subprocess.run(command, check=True, capture_output=True, text=True).stdout, rounds=1
    )
    gib, seconds = map(float, out.split()[-2:])
    benchmark.extra_info.update(peak_gib=gib)
    with capsys.disabled():
        print(
            f"\n{texts} texts x 512 tokens, vocabulary 50,000: {gib:.2f} GiB above the models, "
            f"{seconds:.0f} s"
        )
    assert gib <= MOST_GIB


def test_peak_memory_from_hidden_states(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The same texts are replayed from a folder that holds 20 times as many."""
    peaks = {}
    for stored in (20, 400):
        command = [sys.executable, str(STATES_SCRIPT), str(tmp_path / str(stored)), str(stored)]
        out = subprocess.run([*command, "20"], check=True, capture_output=True, text=True).stdout
        peaks[stored], states = map(float, out.split()[-2:])
        with capsys.disabled():
            print(f"\n20 texts among {states:.0f} MiB of states: {peaks[stored]:.0f} MiB")
    assert peaks[400] - peaks[20] <= MOST_MIB_OF_A_FOLDER
