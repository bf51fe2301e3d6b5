"""Stored files as somebody might have changed them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_specdec.baselines.writing import digest_of


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a stored file's JSON, and write it with the digest that goes with the change."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    if data["schema"] > 1:
        data["digest"] = digest_of(data)
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")
