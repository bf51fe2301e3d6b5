"""docs/speech.md, followed to the letter with the embedded audio pair."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.support import ROOT
from scipy.io import wavfile

PAGE = (ROOT / "docs" / "speech.md").read_text()
PROMPTS, FEW = 24, 12
"""Prompts that are there, and those of an ordinary run: 1000 and 64 on the page."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page says to provide: models, prompts, and the test file it prints."""
    root = tmp_path_factory.mktemp("speech")
    (test,) = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.S)
    path = root / test[0]
    path.parent.mkdir(parents=True)
    assert test[1].count('"prompt_limit": 64') == 1
    path.write_text(test[1].replace('"prompt_limit": 64', f'"prompt_limit": {FEW}'))
    (root / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    for name in ("conftest.py", "sound.py"):
        source = (ROOT / "suites" / "audio" / name).read_text()
        (path.parent / name).write_text(source.replace("suites.audio.", "suites.speech."))
    (root / "suites" / "models").symlink_to(ROOT / "suites" / "models", target_is_directory=True)
    lines = (ROOT / "suites" / "audio" / "prompts.jsonl").read_text().splitlines(keepends=True)
    (path.parent / "prompts.jsonl").write_text("".join(lines[:PROMPTS]))
    return root


def run(project: Path, command: str) -> subprocess.CompletedProcess[str]:
    """One of the page's commands, with as many prompts as the project has."""
    words = command.split("#")[0].replace("prompts=1000", f"prompts={PROMPTS}").split()
    command_line = [sys.executable, "-m", *words, "-p", "no:cacheprovider"]
    return subprocess.run(command_line, cwd=project, capture_output=True, text=True, check=False)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("warm_processes")
def test_the_pages_commands_give_the_report_and_the_sound(project: Path) -> None:
    (commands,) = re.findall(r"```console\n(.*?)```", PAGE, re.S)
    for command in commands.strip().splitlines():
        done = run(project, command)
        assert done.returncode == 0, command + done.stdout + done.stderr
    report = (project / "audio.txt").read_text(encoding="utf-8")
    assert "总体平均期望接受数" in report
    (samples,) = re.findall(r"^测试样本数: (\d+)$", report, re.M)
    assert (
        0.95 * 4 * PROMPTS <= int(samples) <= 4 * PROMPTS
    )  # a text that slips from its pattern early gives none
    page = (project / "audio.html").read_text(encoding="utf-8")
    assert page.count("<audio") >= 1
    assert "data:image/png;base64," in page
    rate, samples = wavfile.read(io.BytesIO((project / "audio.wav").read_bytes()))
    assert rate == 16_000
    assert len(samples) > rate
    assert sorted(
        json.loads(path.read_text())["conditions"]["k"]
        for path in (project / "baselines/speech").glob("*.json")
    ) == [
        4,
        8,
        12,
        16,
    ]
