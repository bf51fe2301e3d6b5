"""The distribution: what wheel and sdist hold, and which version they have."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers.support import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("build", "hatchling", "hatch_vcs"))),
        reason="needs build, hatchling and hatch-vcs: pip install '.[release]'",
    ),
]


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def built(source: Path, out: Path, kind: str) -> Path:
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source],
        check=True,
        capture_output=True,
    )
    (package,) = out.iterdir()
    return package


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{ROOT}", "clone")
    return tmp_path / "clone"


def test_a_shallow_clone_an_sdist_and_a_tag_have_a_version(clone: Path, tmp_path: Path) -> None:
    shallow = built(clone, tmp_path / "shallow", "wheel")
    assert ".dev" in shallow.name
    git(clone, "tag", "v7.8.9")
    sdist = built(clone, tmp_path / "sdist", "sdist")
    assert sdist.name == "pytest_specdec-7.8.9.tar.gz"
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert not (source / ".git").exists()
    wheel = built(source, tmp_path / "wheel", "wheel")
    assert wheel.name == "pytest_specdec-7.8.9-py3-none-any.whl"
    _check_contents(wheel)


def _check_contents(wheel: Path) -> None:
    package = ROOT / "pytest_specdec"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "pytest_specdec"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert package.is_dir()
    assert set(tracked) <= names
    assert {name.partition("/")[0] for name in names} == {
        "pytest_specdec",
        "pytest_specdec-7.8.9.dist-info",
    }
