"""Real llama.cpp servers of the embedded pair for tests; skipped, with what to do, where they
cannot run.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.support import EMBEDDED

SCRIPT = Path(__file__).parent / "serve_llama_cpp.py"


def interpreter() -> str:
    """The Python that has xllamacpp: this one, or the one named by SPECDEC_XLLAMACPP."""
    named = os.environ.get("SPECDEC_XLLAMACPP")
    if named is None and importlib.util.find_spec("xllamacpp") is None:
        pytest.skip(
            "xllamacpp is not installed: pip install xllamacpp, or set SPECDEC_XLLAMACPP to a "
            "Python that has it; then run "
            "pytest tests/engines"
        )
    return named or sys.executable


def gguf(role: str) -> Path:
    """The embedded target or draft model in GGUF form."""
    path = EMBEDDED / f"text-{role}" / "gguf" / "model.gguf"
    if not path.exists():
        pytest.skip(f"{path} is not there; convert it: python suites/models/convert.py")
    return path


@contextmanager
def llama_server(
    target: str = "target", draft: str | None = None, rates: str = ""
) -> Iterator[str]:
    """The address of a server that runs until the block ends."""
    command = [
        interpreter(),
        str(SCRIPT),
        str(gguf(target)),
        *([str(gguf(draft)), rates] if draft else []),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            address = ""
            while not address.startswith("http"):
                if not (address := process.stdout.readline()):
                    pytest.fail(f"llama.cpp's server did not start: {' '.join(command)}")
            yield address.strip()
        finally:
            process.kill()
