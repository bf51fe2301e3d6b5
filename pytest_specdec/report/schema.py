"""The JSON Schemas of the .json report and of cards, made from their types and docstrings."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any, Literal, NotRequired, TypedDict

import msgspec

from . import card, facts, row
from .card import CardDocument
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
    return _described_schema(schema, {**vars(row), **vars(facts), **globals()}, "report")


def card_schema() -> dict[str, Any]:
    """The schema of the JSON that the command `card` writes, with descriptions, too."""
    return _described_schema(msgspec.json.schema(CardDocument), vars(card), "card")


def _described_schema(
    schema: dict[str, Any], classes: dict[str, Any], title: str
) -> dict[str, Any]:
    for name, definition in schema["$defs"].items():
        for base in reversed(_bases(classes[name], classes)):
            for field, words in _described(base).items():
                if field in definition["properties"]:
                    definition["properties"][field]["description"] = words
        definition["description"] = _line(inspect.getdoc(classes[name]) or "")
    return {"$schema": URL, "title": f"pytest-specdec {title}", **schema}


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
