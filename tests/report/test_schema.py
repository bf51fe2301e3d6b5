"""The published schema: today's, met by real reports, and with every field described by a type."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import report_schema
from helpers.records import CONTEXTS, row
from helpers.report_rows import FACTS, session_rows
from helpers.support import ROOT
from report.test_axes import CATEGORY, axis
from report.test_candidates import CURVE
from report.test_html import SAMPLES

from pytest_specdec.report import render
from pytest_specdec.report.row import ReportRow

jsonschema = pytest.importorskip(
    "jsonschema", reason="jsonschema is not installed; pip install 'pytest-specdec[test]'"
)
EROSION = {
    "drop": 0.02,
    "best": 5.2,
    "commit": None,
    "baselines": 3,
    "same_texts": True,
    "smoothed": False,
}
CHECKS = [{"name": "oracle", "passes": True, "message": "every round"}]
ROWS = [
    row(
        samples=SAMPLES,
        erosion=EROSION,
        checks=CHECKS,
        diagnosis=["fell"],
        axes=[axis(), CATEGORY],
        **CONTEXTS,
    ),
    *CURVE,
    *session_rows(8),
]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    published: dict[str, Any] = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    return published


def test_the_published_schema_is_todays(schema: dict[str, Any]) -> None:
    assert schema == report_schema.report_schema(), (
        "python benchmarks/report_schema.py > docs/report.schema.json"
    )


def document(rows: list[ReportRow] = ROWS) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(render(".json", rows, facts=FACTS))
    return whole


def test_reports_meet_the_schema_and_hold_no_other_field(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    strict = copy.deepcopy(schema)
    for definition in strict["$defs"].values():
        definition["additionalProperties"] = False
    written = document()
    assert {"cases", "candidates", "session"} <= written.keys()
    jsonschema.validate(written, strict)
    jsonschema.validate(json.loads(render(".json", [])), strict)


@pytest.mark.parametrize(
    ("field", "value"), [("k", "8"), ("verdict", None), ("survival", [True, "x"]), ("checks", {})]
)
def test_what_is_not_a_report_is_refused(schema: dict[str, Any], field: str, value: Any) -> None:
    broken = document()
    broken["cases"][0][field] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_a_missing_field_is_refused(schema: dict[str, Any]) -> None:
    broken = document()
    del broken["cases"][0]["drop"]
    with pytest.raises(jsonschema.ValidationError, match="'drop' is a required property"):
        jsonschema.validate(broken, schema)


def test_fields_have_the_words_of_their_docstrings(schema: dict[str, Any]) -> None:
    fields = schema["$defs"]["ReportRow"]["properties"]
    assert fields["acceptance_length_error"]["description"] == (
        "Standard error, clustered by prompt."
    )
    assert fields["diagnosis"]["description"].startswith("The message of a failed gate")
    assert "attachments" not in fields
