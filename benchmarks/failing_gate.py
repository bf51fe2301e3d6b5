"""Show a failing gate in the README and in docs/gate.md, from a real run.

    python benchmarks/failing_gate.py

Runs the README's last command on a draft model with noise on its weights, and writes what the first
failed test prints into docs/failing-gate.svg, the picture's alt text in README.md, and the example
in docs/gate.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

from add_noise import add_noise

ROOT = Path(__file__).parent.parent
PICTURE, README, GATE = (
    ROOT / name for name in ("docs/failing-gate.svg", "README.md", "docs/gate.md")
)
WORSE = "/tmp/worse-draft"  # the README's name for it
COMMAND = ("pytest", "--specdec-k=8", "suites/text", f"--specdec-draft={WORSE}")
FONT, LINE, CHARACTER, MARGIN = 12, 17, 7.25, 14
"""Pixels: the size of the font, of a line, of a character's width, and of the space around."""
EXAMPLE = r"(<!-- failing_gate.py -->\n```text\n)(.*?)(\n```)"
LABELS = 12
"""Characters that a fact's label takes at the start of its line."""


def failing_run() -> list[str]:
    """The lines that the run prints, colours left out. Raises CalledProcessError where the gate
    does not fail.
    """
    with tempfile.TemporaryDirectory() as folder:
        worse = add_noise(ROOT / "suites" / "models" / "text-draft", Path(folder) / "draft", 0.05)
        command = [word.replace(WORSE, str(worse)) for word in COMMAND]
        run = subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode != 1:
            raise subprocess.CalledProcessError(run.returncode, command, run.stdout, run.stderr)
        return run.stdout.replace(str(worse), WORSE).splitlines()


def first_message(lines: list[str]) -> list[str]:
    """The message of the first failed gate: its headline, and the facts below it."""
    start = next(at for at, line in enumerate(lines) if "speculative decoding gate" in line) + 1
    end = next(at for at in range(start, len(lines)) if lines[at].startswith("____"))
    return lines[start:end]


def shown_message() -> list[str]:
    """The message that docs/gate.md shows."""
    (text,) = re.findall(EXAMPLE, GATE.read_text(), re.DOTALL)
    return str(text[1]).splitlines()


def label(line: str) -> str:
    """What a line of the message is about; empty for its headline and where a line is continued."""
    return line[:LABELS].strip() if line.startswith("  ") else ""


def picture(lines: list[str], alt: str) -> str:
    """A terminal as SVG: light, with a ground of its own, so that it reads on any page."""
    width = round(max(map(len, lines)) * CHARACTER) + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    rows = "\n".join(
        f'<text x="{MARGIN}" y="{MARGIN + FONT + number * LINE}">{_styled(line)}</text>'
        for number, line in enumerate(lines)
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" role="img" xml:space="preserve">
<title>{escape(alt)}</title>
<style>
text {{ font: {FONT}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
fill: #1f2328; }}
.failed {{ fill: #b3261e; font-weight: bold; }}
.label {{ fill: #0550ae; }}
.faint {{ fill: #59636e; }}
</style>
<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6" fill="#f6f8fa" \
stroke="#afb8c1"/>
{rows}
</svg>
"""


def _styled(line: str) -> str:
    if line.startswith(("$ ", "---")):
        return f'<tspan class="faint">{escape(line)}</tspan>'
    if " regressed: " in line:
        return f'<tspan class="failed">{escape(line)}</tspan>'
    if label(line):
        return f'<tspan class="label">{escape(line[:LABELS])}</tspan>{escape(line[LABELS:])}'
    return escape(line)


def shown(lines: list[str]) -> list[str]:
    """What the picture shows of a run: the command, the progress of its tests, the first
    message.
    """
    progress = next(line for line in lines if line.startswith("suites/text/test_text.py F"))
    rule = next(line for line in lines if "speculative decoding gate" in line)
    return [f"$ {' '.join(COMMAND)}", progress, "...", rule, *first_message(lines)]


def alt_text(message: list[str]) -> str:
    """The message in one line for those who do not see the picture."""
    return "A failing gate. " + " ".join(" ".join(message).split())


def main() -> None:
    lines = failing_run()
    message = first_message(lines)
    alt = alt_text(message)
    PICTURE.write_text(picture(shown(lines), alt))
    text = "\n".join(message)
    for page, pattern, new in (
        (README, r'(<img src="docs/failing-gate.svg" alt=")[^"]*(")', escape(alt)),
        (GATE, EXAMPLE, text),
    ):
        changed, count = re.subn(
            pattern,
            lambda found, new=new: found[1] + new + found[found.re.groups],  # type: ignore[misc]
            page.read_text(),
            flags=re.DOTALL,
        )
        if count != 1:
            raise SystemExit(f"{page}: expected one place for the message, found {count}")
        page.write_text(changed)


if __name__ == "__main__":
    main()
