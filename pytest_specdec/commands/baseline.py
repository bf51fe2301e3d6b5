"""`baseline diff`: what an update changed."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    diff = actions.add_parser("diff", help="what changed from A to B: exit status 0 where nothing did, 1 where something did")
    diff.add_argument("before", type=Path, metavar="A", help="a baseline file or a folder of them")
    diff.add_argument("now", type=Path, metavar="B")


def run(asked: argparse.Namespace) -> int:
    from ..baselines.diff import differences
    from ..printable import printable

    found = differences(asked.before, asked.now)
    for difference in found:
        print("\n".join(map(printable, difference.lines())))
    return 1 if found else 0
