"""The recipe of docs/scale.md for submitit, on its local executor; and `merge` from the command
line.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from helpers.support import ROOT

SHARDS = 2


def test_the_recipe_runs_all_shards_and_merge_judges_them(
    project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(
        "submitit", reason="submitit is not installed; pip install submitit==1.5.4 runs this test"
    )
    project.create("--specdec-k=4", "--specdec-depth=0")
    page = (ROOT / "docs" / "scale.md").read_text()
    (recipe,) = re.findall(r"```python notest\n(.*?)```", page, re.S)
    for before, now in {
        'AutoExecutor(folder="slurm-logs")': 'AutoExecutor(folder="logs", cluster="local")',
        "range(1, 17), [16] * 16": f"range(1, {SHARDS + 1}), [{SHARDS}] * {SHARDS}",
        "gpus_per_node=1": "gpus_per_node=0",
        '"suites/",': '"suites/", "-q", "--specdec-k=4", "--specdec-depth=0",',
    }.items():
        assert before in recipe
        recipe = recipe.replace(before, now)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path[1:]]))
    (project.pytester.path / "recipe.py").write_text(recipe)
    submitted = subprocess.run(
        [sys.executable, "recipe.py"], capture_output=True, text=True, check=False
    )
    assert submitted.returncode == 0, submitted.stderr
    parts = [f".specdec/shards/{number}-of-{SHARDS}.part" for number in range(1, SHARDS + 1)]
    merged = subprocess.run(
        [sys.executable, "-m", "pytest_specdec", "merge", *parts],
        capture_output=True,
        text=True,
        check=False,
    )
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert re.search(r"1 passed in", merged.stdout)
    missing = subprocess.run(
        [sys.executable, "-m", "pytest_specdec", "merge", parts[0]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == 2
    assert "error: shard 2/2 is missing; run it" in missing.stderr
