"""Cards of drafters that are there already, and names in them, as originals for `fuzz_inputs.py`: files
whose place for a card is filled anew, and cards that are written with strings of others.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from served_inputs import Served

from pytest_specdec.commands.card import _read_before, _write
from pytest_specdec.common.printable import escaped
from pytest_specdec.report.card_page import BEGIN, END, render_card

STORED = Path(__file__).parent.parent / "docs" / "cards" / "text-eagle3.json"
_TAGS = {"<details>", "<summary>", "</summary>", "<pre>", "</pre>", "</details>", BEGIN, END}
_README = f"# A head of 2026\n\n| a | b |\n|---|---|\n\n{BEGIN}\nold\n{END}\n\n## License\n"


def card_kinds() -> list[Served]:
    """Each kind."""
    pages = [_README.encode(), _README.replace("\n", "\r\n").encode()]
    return [
        Served("pages with a card", pages, _replaced, _wrong_page),
        Served("cards", [STORED.read_bytes()], _named, _wrong_card),
    ]


def _replaced(raw: bytes, folder: Path) -> tuple[bytes, bytes]:
    """A page before and after a card is written into it."""
    path = folder / "README.md"
    path.write_bytes(raw)
    _written(json.loads(STORED.read_text(encoding="utf-8")), path)
    return raw, path.read_bytes()


def _written(card: Any, *paths: Path) -> None:
    before = {path: _read_before(path) for path in paths}
    with contextlib.redirect_stdout(io.StringIO()):
        _write(card, before)


def _wrong_page(value: tuple[bytes, bytes]) -> Iterator[str]:
    before, after = value
    begin, end = BEGIN.encode(), END.encode()
    if before.partition(begin)[0] != after.partition(begin)[0]:
        yield "what stands before the card changed"
    left, kept = (page.partition(end)[2] for page in value)
    if kept.lstrip(b"\r\n") != left.lstrip(b"\r\n"):
        yield "what stands after the card changed"
    if after.count(begin) != 1 or after.count(end) != 1:
        yield "not one place for a card"
    if (
        b"\r\n" in before
        and b"\n" not in before.replace(b"\r\n", b"")
        and re.search(rb"(?<!\r)\n", after)
    ):
        yield "mixed line ends"


def _named(raw: bytes, folder: Path) -> tuple[str, Any, Any]:
    """The page of a card with the strings of a mutant, and the card as it is stored and written."""
    path = folder / "card.json"
    path.write_bytes(raw)
    _read_before(path)
    held = json.loads(raw)
    card = _with_strings(json.loads(STORED.read_text(encoding="utf-8")), held)
    page = folder / "page.md"
    _written(card, path, page)
    return page.read_text(encoding="utf-8"), held, json.loads(path.read_text(encoding="utf-8"))


def _with_strings(own: Any, mutant: Any) -> Any:
    """A card's values, with a mutant's strings in the place of its own."""
    if isinstance(own, dict) and isinstance(mutant, dict):
        return {name: _with_strings(value, mutant.get(name)) for name, value in own.items()}
    if isinstance(own, list) and isinstance(mutant, list):
        if own and isinstance(own[0], str):
            return [item for item in mutant if isinstance(item, str)]
        return [*map(_with_strings, own, mutant), *own[len(mutant) :]]
    return mutant if isinstance(own, str) and isinstance(mutant, str) else own


def _wrong_card(value: tuple[str, Any, Any]) -> Iterator[str]:
    page, held, stored = value
    if held.get("schema") != 1 or not isinstance(held["card"], dict):
        yield "no card was replaced"
    if page != render_card(stored):
        yield "page and file differ"
    if escaped(page, keep="\n") != page:
        yield "letters that steer a terminal"
    if not set(re.findall(r"<[^<>]*>?", page)) <= _TAGS:
        yield f"a tag: {set(re.findall('<[^<>]*>?', page)) - _TAGS}"
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        yield "not one place for a card"
    for block in re.findall(r"<details>.*?</details>", page, re.DOTALL):
        if any(not line.strip() for line in block.splitlines()):
            yield "a blank line ends a folded part"
    widths: list[int] = []
    for line in page.splitlines():
        bars = len(re.findall(r"(?<!\\)\|", line))
        widths = [*widths, bars] if line.startswith("|") else []
        if widths and widths[0] != bars:
            yield "a row has other columns than its table"
