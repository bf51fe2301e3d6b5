"""The text that the embedded pair learns: real prose and code, plus structured text that we
generate.

Nothing is downloaded. Prose is `pydoc_data.topics` and the docstrings of the standard library,
code is the standard library itself; JSON, arithmetic and dialogue come from seeded templates.
"""

from __future__ import annotations

import ast
import json
import random
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from pydoc_data.topics import topics

CATEGORIES = ("prose", "code", "json", "arithmetic", "dialogue")
_SKIPPED_FOLDERS = {
    "site-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
}

_NAMES = ["Mia", "Tom", "Ana", "Leo", "Zoe", "Sam", "Ivy", "Max"]
_ANIMALS = ["cat", "dog", "fox", "bird", "frog", "bear", "owl", "hare"]
_PLACES = ["garden", "forest", "river", "market", "harbour", "library", "station", "school"]
_THINGS = ["lamp", "apple", "kite", "map", "stone", "letter", "key", "coat"]
_MOODS = ["small", "old", "happy", "quiet", "brave", "hungry", "tired", "clever"]


def _stdlib_sources() -> Iterator[str]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if not _SKIPPED_FOLDERS & set(path.relative_to(root).parts):
            try:
                yield path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def _docstrings(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) > 80:
                yield text


def _pieces(text: str, size: int) -> Iterator[str]:
    """Cut a long text into documents of about `size` characters, at line ends."""
    lines: list[str] = []
    length = 0
    for line in text.splitlines():
        lines.append(line)
        length += len(line) + 1
        if length >= size:
            yield "\n".join(lines) + "\n"
            lines, length = [], 0
    if length > size // 4:
        yield "\n".join(lines) + "\n"


def _prose() -> list[str]:
    texts = list(topics.values())
    for source in _stdlib_sources():
        texts.extend(_docstrings(source))
    return [piece for text in texts for piece in _pieces(text, 900)]


def _code(rng: random.Random) -> list[str]:
    pieces = [piece for source in _stdlib_sources() for piece in _pieces(source, 900)]
    return rng.sample(pieces, min(len(pieces), 2500))


def json_document(rng: random.Random) -> str:
    records = [
        {
            "id": rng.randint(100, 999),
            "name": rng.choice(_NAMES),
            "place": rng.choice(_PLACES),
            "tags": rng.sample(_THINGS, 2),
            "price": round(rng.uniform(1, 90), 2),
            "active": rng.random() < 0.5,
        }
        for _ in range(rng.randint(5, 8))
    ]
    return "[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n"


def arithmetic_document(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(14, 24)):
        a, b = rng.randint(1, 60), rng.randint(1, 60)
        name, result = rng.choice((("+", a + b), ("-", a - b), ("*", a * b)))
        lines.append(f"{a} {name} {b} = {result}")
    return "\n".join(lines) + "\n"


def _exchange(rng: random.Random, one: str, two: str) -> Iterator[str]:
    thing, place, animal = rng.choice(_THINGS), rng.choice(_PLACES), rng.choice(_ANIMALS)
    yield f"{one}: Have you seen my {thing}?"
    yield f"{two}: I think the {rng.choice(_MOODS)} {animal} took it to the {place}."
    yield rng.choice(
        (f"{one}: Then we should go to the {place} now.", f"{one}: The {place} is far from here.")
    )
    yield (
        f"{two}: Wait, the {thing} is under the {rng.choice(['bench', 'tree', 'bridge', 'table'])}!"
    )
    yield f"{one}: Thank you, {two}. You are {rng.choice(_MOODS)}."


def dialogue_document(rng: random.Random) -> str:
    one, two = rng.sample(_NAMES, 2)
    lines = [line for _ in range(rng.randint(3, 5)) for line in _exchange(rng, one, two)]
    return "\n".join(lines) + "\n"


def documents(seed: int) -> list[str]:
    """All training documents, shuffled; the same list for the same seed and Python version."""
    rng = random.Random(seed)
    makers: tuple[tuple[Callable[[random.Random], str], int], ...] = (
        (json_document, 1300),
        (arithmetic_document, 1500),
        (dialogue_document, 1300),
    )
    texts = _prose() + _code(rng)
    texts += [make(rng) for make, count in makers for _ in range(count)]
    rng.shuffle(texts)
    return texts
