"""What `suites/engines/` says of each release of an engine, from pytest's JUnit files: a section of
docs/engines.md.

    python benchmarks/engine_versions.py .venv-engines/versions/*.xml --into docs/engines.md

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
Made by `make engine-transformers-versions`, each release in an environment of its own, by
`suites/engines/` as it stands: what passes there is right, what fails is a defect of that release,
which the message names. *Known* tests fail by a defect that the suite already expects of that
release.

| transformers | passed | failed | known | skipped |
|---|---|---|---|---|
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
    known: tuple[Finding, ...]
    """Tests that the suite expects to fail."""


def read(path: Path) -> Release:
    """The run behind `transformers-5.24.0.xml`."""
    passed, skipped, findings, known = 0, 0, [], []
    for case in ET.parse(path).getroot().iter("testcase"):
        outcome = next(
            (element for element in case if element.tag in ("failure", "error", "skipped")), None
        )
        if outcome is None:
            passed += 1
        elif outcome.tag != "skipped":
            findings.append(_finding(case, outcome))
        elif outcome.get("type") == "pytest.xfail":
            known.append(_finding(case, outcome))
        else:
            skipped += 1
    version = path.stem.removeprefix("transformers-")
    return Release(
        version=version,
        passed=passed,
        skipped=skipped,
        findings=tuple(findings),
        known=tuple(known),
    )


def _finding(case: ET.Element, outcome: ET.Element) -> Finding:
    """A test by the name that people select it with, below suites/engines/."""
    parts = case.get("classname", "").removeprefix("suites.engines.").split(".")
    place = "/".join(part for part in parts if not part.startswith("test_"))
    return Finding(
        "::".join(filter(None, (place, case.get("name", "")))),
        first_sentence(outcome.get("message", "")),
    )


def first_sentence(message: str) -> str:
    """What was found, without the exception's name and what to do."""
    return (
        re.sub(r"^[\w.]+(Error|Exception|Warning): ", "", message.strip())
        .split(";")[0]
        .split("\n")[0]
        .replace("|", "/")
    )


def section(releases: Sequence[Release]) -> str:
    """The section, heading included."""
    rows = [
        f"| {release.version} | {release.passed} | {len(release.findings)} | {len(release.known)} "
        f"| {release.skipped} |"
        for release in releases
    ]
    failed = [
        f"* {release.version}, `{finding.test}`{label}: {finding.message}."
        for release in releases
        for label, findings in (("", release.findings), (", known", release.known))
        for finding in findings
    ]
    return (
        HEADING
        + "\n"
        + _INTRODUCTION
        + "\n".join(rows)
        + "\n\n"
        + "\n".join(failed or ["* Nothing fails."])
        + "\n"
    )


def ordered(paths: Sequence[Path]) -> list[Release]:
    """Releases of these files, the oldest first."""
    return sorted(
        map(read, paths), key=lambda own: [int(part) for part in re.findall(r"\d+", own.version)]
    )


def current(page: str) -> str:
    """The section that a page has. Raises SystemExit where it has none."""
    _, found, rest = page.partition(HEADING)
    if not found:
        raise SystemExit(
            f"the page has no section {HEADING!r}; run make engine-transformers-versions"
        )
    return HEADING + rest.partition("\n## ")[0]


def replaced(page: str, made: str) -> str:
    """The page with this section in place of its old one, which reaches to the next heading."""
    return page.replace(current(page), made, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument(
        "--into", type=Path, help="a page whose section is replaced; else it is printed"
    )
    arguments = parser.parse_args()
    made = section(ordered(arguments.runs))
    if arguments.into is None:
        sys.stdout.write(made)
    else:
        arguments.into.write_text(
            replaced(arguments.into.read_text(encoding="utf-8"), made), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
