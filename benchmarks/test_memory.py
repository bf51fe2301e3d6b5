"""Peak memory of replay above the models: 2,000 texts of 512 tokens at a vocabulary of 50,000.

make bench
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MOST_GIB = 1.5
SCRIPT = Path(__file__).with_name("memory.py")


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
