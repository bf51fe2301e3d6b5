"""Strings of users, files and servers in everything that a session prints and writes: no escape
codes, no secrets.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from helpers.playback import Answer, playing
from helpers.support import add_noise

RAW = "\x1b[31mr\x9b\u202ee\u200bd\x07"
SHOWN = r"\x1b[31mr\x9b\u202ee\u200bd\x07"
REPORTS = ("out.json", "out.md", "out.html", "out.txt", "junit.xml")


def steering(text: str) -> set[str]:
    """Characters that steer a terminal, line ends and tabs left out."""
    return {
        letter
        for letter in text
        if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp") and letter not in "\n\t\r"
    }


@pytest.fixture
def outputs(project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a failing gate writes where categories, prompts, a key in a prompt and the command line
    are hostile.
    """
    monkeypatch.setenv("SPECDEC_API_KEY", "sk-SECRET")
    words = ("apple", "elder", "iris", "orange", "umbra", "fig", "kiwi", "lemon")
    project.write_prompts(
        [(RAW, word) for word in words[:4]]
        + [("consonants", word) for word in words[4:]]
        + [("sk-SECRET", "b" + RAW)]
    )
    project.create()
    noisy = add_noise(project.draft, tmp_path / "noisy-draft", 0.5)
    result = project.run(
        f"--specdec-draft={noisy}",
        "--specdec-k=4,8",
        "--specdec-depth=2",
        "--junitxml=junit.xml",
        "-v",
        *(f"--specdec-report={name}" for name in REPORTS[:-1]),
        ok=False,
    )
    written = {name: (project.pytester.path / name).read_text(encoding="utf-8") for name in REPORTS}
    return written | {"terminal": result.stdout.str() + result.stderr.str()}


def test_hostile_strings_are_written_out_and_secrets_are_not(outputs: dict[str, str]) -> None:
    assert {name: steering(text) for name, text in outputs.items()} == {
        name: set() for name in outputs
    }
    assert [name for name, text in outputs.items() if "SECRET" in text] == []
    for name in ("terminal", "out.txt", "out.html"):
        assert SHOWN in outputs[name], name
    (case, *_) = json.loads(outputs["out.json"])["cases"]
    assert {SHOWN, "***", "consonants"} == set(case["categories"])


def test_a_servers_words_are_fit_to_print(project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDEC_API_KEY", "sk-SECRET")
    with playing({"/v1/models": [Answer(f"{RAW} Authorization: Bearer sk-SECRET", 404)]}) as stage:
        result = project.run(
            "--specdec-engine=logprobs",
            f"--specdec-url={stage.url}",
            f"--specdec-draft-url={stage.url}",
            "--specdec-depth=0",
            "--specdec-report=out.md",
            "--junitxml=junit.xml",
            ok=False,
        )
    written = [
        (project.pytester.path / name).read_text(encoding="utf-8")
        for name in ("out.md", "junit.xml")
    ]
    for text in (result.stdout.str(), *written):
        assert not steering(text)
        assert "SECRET" not in text
        assert "Authorization: Bearer ***" in text


@pytest.mark.parametrize(
    ("engine", "url"),
    [
        ("logprobs", "http://me:SECRET@h:80x0"),
        ("vllm", "http://h:1/?api_key=SECRET"),
        ("llama-cpp", "me:SECRET@h:8000"),
        ("trace", "http://me:SECRET@h/trace.jsonl"),
    ],
)
def test_urls_with_secrets_are_refused_unseen(project, engine: str, url: str) -> None:
    options = (f"--specdec-engine={engine}", f"--specdec-url={url}", "--specdec-draft-url=http://h")
    result = project.run(
        *options, "--specdec-depth=0", "--specdec-k=4", "--specdec-report=out.json", ok=False
    )
    printed = result.stdout.str() + result.stderr.str()
    report = project.pytester.path / "out.json"  # an invalid URL ends the run before there is one
    assert "SECRET" not in printed + (report.read_text() if report.exists() else "")
    assert "; " in printed
