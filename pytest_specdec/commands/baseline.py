"""`baseline diff`: what an update changed. `baseline forget-erosion`: slow erosion, accepted.
`baseline migrate`: files of an older schema, rewritten. `baseline recover`: an update that was cut
short, completed. `baseline sizes`: how large they are.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    diff = actions.add_parser(
        "diff",
        help="what changed from A to B: exit status 0 where nothing did, 1 where something did",
    )
    diff.add_argument("before", type=Path, metavar="A", help="a baseline file or a folder of them")
    diff.add_argument("now", type=Path, metavar="B")
    forget = actions.add_parser(
        "forget-erosion",
        help="accept slow erosion: baselines forget those that they replaced",
    )
    forget.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="a baseline file or a folder of them"
    )
    sizes = actions.add_parser("sizes", help="bytes by kind of file, per case and per prompt")
    sizes.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of the baselines")
    migrate = actions.add_parser(
        "migrate", help="rewrite stored files of an older schema; nothing is measured again"
    )
    recover = actions.add_parser(
        "recover", help="complete an update that was cut short, as the next session would"
    )
    for action in (migrate, recover):
        action.add_argument(
            "folder", type=Path, metavar="FOLDER", help="the folder of the baselines"
        )


def run(arguments: argparse.Namespace) -> int:
    actions = {
        "diff": _diff,
        "forget-erosion": _forget,
        "migrate": _migrate,
        "recover": _recover,
        "sizes": _sizes,
    }
    return actions[arguments.action](arguments)


def _diff(arguments: argparse.Namespace) -> int:
    from ..baselines.diff import differences
    from ..common.printable import printable

    changes = differences(arguments.before, arguments.now)
    for difference in changes:
        print("\n".join(map(printable, difference.lines())))
    return 1 if changes else 0


def _sizes(arguments: argparse.Namespace) -> int:
    from ..baselines.sizes import sizes

    print("\n".join(sizes(arguments.folder).lines()))
    return 0


def _forget(arguments: argparse.Namespace) -> int:
    from ..baselines.forget import forgetting
    from ..baselines.update import update

    files = forgetting(arguments.paths)
    if files:
        update(Path(os.path.commonpath([path.absolute().parent for path in files])), files)
    print(
        f"erosion of {len(files)} baseline{'s' * (len(files) > 1)} forgotten"
        if files
        else "no baseline remembers one before it"
    )
    return 0


def _migrate(arguments: argparse.Namespace) -> int:
    from ..baselines.migrate import migrated
    from ..baselines.update import recover, update
    from ..records.record import SCHEMA

    recover(arguments.folder)
    files = migrated(arguments.folder)
    update(arguments.folder, files)
    print(
        f"{len(files)} files rewritten as schema {SCHEMA}"
        if files
        else f"every file is of schema {SCHEMA} already"
    )
    return 0


def _recover(arguments: argparse.Namespace) -> int:
    from ..baselines.update import recover

    print("\n".join(recover(arguments.folder)) or "no update was cut short")
    return 0
