"""Progress bars: past pytest's capture in its sessions, on standard error in commands, and silent
where no terminal listens.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, TextIO

from .printable import printable

if TYPE_CHECKING:
    import pytest

_SHAPE = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"


class Bars:
    """Callable as (what, done, total): one bar per `what`, which closes when all is done."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._bars: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._bars:
            from tqdm import tqdm

            self._begin()
            self._bars[what] = tqdm(
                total=total, desc=printable(what), file=self._file, ncols=80, bar_format=_SHAPE
            )
        bar = self._bars[what]
        bar.update(done - bar.n)
        if done >= total:
            self._bars.pop(what).close()

    def _begin(self) -> None:
        """Before a bar's first line."""


class ProgressBar(Bars):
    """Bars of a pytest session, on terminals only."""

    def __init__(self, config: pytest.Config) -> None:
        writer = config.get_terminal_writer()
        super().__init__(writer)
        self._config, self._line = config, writer.line
        self._silent = (
            hasattr(config, "workerinput") or not writer.hasmarkup or config.option.verbose < 0
        )

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._silent:
            with self._uncaptured():
                super().__call__(what, done, total)

    def _begin(self) -> None:
        self._line()  # pytest has begun its own line

    def _uncaptured(self) -> contextlib.AbstractContextManager[None]:
        """Measuring runs inside a fixture, where pytest captures what is written."""
        capture = self._config.pluginmanager.getplugin("capturemanager")
        return (
            contextlib.nullcontext() if capture is None else capture.global_and_fixture_disabled()
        )


class CommandProgress(Bars):
    """Bars of a command, and lines on what it does, on standard error, which leaves standard output
    to results.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        super().__init__(file or sys.stderr)

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._file.isatty():
            super().__call__(what, done, total)

    def say(self, line: str) -> None:
        """A line that also those read who watch no terminal."""
        print(line, file=self._file, flush=True)
