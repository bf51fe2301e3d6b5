"""A user's project around the tiny pair, run through pytest itself."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import hypothesis  # noqa: F401  its pytest plugin would import it again in every run within this process
import pytest
from helpers.kept_metadata import kept_metadata
from helpers.kept_models import kept_models
from helpers.warm_python import import_package

# A module of native code cannot be imported twice into a process.
with contextlib.suppress(ImportError):
    import vl_convert  # noqa: F401

# Runs inside a test drop the modules that they were the first to import. With all modules of the
# package imported here they find them, which is faster, and tests that patch by name patch the same
# ones in every run.
import_package()

TEST = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=[4, 8], depth=[0, 2], new_tokens=24)
def test_draft(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""


_CREATED: dict[tuple[object, ...], dict[str, bytes | None]] = {}
"""What `Project.create` wrote in this process, or deleted, by arguments and files of the project."""


@dataclasses.dataclass
class Project:
    """A folder with one suite of 12 prompts; `run` starts pytest in it."""

    pytester: pytest.Pytester
    target: Path
    draft: Path

    def run(self, *arguments: str, ok: bool | None = None) -> pytest.RunResult:
        result = self.pytester.runpytest("-p", "no:cacheprovider", *arguments)
        if ok is not None:
            assert (result.ret == 0) == ok, result.stdout.str() + result.stderr.str()
        return result

    def create(self, *arguments: str) -> None:
        """Write all baselines. A project that another test had already is given its files again."""
        before = self._files()
        key = (arguments, tuple(before.items()), os.environ.get("PYTEST_ADDOPTS"))
        if key not in _CREATED:
            self.run("--specdec-update=new", *arguments, ok=True)
            now = self._files()
            written = {name: now[name] for name in now if now[name] != before.get(name)}
            _CREATED[key] = written | dict.fromkeys(before.keys() - now.keys())
            return
        for name, content in _CREATED[key].items():
            path = self.pytester.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def _files(self) -> dict[str, bytes]:
        """All files of the project, by their names below it."""
        return {
            str(path.relative_to(self.pytester.path)): path.read_bytes()
            for path in sorted(self.pytester.path.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }

    def write_test(self, text: str = TEST, name: str = "suites/letters/test_letters.py") -> Path:
        path = self.pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(target=str(self.target), draft=str(self.draft)))
        return path

    def write_prompts(
        self, prompts: list[tuple[str, str]], name: str = "suites/letters/prompts.jsonl"
    ) -> Path:
        path = self.pytester.path / name
        path.write_text(
            "".join(json.dumps({"category": kind, "prompt": text}) + "\n" for kind, text in prompts)
        )
        return path

    @property
    def stored(self) -> dict[str, str]:
        """Every stored file."""
        folder = self.pytester.path / "baselines"
        return {
            str(path.relative_to(folder)): path.read_text()
            for path in sorted(folder.rglob("*.json"))
        }

    @property
    def baselines(self) -> dict[str, str]:
        """The stored files that decide: all but the acceptance token by token."""
        return {name: text for name, text in self.stored.items() if "/tokens/" not in name}

    def report(self, *arguments: str) -> list[dict]:
        self.run("--specdec-report=out.json", *arguments)
        return json.loads((self.pytester.path / "out.json").read_text())["cases"]


def facts(lines: Iterable[str]) -> list[str]:
    """The lines of a failure's message, each put together from its parts in the terminal."""
    joined: list[str] = []
    for line in lines:
        if line.startswith(" " * 13) and joined:
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
    return joined


PROMPTS = [
    ("vowels" if word[0] in "aeiou" else "consonants", word)
    for word in (
        "apple",
        "banana",
        "cherry",
        "elder",
        "fig",
        "grape",
        "iris",
        "kiwi",
        "lemon",
        "orange",
        "pear",
        "umbra",
    )
]


@pytest.fixture(scope="session", autouse=True)
def _sessions_share_what_they_load() -> Iterator[None]:
    with kept_metadata(), kept_models():
        yield


@pytest.fixture(scope="session")
def gate_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target sure enough of its tokens that guesses are much worse than a draft model."""
    from helpers.support import llama

    return llama(tmp_path_factory.mktemp("gate") / "tiny-target", seed=1, spread=0.35)


@pytest.fixture(scope="session")
def gate_draft(gate_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target with some noise on its weights; with a tenth more it still beats guesses, with a
    fifth it does not.
    """
    from helpers.support import add_noise

    return add_noise(gate_target, tmp_path_factory.mktemp("gate") / "tiny-draft", 0.05)


@pytest.fixture
def untrained_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny target's MTP layers are random, so guesses do as well; for tests in which that is
    not the point.
    """
    for name in ("dead_drafter", "no_better"):
        monkeypatch.setattr(f"pytest_specdec.judging.decisions.{name}", lambda *measured: None)
    monkeypatch.setattr("pytest_specdec.gate.comparability.dead_drafter", lambda counts: None)


@pytest.fixture
def project(
    pytester: pytest.Pytester, gate_target: Path, gate_draft: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\naddopts = --strict-markers\n")
    project = Project(pytester, gate_target, gate_draft)
    project.write_test()
    project.write_prompts(PROMPTS)
    return project
