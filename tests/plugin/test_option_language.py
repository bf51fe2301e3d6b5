"""--specdec-language: reports that are read by people, in their language."""

from __future__ import annotations

import pytest
from helpers.report_rows import FACTS


@pytest.fixture(autouse=True)
def _same_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs differ in their dates and command lines, which are not the point here."""
    monkeypatch.setattr("pytest_specdec.session.finish.session_facts", lambda config: FACTS)


def report(project, *arguments: str) -> tuple[str, str]:
    project.run("--specdec-report=out.txt", "--specdec-report=out.html", *arguments)
    return tuple(
        (project.pytester.path / name).read_text(encoding="utf-8")
        for name in ("out.txt", "out.html")
    )  # type: ignore[return-value]


def test_english_by_default(project) -> None:
    project.create()
    text, page = report(project)
    assert "Mean acceptance rate" in text
    assert '<html lang="en">' in page


def test_chinese_on_the_command_line_and_in_the_ini_file(project) -> None:
    project.create()
    by_option = report(project, "--specdec-language=zh")
    assert "总体平均接受率" in by_option[0]
    assert '<html lang="zh">' in by_option[1]
    project.pytester.makeini("[pytest]\nspecdec_language = zh\n")
    assert report(project) == by_option


def test_another_language_is_refused(project) -> None:
    assert (
        "'fr' is not one of en, zh" in project.run("--specdec-language=fr", ok=False).stderr.str()
    )


def test_the_command_line_wins_over_the_ini_file(project) -> None:
    project.create()
    english = report(project)
    project.pytester.makeini("[pytest]\nspecdec_language = zh\n")
    assert report(project, "--specdec-language=en") == english


def test_programs_and_pull_requests_read_the_same_in_every_language(project) -> None:
    project.create()
    read = []
    for language in ("en", "zh"):
        project.run(
            f"--specdec-language={language}",
            "--specdec-report=out.json",
            "--specdec-report=out.md",
            ok=True,
        )
        read.append([(project.pytester.path / name).read_text() for name in ("out.json", "out.md")])
    assert read[0] == read[1]


def test_a_bad_language_of_the_ini_file_is_named(project) -> None:
    project.pytester.makeini("[pytest]\nspecdec_language = fr\n")
    project.run(ok=False).stderr.fnmatch_lines(
        ["*ini option specdec_language: 'fr' is not one of en, zh*"]
    )
