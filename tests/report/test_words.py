"""Every language says the same things, and only things that are said."""

from __future__ import annotations

import html
import re
import string
from pathlib import Path

import pytest
from helpers.records import CONTEXTS, SMOOTHED
from helpers.report_rows import FACTS, session_rows
from report.test_axes import CATEGORY, axis
from report.test_candidates import CONCLUSIONS, CURVE, row
from report.test_html import ATTACHMENTS
from report.test_text import cell

from pytest_specdec import report
from pytest_specdec.config.options import LANGUAGE_CHOICES
from pytest_specdec.report.words import Phrases, phrases_of

FOLDER = Path(report.__file__).parent


AXES = [axis(), axis(moves=False), CATEGORY]
CHECKS = [{"name": "oracle", "passes": passes, "message": "said"} for passes in (True, False)]


class Undrawn:
    """Draws nothing, for both reasons that there are."""

    missing, left_out = "a package is missing", 3

    def __call__(self, spec: object, title: str) -> str:
        return ""


def fields(phrase: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(phrase) if name}


@pytest.mark.parametrize("language", LANGUAGE_CHOICES)
def test_every_language_has_the_same_phrases_with_the_same_values(language: str) -> None:
    ours, english = phrases_of(language), phrases_of("en")
    assert ours.keys() == english.keys()
    assert {name: fields(phrase) for name, phrase in ours.items()} == {
        name: fields(phrase) for name, phrase in english.items()
    }


def test_every_file_of_phrases_is_a_language_of_the_option() -> None:
    assert {path.name for path in FOLDER.glob("words.*.json")} == {
        f"words.{language}.json" for language in LANGUAGE_CHOICES
    }


@pytest.mark.parametrize("language", LANGUAGE_CHOICES)
def test_every_phrase_is_said_and_with_all_its_values(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: dict[str, set[str]] = {}
    whole = Phrases.__call__

    def heard(self: Phrases, phrase: str, /, **values: object) -> str:
        used.setdefault(phrase, set()).update(values)
        return whole(self, phrase, **values)

    monkeypatch.setattr(Phrases, "__call__", heard)
    monkeypatch.setattr("pytest_specdec.report.html.Drawer", Undrawn)
    silent = cell(
        4,
        verify_ms=None,
        draft_ms=None,
        tokens_per_second=None,
        speedup_interval=[],
        changed=["weights"],
    )
    spoken = cell(8, attachments=ATTACHMENTS)
    bounds = ([2.1, 2.2], [1.1, 1.2], [0.9, 1.2], [0.8, 0.9])
    slow = [cell(4, speedup=0.8), cell(8, speedup=0.7)]
    requests = [
        cell(4, request_length=4.0, request_speedup=2.0, request_speedup_interval=[1.9, 2.1])
    ]
    for rows in (
        [silent],
        [spoken, cell(12)],
        slow,
        requests,
        [cell(4, **CONTEXTS), cell(8, **SMOOTHED)],
        CURVE,
        [row(0, 3.0, smoothed=True, best=True, from_best=None)],
        *(rows for rows, _ in CONCLUSIONS),
        *([cell(4, speedup_interval=list(interval))] for interval in bounds),
        [cell(4, axes=AXES)],
        [cell(4, checks=CHECKS, notes=["a note"], diagnosis=["fell"])],
        session_rows(8),
    ):
        report.render(".txt", rows, language)
        report.render(".html", rows, language, FACTS)
    assert used.keys() == phrases_of(language).keys()
    assert used == {name: fields(phrase) for name, phrase in phrases_of(language).items()}


LATIN = {
    # Names of models, suites, rules and verdicts; marks of numbers and formulas; words that Chinese
    # reports borrow.
    "draft",
    "target",
    "audio",
    "voice",
    "text",
    "models",
    "t",
    "k",
    "rejection",
    "regressed",
    "fell",
    "home",
    "depth",
    "weights",
    "min",
    "p",
    "x",
    "q",
    "s",
    "ms",
    "h",
    # Fields of an environment, categories and verdicts are data.
    "torch",
    "device",
    "cpu",
    "threads",
    "prose",
    "pass",
    "improved",
    "inconclusive",
    "error",
    "i",
    "a",
    "tokens",
    "token",
    "id",
    "specdec",
    "costs",
    "Draft",
    "Target",
    "Model",
    "Verify",
    "MTP",
    "Token",
    "Layers",
}


CHINESE = [
    {**attachment, "title": "语音", "alternative_text": "语音", "content": "aDxhMT4="}
    for attachment in ATTACHMENTS
]


@pytest.mark.parametrize("ending", [".txt", ".html"])
def test_a_chinese_report_says_nothing_in_english(
    ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Undrawn, "missing", "")
    monkeypatch.setattr("pytest_specdec.report.html.Drawer", Undrawn)
    rendered = report.render(
        ending,
        [cell(4, attachments=CHINESE, changed=["weights"]), cell(8)],
        "zh",
    )
    assert isinstance(rendered, str)
    shown = re.sub(r"<style>.*?</style>|<!doctype html>", "", rendered, flags=re.S)
    attributes = re.findall(r'(?:alt|title|aria-label)="([^"]*)"', shown)
    words = set(
        re.findall(
            r"[A-Za-z]+", html.unescape(" ".join([re.sub(r"<[^>]+>", " ", shown), *attributes]))
        )
    )
    assert words <= LATIN


@pytest.mark.parametrize("language", LANGUAGE_CHOICES)
@pytest.mark.parametrize("value", ["{", "}", "{0}", "{name}", "%s", "\\"])
def test_braces_of_users_are_no_placeholders(language: str, value: str) -> None:
    assert value in Phrases(language)("title", chapter=value)


def test_a_value_that_does_not_exist_is_a_dash() -> None:
    say = Phrases()
    assert (say.number(None, 2), say.percent(None)) == ("-", "-")
    assert (say.number(1.006, 2), say.percent(0.8609)) == ("1.01", "86.09%")
