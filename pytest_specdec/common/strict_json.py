"""JSON that other people write, read strictly: what Python's parser lets pass or trips over is one
plain error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

MOST_DEPTH = 64
"""Levels of nesting; nothing that we read has more than ten."""
_MOST_DIGITS = 300
"""Digits of a number; a double has at most 309."""


class JsonError(ValueError):
    """Text that is not acceptable JSON: what is wrong, and on which line, counted from 1."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line


def parse_json(text: str, *, infinities: bool = False) -> Any:
    """The value of a JSON text; with `infinities` as transformers writes it into config.json, where
    these may stand for numbers.

    Raises JsonError for anything else, and for a key that an object holds twice (Python keeps the
    last one silently), NaN and infinities (which are not JSON), numbers of more than 300 digits,
    nesting of more than 64 levels, and halves of surrogate pairs (which cannot be written back).
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=lambda pairs: _without_repeats(text, pairs),
            parse_constant=float
            if infinities
            else lambda name: _refuse(text, f"{name} is not a JSON number", name),
            parse_int=lambda digits: int(_short_number(text, digits)),
            parse_float=lambda digits: _finite(text, digits),
        )
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, error.lineno) from None
    except RecursionError:
        raise JsonError(f"nested more than {MOST_DEPTH} levels deep", 1) from None
    _check_values(text, value)
    return value


def _without_repeats(text: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for at, name in enumerate(names) if name in names[:at])
        _refuse(
            text,
            f"the key {json.dumps(repeated)} occurs twice in one object",
            json.dumps(repeated),
            last=True,
        )
    return members


def _short_number(text: str, digits: str) -> str:
    if len(digits) > _MOST_DIGITS:
        _refuse(text, f"a number of {len(digits)} digits", digits)
    return digits


def _finite(text: str, digits: str) -> float:
    value = float(_short_number(text, digits))
    if math.isinf(value):
        _refuse(text, f"the number {digits} is too large", digits)
    return value


def _refuse(text: str, problem: str, words: str, *, last: bool = False) -> NoReturn:
    at = text.rfind(words) if last else text.find(words)
    raise JsonError(problem, text.count("\n", 0, max(at, 0)) + 1)


def _check_values(text: str, value: Any) -> None:
    """Refuse deep nesting and strings that are not Unicode text; a loop, since recursion is what
    may fail here.
    """
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            if not value.isascii() and not _encodes(value):
                escape = re.search(r"\\u[dD][89a-fA-F]", text)
                raise JsonError(
                    "half of a surrogate pair, which is not a character",
                    text.count("\n", 0, escape.start() if escape else 0) + 1,
                )
            continue
        inner: Iterable[Any]
        if isinstance(value, dict):
            inner = (*value, *value.values())
        elif isinstance(value, list):
            inner = value
        else:
            continue
        if depth > MOST_DEPTH:
            raise JsonError(f"nested more than {MOST_DEPTH} levels deep", 1)
        waiting += [(item, depth + 1) for item in inner if isinstance(item, str | dict | list)]


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
