"""What the reports say of the session itself."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import shlex
from typing import TYPE_CHECKING

import pytest

from ..common.printable import printable
from .workers import command_line

if TYPE_CHECKING:
    from ..report.facts import SessionFacts


def session_facts(config: pytest.Config) -> SessionFacts:
    """Command, date, commit and versions of a session, on xdist's controller or without workers."""
    from ..baselines.commits import head_commit
    from ..report.facts import SessionFacts

    now = datetime.datetime.now(datetime.UTC)
    return SessionFacts(
        command=printable(shlex.join(["pytest", *command_line(config)])),
        date=now.isoformat(timespec="seconds"),
        commit=head_commit(config.rootpath) or "",
        version=importlib.metadata.version("pytest-specdec"),
        python=platform.python_version(),
        platform=printable(platform.platform()),
    )
