"""The git commit at which a folder of baselines is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_SECONDS = 10.0


def head_commit(folder: Path) -> str | None:
    """HEAD of the git repository that holds a folder, which git reads from its files alone; None
    where there is no git, no repository or no commit.
    """
    git = shutil.which("git")
    if git is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603  # fixed words, no shell
            [git, "rev-parse", "--verify", "--quiet", "HEAD"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    commit = answer.stdout.strip()
    return commit if _HASH.fullmatch(commit) else None
