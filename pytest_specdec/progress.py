"""A progress bar that reaches the terminal past pytest's capture, and stays silent everywhere else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


class ProgressBar:
    """Callable as (what, done, total); one bar per `what`, in units of its own, on terminals only."""

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._writer = config, config.get_terminal_writer()
        self._silent = hasattr(config, "workerinput") or not self._writer.hasmarkup or config.option.verbose < 0
        self._bars: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._silent:
            with self._uncaptured():
                self._draw(what, done, total)

    def _draw(self, what: str, done: int, total: int) -> None:
        if what not in self._bars:
            from tqdm import tqdm

            self._writer.line()
            self._bars[what] = tqdm(total=total, desc=what, unit="", file=self._writer, ncols=80)
        bar = self._bars[what]
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    def _uncaptured(self) -> contextlib.AbstractContextManager[None]:
        """Measuring runs inside a fixture, where pytest captures what is written."""
        capture = self._config.pluginmanager.getplugin("capturemanager")
        return contextlib.nullcontext() if capture is None else capture.global_and_fixture_disabled()
