"""What `suites/engines/` says of each release of an engine, from pytest's JUnit files: a section of docs/engines.md.

    python benchmarks/engine_versions.py .venv-engines/versions/transformers-*.xml --into docs/engines.md

`make engine-transformers-versions` does it.
"""

from __future__ import annotations

import argparse
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HEADING = "## Releases of transformers"
_INTRODUCTION = """
Made by `make engine-transformers-versions`, each release in an environment of its own, by `suites/engines/` as it stands:
what passes there is right, what fails is a defect of that release, which the message names.

| transformers | passed | failed | skipped |
|---|---|---|---|
"""


class Finding(NamedTuple):
    """A test that did not pass."""

    test: str
    message: str
    """Its first sentence."""


class Release(NamedTuple):
    """One run of the suite."""

    version: str
    passed: int
    skipped: int
    findings: tuple[Finding, ...]


def read(path: Path) -> Release:
    """The run behind `transformers-5.24.0.xml`."""
    passed, skipped, findings = 0, 0, []
    for case in ET.parse(path).getroot().iter("testcase"):
        fault = next((own for own in case if own.tag in ("failure", "error")), None)
        if fault is not None:
            place = case.get("classname", "").rpartition("test_engines")[2].strip(".")
            name = "::".join(filter(None, (place, case.get("name", ""))))
            findings.append(Finding(name, first_sentence(fault.get("message", ""))))
        elif any(own.tag == "skipped" for own in case):
            skipped += 1
        else:
            passed += 1
    return Release(path.stem.removeprefix("transformers-"), passed, skipped, tuple(findings))


def first_sentence(message: str) -> str:
    """What was found, without the exception's name and what to do."""
    return re.sub(r"^[\w.]+(Error|Exception|Warning): ", "", message.strip()).split(";")[0].split("\n")[0].replace("|", "/")


def section(releases: Sequence[Release]) -> str:
    """The section, heading included."""
    rows = [f"| {own.version} | {own.passed} | {len(own.findings)} | {own.skipped} |" for own in releases]
    found = [f"* {own.version}, `{finding.test}`: {finding.message}." for own in releases for finding in own.findings] or [
        "* Nothing fails."
    ]
    return HEADING + "\n" + _INTRODUCTION + "\n".join(rows) + "\n\n" + "\n".join(found) + "\n"


def ordered(paths: Sequence[Path]) -> list[Release]:
    """Releases of these files, the oldest first."""
    return sorted(map(read, paths), key=lambda own: [int(part) for part in re.findall(r"\d+", own.version)])


def current(page: str) -> str:
    """The section that a page has. Raises SystemExit where it has none."""
    _, found, rest = page.partition(HEADING)
    if not found:
        raise SystemExit(f"the page has no section {HEADING!r}; run make engine-transformers-versions")
    return HEADING + rest.partition("\n## ")[0]


def replaced(page: str, made: str) -> str:
    """The page with this section in place of its old one, which reaches to the next heading."""
    return page.replace(current(page), made, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, help="a page whose section is replaced; else it is printed")
    arguments = parser.parse_args()
    made = section(ordered(arguments.runs))
    if arguments.into is None:
        sys.stdout.write(made)
    else:
        arguments.into.write_text(replaced(arguments.into.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
