"""What an xdist worker sends to the controller when it ends, as plain data. Rows of reports travel
with their tests' reports.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

_KEY = "specdec"
"""Our place in a worker's output."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerResults:
    """A worker's share of the session."""

    problem: str | None = None
    files: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    stale: Collection[Path] = ()
    unseen: Collection[str] = ()
    """Cases that the gate failed while their tests passed."""

    def send(self, output: dict[str, Any]) -> None:
        """Put the results into a worker's output."""
        output[_KEY] = {
            "problem": self.problem,
            "files": {str(path): text for path, text in self.files.items()},
            "stale": [str(path) for path in self.stale],
            "unseen": sorted(self.unseen),
        }

    @classmethod
    def receive(cls, output: Mapping[str, Any]) -> WorkerResults:
        """Read a worker's output, which lacks ours where the worker crashed."""
        sent = output.get(_KEY, {})
        return cls(
            problem=sent.get("problem"),
            files={Path(path): text for path, text in sent.get("files", {}).items()},
            stale=[Path(path) for path in sent.get("stale", ())],
            unseen=sent.get("unseen", ()),
        )


def worker_output(config: pytest.Config) -> dict[str, Any] | None:
    """Where a worker puts its results; None on the controller and without xdist."""
    output: dict[str, Any] | None = getattr(config, "workeroutput", None)
    return output


def command_line(config: pytest.Config) -> tuple[str, ...]:
    """The words of the session's command line, on a worker those of its controller."""
    worker_input = getattr(config, "workerinput", None)
    words = worker_input["mainargv"][1:] if worker_input else config.invocation_params.args
    return tuple(map(str, words))
