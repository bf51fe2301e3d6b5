"""`--specdec-hidden-states`: a folder that holds none ends the session before a test runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin.conftest import Project


def _nothing(place: Path) -> None:
    pass


def _pickles(place: Path) -> None:
    place.mkdir()
    (place / "0.pt").write_bytes(b"\x80")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_nothing, "states of hidden states; check its name"),
        (Path.touch, "states of hidden states; check its name"),
        (Path.mkdir, "states holds no safetensors files; vLLM's extraction"),
        (_pickles, "states holds ModelOpt's .pt files, such as 0.pt: pickles"),
    ],
)
@pytest.mark.parametrize("more", [(), ("-n1",), ("--specdec-shard=1/2",)])
def test_a_folder_without_states_is_refused_before_a_test_runs(
    project: Project, make: object, words: str, more: tuple[str, ...], warm_processes: None
) -> None:
    make(Path("states"))  # type: ignore[operator]
    result = project.run("--specdec-hidden-states=states", *more, ok=False)
    printed = result.stdout.str() + result.stderr.str()
    assert printed.count(words) == 1
    assert "Traceback" not in printed
    assert not result.parseoutcomes().keys() & {"passed", "failed", "errors"}
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("more", [(), ("--specdec-url=http://localhost:1",)])
def test_the_engine_without_a_folder_is_refused_before_a_test_runs(
    project: Project, more: tuple[str, ...]
) -> None:
    result = project.run("--specdec-engine=hidden-states", *more, ok=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*reads a folder of files; name it: --specdec-hidden-states=DIR*"])
    assert not result.parseoutcomes().keys() & {"passed", "failed", "errors"}
