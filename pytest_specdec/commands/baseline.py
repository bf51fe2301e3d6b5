"""`baseline diff`: what an update changed. `baseline migrate`: files of an older schema,
rewritten.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    diff = actions.add_parser(
        "diff",
        help="what changed from A to B: exit status 0 where nothing did, 1 where something did",
    )
    diff.add_argument("before", type=Path, metavar="A", help="a baseline file or a folder of them")
    diff.add_argument("now", type=Path, metavar="B")
    migrate = actions.add_parser(
        "migrate", help="rewrite stored files of an older schema; nothing is measured again"
    )
    migrate.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of the baselines")


def run(asked: argparse.Namespace) -> int:
    return {"diff": _diff, "migrate": _migrate}[asked.action](asked)


def _diff(asked: argparse.Namespace) -> int:
    from ..baselines.diff import differences
    from ..common.printable import printable

    found = differences(asked.before, asked.now)
    for difference in found:
        print("\n".join(map(printable, difference.lines())))
    return 1 if found else 0


def _migrate(asked: argparse.Namespace) -> int:
    from ..baselines.migrate import migrated
    from ..baselines.store import write_all
    from ..records.record import SCHEMA

    files = migrated(asked.folder)
    write_all(files)
    print(
        f"{len(files)} files rewritten as schema {SCHEMA}"
        if files
        else f"every file is of schema {SCHEMA} already"
    )
    return 0
