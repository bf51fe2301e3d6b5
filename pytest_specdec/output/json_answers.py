"""Answers that are held to a JSON schema: whole ones, and those that a limit has cut."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

from .languages import Language, Part
from .tool_calls import TOOL

SCHEMA: dict[str, Any] = TOOL["function"]["parameters"]
"""Of the answers that are asked for: an object of enumerations, some letters of several bytes."""
_OUTSIDE = re.compile(r'"[^"]*"?|[^"]+')


def schema_fault(text: str, finish: str | None) -> str | None:
    """Why a text is not what the schema allows; None where it is, and where a limit cut one."""
    try:
        read = json.loads(text)
    except ValueError:
        if finish == "length" and begins_answer(text):
            return None
        return "the text is no JSON, and begins none" if finish == "length" else "it is no JSON"
    properties: Mapping[str, Any] = SCHEMA["properties"]
    if not isinstance(read, dict) or set(read) != set(properties):
        return "the text is JSON of another form than the schema's"
    for name, wanted in properties.items():
        if not any(read[name] == one and type(read[name]) is type(one) for one in _allowed(wanted)):
            return f"{name} is {read[name]!r}, which the schema does not allow"
    return None


def begins_answer(text: str) -> bool:
    """Whether a text begins one that the schema allows: spaces between its parts do not count, and
    properties have any order. Escaped letters are not read.
    """
    if "\\" in text:
        return True
    parts = _OUTSIDE.findall(text)
    compact = "".join(part if part[0] == '"' else "".join(part.split()) for part in parts)
    return any(_object(names).viable(compact) for names in itertools.permutations(_PROPERTIES))


_PROPERTIES = tuple(SCHEMA["properties"])


def _object(names: tuple[str, ...]) -> Language:
    parts = []
    for number, name in enumerate(names):
        values = [
            json.dumps(one, ensure_ascii=False) for one in _allowed(SCHEMA["properties"][name])
        ]
        parts.append(Part(words=(f"{'{,'[number > 0]}{json.dumps(name)}:",)))
        parts.append(Part(words=tuple(values)))
    return Language(parts=(*parts, Part(words=("}",))))


def _allowed(wanted: Mapping[str, Any]) -> list[Any]:
    values: list[Any] = wanted.get("enum", [True, False])
    return values
