"""Options of a command in messages that name those of pytest."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping

_OPTION = re.compile(r"--specdec-([a-z0-9]+(?:-[a-z0-9]+)*)(=?)")


def own_options(parser: argparse.ArgumentParser) -> dict[str, str]:
    """What stands for each option of pytest on a command's line, by the option's name without
    `--specdec-`: `--NAME`, or the name of an argument that has no option, as URL.
    """
    names: dict[str, str] = {}
    for action in parser._actions:
        names.update((text[2:], text) for text in action.option_strings if text.startswith("--"))
        if action.dest == "url" and not action.option_strings:
            names["url"] = str(action.metavar)
    return names


def with_own_options(message: str, names: Mapping[str, str]) -> str:
    """The message for the reader of a command. An option of pytest that the command does not have
    stays as it is: it is an option of pytest.

    Example: of check-engine, `use --specdec-k=3` becomes `use --k=3`, and `use
    --specdec-temperature=0` stays.
    """

    def own(found: re.Match[str]) -> str:
        name, equals = found.groups()
        if name not in names:
            return found[0]
        if names[name].startswith("--"):
            return names[name] + equals
        return "" if equals else names[name]

    return _OPTION.sub(own, message)
