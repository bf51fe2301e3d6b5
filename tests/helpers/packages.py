"""Packages that add something through entry points: a module and a dist-info folder on sys.path."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.support import ROOT


def example(page: str, number: int = 0) -> str:
    """A python example of a page of docs/, the first one by default."""
    text = (ROOT / "docs" / page).read_text()
    examples: list[str] = re.findall(r"```python\n(.*?)```", text, re.S)
    return examples[number]


@contextmanager
def installed(folder: Path, module: str, source: str, points: dict[str, str]) -> Iterator[None]:
    """A package of one module whose entry points are `{group: "name = value"}`, while the block
    runs.
    """
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"[{group}]\n{line}\n" for group, line in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        try:
            yield
        finally:
            sys.modules.pop(module, None)
