"""Whether a run covers its suites in full. Only then is a stored file that no test needs known to
be superfluous.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.options import OPTIONS
from ..config.settings import Settings

if TYPE_CHECKING:
    import pytest


@dataclasses.dataclass
class CollectedTests:
    """What collection went through, before any test was deselected."""

    generated: int = 0
    """Number of tests that were generated for cases."""
    folders: set[Path] = dataclasses.field(default_factory=set)
    """Folders of their files: the suites."""
    files: set[Path] = dataclasses.field(default_factory=set)
    """Collected test files."""

    def partial_reason(
        self, config: pytest.Config, settings: Settings, selected: int
    ) -> str | None:
        """Why the run is not full; None where it is."""
        for option in OPTIONS:
            if option.narrows and settings.command_line[option] is not None:
                return f"{option.flag} chooses cells by hand"
        if getattr(config.option, "collectonly", False):
            return "--collect-only runs nothing"
        if any("::" in argument for argument in config.args):
            return "the command line names single tests"
        if selected < self.generated:
            return f"only {selected} of {self.generated} tests of the suites were selected"
        if twin := next(
            filter(None, (self._twin(folder, settings.root) for folder in sorted(self.folders))),
            None,
        ):
            return f"{twin} shares its baselines with a folder that ran"
        patterns = config.getini("python_files")
        files = (
            path for folder in self.folders for pattern in patterns for path in folder.glob(pattern)
        )
        skipped = sorted(path.name for path in files if path not in self.files)
        return f"{skipped[0]} was not collected" if skipped else None

    def _twin(self, folder: Path, root: Path) -> str | None:
        """A suite's name has no leading `suites`, so `suites/chat` and `chat` are one."""
        try:
            parts = folder.relative_to(root).parts
        except ValueError:
            return None
        twin = (
            root.joinpath(*parts[1:])
            if parts[:1] == ("suites",)
            else root.joinpath("suites", *parts)
        )
        has_tests = twin not in self.folders and twin != root and any(twin.glob("*.py"))
        return str(twin.relative_to(root)) if has_tests else None
