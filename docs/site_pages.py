"""A hook of MkDocs: the pages of the root folder join the site, and links lead to them there.

On GitHub the same links lead to the files where they lie.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
}
"""Pages of the root folder, and their names in the site."""
_LINK = re.compile(r"(\]\(|\bsrc=\")([\w./-]+?)(#[\w-]+)?([)\"])")


def moved_links(text: str, page: str) -> str:
    """A page's links as they are in the site; `page` is its path from the root folder."""

    def moved(link: re.Match[str]) -> str:
        opening, name, anchor, closing = link.groups()
        place = posixpath.normpath(posixpath.join(posixpath.dirname(page), name))
        if place == "docs/decisions":
            place = "docs/decisions/README.md"
        there = posixpath.relpath(_in_site(place), posixpath.dirname(_in_site(page)) or ".")
        return f"{opening}{there}{anchor or ''}{closing}"

    return _LINK.sub(moved, text)


def _in_site(place: str) -> str:
    return PAGES.get(place, place.removeprefix("docs/"))


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages of the root folder."""
    from mkdocs.structure.files import File

    for name, there in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, there, content=moved_links(text, name)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links of a page of docs/ that lead to the root folder."""
    uri = page.file.src_uri
    return markdown if uri in PAGES.values() else moved_links(markdown, f"docs/{uri}")
