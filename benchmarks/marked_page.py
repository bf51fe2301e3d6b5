"""Pages of docs that a benchmark writes between its marks."""

from __future__ import annotations

import re
from pathlib import Path


def marks_of(script: str) -> re.Pattern[str]:
    """What stands between `<!-- SCRIPT -->` and `<!-- SCRIPT ends -->`, with these lines."""
    name = re.escape(script)
    return re.compile(rf"(<!-- {name} -->\n).*(\n<!-- {name} ends -->)", re.DOTALL)


def replaced(page: str, marked: re.Pattern[str], lines: str) -> str:
    """The page with new lines between its marks. Raises SystemExit where it has not one pair."""
    changed, count = marked.subn(lambda marks: marks[1] + lines + marks[2], page)
    if count != 1:
        raise SystemExit(
            f"expected one pair of marks {marked.pattern!r} in the page, found {count}"
        )
    return changed


def write_lines(path: Path, marked: re.Pattern[str], lines: str) -> None:
    """Write a page anew with lines between its marks; a page without them is left as it is."""
    path.write_text(replaced(path.read_text(encoding="utf-8"), marked, lines), encoding="utf-8")
