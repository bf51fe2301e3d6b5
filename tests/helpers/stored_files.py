"""Stored files as somebody might have changed them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_specdec.baselines.writing import digest_of


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a stored file's JSON, and write it with the digest that goes with the change."""
    path.write_text(resealed(path.read_text(encoding="utf-8"), change), encoding="utf-8")


def resealed(text: str, change: Callable[[dict[str, Any]], object]) -> str:
    """The text of a stored file after a change, with the digest that goes with it."""
    data = json.loads(text)
    change(data)
    if data["schema"] > 1:
        data["digest"] = digest_of(data)
    return json.dumps(data, indent=2)
