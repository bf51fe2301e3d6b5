"""The machine-readable report, and the rows that every report uses."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from helpers.records import row
from report.test_text import cell

from pytest_specdec.report.attachments import Attachment, attachment_rows
from pytest_specdec.report.json import SCHEMA, render
from pytest_specdec.report.row import HTML_ONLY, SEVERITY, plain, worse


def test_rows_come_back_as_they_were() -> None:
    data = json.loads(render([row()]))
    silent = {name: value for name, value in row().items() if name not in HTML_ONLY}
    assert data == {"schema": SCHEMA, "cases": [silent]}


def test_attachments_are_left_out() -> None:
    attached = attachment_rows([Attachment(title="a", media_type="text/plain", content=b"text")])
    assert attached[0]["content"] not in render([row(attachments=attached)])


def test_cases_are_sorted_by_id() -> None:
    rows = [row(id=f"text/{name}") for name in ("b", "a", "c")]
    assert [case["id"] for case in json.loads(render(rows))["cases"]] == [
        "text/a",
        "text/b",
        "text/c",
    ]
    assert render(rows) == render(reversed(rows))


def test_text_ends_with_a_line_end() -> None:
    assert render([]).endswith("}\n")
    assert json.loads(render([])) == {"schema": SCHEMA, "cases": []}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_json_cannot_say_is_never_written(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        render([row(drop=value)])
    assert json.loads(render([row(drop=plain(value))]))["cases"][0]["drop"] is None


@pytest.mark.parametrize(
    ("value", "wanted"), [(None, None), (math.nan, None), (-math.inf, None), (0, 0.0), (1.5, 1.5)]
)
def test_plain_keeps_finite_numbers_only(value: float | None, wanted: float | None) -> None:
    assert plain(value) == wanted


@pytest.mark.parametrize(("lighter", "graver"), list(itertools.pairwise(SEVERITY)))
def test_the_graver_verdict_wins_from_either_side(lighter: str, graver: str) -> None:
    first, second = row(verdict=lighter), row(verdict=graver)
    assert worse(first, second)["verdict"] == worse(second, first)["verdict"] == graver


def test_attachments_of_both_rows_stay_whichever_wins() -> None:
    first, second = (
        attachment_rows([Attachment(title=title, media_type="text/plain", content=b"text")])
        for title in "ab"
    )
    assert worse(row(attachments=first), row(verdict="error"))["attachments"] == first
    assert worse(row(verdict="error"), row(attachments=first))["attachments"] == first
    assert worse(row(attachments=first), row(attachments=second))["attachments"] == first + second
    assert worse(row(attachments=first), row(attachments=first))["attachments"] == first


def test_of_equal_verdicts_the_first_stays() -> None:
    assert worse(row(reason="first"), row(reason="second"))["reason"] == "first"


def test_samples_come_back_as_they_were() -> None:
    samples = cell(4)["samples"]
    assert json.loads(render([cell(4)]))["cases"][0]["samples"] == samples


def test_names_are_the_same_in_every_language() -> None:
    assert render([cell(4)], "zh") == render([cell(4)], "en")
