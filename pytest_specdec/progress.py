"""A progress bar that reaches the terminal past pytest's capture, and stays silent everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


class ProgressBar:
    """Callable as (what, done, total); one bar per `what`."""

    def __init__(self, config: pytest.Config) -> None:
        writer = config.get_terminal_writer()
        self._silent = hasattr(config, "workerinput") or not writer.hasmarkup or config.option.verbose < 0
        self._writer, self._bars = writer, dict[str, Any]()

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._silent:
            return
        if what not in self._bars:
            from tqdm import tqdm

            self._writer.line()
            self._bars[what] = tqdm(total=total, desc=what, unit="text", file=self._writer, ncols=80)
        bar = self._bars[what]
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
