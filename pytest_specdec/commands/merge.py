"""`merge`: the parts of all shards put together and judged, as one process would have."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run pytest with the shards' own command line, on what they measured. Tests, verdicts, "
        "baselines, reports and exit status are those of one process. Start it in the folder in "
        "which the shards were started."
    )
    parser.add_argument("parts", type=Path, nargs="+", metavar="PART")


def run(arguments: argparse.Namespace) -> int:
    import pytest

    from ..engines.shards import MergedParts, read_parts

    parts = read_parts(arguments.parts)
    # This package is imported already, of which pytest warns; projects may make that an error.
    given = os.environ.get("PYTEST_ADDOPTS", "")
    os.environ["PYTEST_ADDOPTS"] = f"{given} -W ignore::pytest.PytestAssertRewriteWarning".strip()
    return int(pytest.main([*parts[0].header.arguments], plugins=[MergedParts(parts)]))
