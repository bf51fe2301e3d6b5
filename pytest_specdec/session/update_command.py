"""The session's command line: as reports show it, and with --specdec-update added, as failure
messages suggest it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from ..common.printable import redacted_url
from ..config.options import OPTIONS

_LEFT_OUT = (
    "--specdec-update",
    "--specdec-prompts",
    "--specdec-accumulate",
    "--specdec-prune",
    "--specdec-report",
)
"""Our options that decide nothing of what a baseline holds, or would store a part of it."""
_URLS = ("--specdec-url", "--specdec-draft-url")
_FLAGS = {option.flag for option in OPTIONS if option.action == "store_true"}
_SELECTING = (
    "-k",
    "-m",
    "-c",
    "-o",
    "-p",
    "--config-file",
    "--override-ini",
    "--rootdir",
    "--deselect",
    "--ignore",
)
"""pytest's own options that decide which tests run, and with which settings; each takes a value."""


def shown_command(given: Iterable[str], paths: Sequence[str]) -> str:
    """`pytest ...` as reports show it: our URLs without credentials, and values of other plugins'
    options as `...`, for they may be secrets.
    """
    shown: list[str] = []
    words = iter(map(str, given))
    for word in words:
        name, equals, value = word.partition("=")
        if name in _URLS:
            shown += (
                [f"{name}={redacted_url(value)}"]
                if equals
                else [name, *map(redacted_url, [next(words, "")])]
            )
        elif name.startswith("--specdec-") or _selects(word):
            glued = equals or name in _FLAGS or _glued(word)
            shown += [word] if glued else [word, *([next(words, "")])]
        elif word in paths or (word.startswith("-") and not word.startswith("--")):
            shown.append(word)
        elif word.startswith("--"):
            shown.append(f"{name}=..." if equals else word)
        else:
            shown.append("...")
    return shlex.join(["pytest", *shown]).replace("'...'", "...")


def update_command(given: Iterable[str], paths: Sequence[str], which: str) -> str:
    """`pytest ... --specdec-update=which` from the words of a command line.

    `paths` are the words that pytest took as files and node ids. Reports, verbosity and other
    plugins' options are left out: they have no part in what is measured.
    """
    kept: list[str] = []
    words = iter(map(str, given))
    for word in words:
        name, equals, given_here = word.partition("=")
        ours = name.startswith("--specdec-")
        if not ours and not _selects(word):
            kept += [word] * (word in paths)
            continue
        value = [] if equals or name in _FLAGS or _glued(word) else [next(words, "")]
        if name in _URLS:
            kept += (
                [f"{name}={redacted_url(given_here)}"]
                if equals
                else [name, *map(redacted_url, value)]
            )
        elif name not in _LEFT_OUT:
            kept += [word, *value]
    return shlex.join(["pytest", *kept, f"--specdec-update={which}"])


def _selects(word: str) -> bool:
    return word.partition("=")[0] in _SELECTING or _glued(word)


def _glued(word: str) -> bool:
    """Whether a short option is written together with its value, as `-mk8`."""
    return word[:2] in _SELECTING and len(word) > 2 and not word.startswith("--")
