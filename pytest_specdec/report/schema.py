"""The JSON Schema of the .json report, made from the types of its rows and their docstrings."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any, Literal, NotRequired, TypedDict

import msgspec

from . import facts, row
from .facts import SessionFacts
from .json import SCHEMA
from .row import HTML_ONLY, ReportRow

URL = "https://json-schema.org/draft/2020-12/schema"


class CandidateConclusion(TypedDict):
    """What was found of the candidates of one comparison."""

    comparison: str
    best: str
    not_below_best: list[str]
    """Those not significantly below the best."""
    fell_after: str | None
    conclusion: str
    """In words."""


class ReportDocument(TypedDict):
    """The file that --specdec-report=FILE.json writes. Later versions of the same schema add fields
    and change none.
    """

    schema: Literal[1]
    cases: list[ReportRow]
    """Sorted by id."""
    candidates: NotRequired[list[CandidateConclusion]]
    session: NotRequired[SessionFacts]


def report_schema() -> dict[str, Any]:
    """The schema, with the docstrings of classes and fields as descriptions."""
    schema = msgspec.json.schema(ReportDocument)
    assert schema["$defs"]["ReportDocument"]["properties"]["schema"] == {"enum": [SCHEMA]}
    cases = schema["$defs"]["ReportRow"]
    for name in HTML_ONLY:
        del cases["properties"][name]
        cases["required"].remove(name)
    for name in ("AttachmentRow", "ContextRow", "ShownToken", "TokenTextRow"):
        schema["$defs"].pop(name)
    classes = {**vars(row), **vars(facts), **globals()}
    for name, definition in schema["$defs"].items():
        for base in reversed(_bases(classes[name], classes)):
            for field, words in _described(base).items():
                if field in definition["properties"]:
                    definition["properties"][field]["description"] = words
        definition["description"] = _line(inspect.getdoc(classes[name]) or "")
    return {"$schema": URL, "title": "pytest-specdec report", **schema}


def _bases(of: Any, classes: dict[str, Any]) -> list[Any]:
    """A class of typed dictionaries and those that it names as its bases, nearest first."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(tree, ast.ClassDef)
    names = [base.id for base in tree.bases if isinstance(base, ast.Name)]
    return [of, *(classes[name] for name in names if name != "TypedDict")]


def _described(of: Any) -> dict[str, str]:
    """The docstring under each field of a class, where it has one."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[field.target.id] = _line(str(after.value.value))
    return found


def _line(text: str) -> str:
    return " ".join(text.split())
