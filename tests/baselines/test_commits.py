"""The commit of a folder of baselines."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_specdec.baselines import commits
from pytest_specdec.baselines.commits import head_commit


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "repository"
    (folder / "baselines").mkdir(parents=True)
    git(folder, "init", "-q")
    return folder


def test_a_folder_below_a_repository_is_at_its_head(repository: Path) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "first")
    first = head_commit(repository / "baselines")
    assert first == git(repository, "rev-parse", "HEAD")
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    assert head_commit(repository / "baselines") == git(repository, "rev-parse", "HEAD") != first


def test_a_work_tree_beside_the_repository_is_at_its_own(repository: Path, tmp_path: Path) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "first")
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "beside"))
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    assert head_commit(tmp_path / "beside") == first


def test_without_a_commit_there_is_none(repository: Path) -> None:
    assert head_commit(repository) is None


@pytest.mark.parametrize("folder", ["", "missing"])
def test_without_a_repository_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert head_commit(tmp_path / folder) is None


def test_without_git_there_is_none(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "first")
    monkeypatch.setattr(commits.shutil, "which", lambda name: None)
    assert head_commit(repository) is None
