"""Every language says the same things, and only things that are said."""

from __future__ import annotations

import string
from pathlib import Path

import pytest

from pytest_specdec import report
from pytest_specdec.options import LANGUAGES
from pytest_specdec.report.words import Phrases, phrases_of

FOLDER = Path(report.__file__).parent
SOURCES = "".join(path.read_text(encoding="utf-8") for path in (*FOLDER.glob("*.py"), *FOLDER.glob("*.jinja")))


def fields(phrase: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(phrase) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_phrases_with_the_same_values(language: str) -> None:
    ours, english = phrases_of(language), phrases_of("en")
    assert ours.keys() == english.keys()
    assert {name: fields(phrase) for name, phrase in ours.items()} == {name: fields(phrase) for name, phrase in english.items()}


def test_every_file_of_phrases_is_a_language_of_the_option() -> None:
    assert {path.name for path in FOLDER.glob("words.*.json")} == {f"words.{language}.json" for language in LANGUAGES}


@pytest.mark.parametrize("name", sorted(phrases_of("en")))
def test_every_phrase_is_said(name: str) -> None:
    dynamic = ("mean", "deviation", "least", "most", "excellent", "worth", "undecided", "slower")
    assert f'"{name}"' in SOURCES or name in dynamic


def test_a_value_that_does_not_exist_is_a_dash() -> None:
    say = Phrases()
    assert (say.number(None, 2), say.percent(None)) == ("-", "-")
    assert (say.number(1.006, 2), say.percent(0.8609)) == ("1.01", "86.09%")
