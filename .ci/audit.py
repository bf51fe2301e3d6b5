"""What comes with the package: known vulnerabilities, licences, and secrets in its own files.

    python .ci/audit.py

Advisories are asked of the service that pip-audit uses. Where it cannot be reached, the stored ones
(`.ci/advisories.json`) are compared with what is installed, and the page says so: they are a few,
and no proof. Exit status 1 for a finding.
"""

# ruff: noqa: S603, S607
from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PACKAGE = "pytest-specdec"
FREE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Zlib|HPND|Unlicense|0BSD|CC0"
    r"|MIT-CMU|CNRI-Python)\b",
    re.IGNORECASE,
)
STRICT = re.compile(r"\b(A?GPL|LGPL|SSPL|BUSL|proprietary)\b", re.IGNORECASE)
SECRETS = {
    "AWS key": r"\bAKIA[0-9A-Z]{16}\b",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "Hugging Face token": r"\bhf_[A-Za-z]{34}\b",
    "OpenAI key": r"\bsk-(?:proj-)?[A-Za-z0-9_-]{32,}\b",
    "PyPI token": r"\bpypi-[A-Za-z0-9_-]{60,}\b",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{20,}\b",
    "password in a URL": r"\b[a-z][a-z0-9+]*://[^\s/:@\"'{}<>]+:(?!SECRET|PASSWORD|\*\*\*|word|pw|secret)[^\s/:@\"'{}<>]{6,}@",
}


def main() -> int:
    installed = closure(PACKAGE)
    findings = [*advisories(installed), *licences(installed), *secrets()]
    print(f"{len(installed)} packages, {len(findings)} findings")
    print("\n".join(findings))
    return 1 if findings else 0


def closure(name: str) -> dict[str, str]:
    """What the package and its extras bring, as far as it is installed: versions by name."""
    found: dict[str, str] = {}
    waiting = [(name, ("models", "servers", "plots", "constraints", "lossless"))]
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[key] = package.version
        for line in package.requires or ():
            needed = Requirement(line)
            environments = [{"extra": extra} for extra in (*extras, "")]
            if needed.marker is None or any(map(needed.marker.evaluate, environments)):
                waiting.append((needed.name, tuple(needed.extras)))
    return found


def advisories(installed: dict[str, str]) -> Iterator[str]:
    lines = "".join(
        f"{name}=={version}\n" for name, version in installed.items() if name != PACKAGE
    )
    with tempfile.TemporaryDirectory() as name:
        requirements = Path(name) / "requirements.txt"
        requirements.write_text(lines, encoding="utf-8")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip"),
                *("--format=json", "-r", str(requirements)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        answers = []
    answered = [answer for answer in answers if "skip_reason" not in answer]
    print(f"advisories: the service knows {len(answered)} of {len(installed) - 1} packages")
    for answer in answered:
        for known in answer["vulns"]:
            yield f"{answer['name']} {answer['version']}: {known['id']}"
    if len(answered) < len(installed) - 1:
        stored = json.loads((ROOT / ".ci" / "advisories.json").read_text(encoding="utf-8"))
        print(f"advisories: the others compared with {len(stored['advisories'])} stored ones only")
        for known in stored["advisories"]:
            version = installed.get(known["package"])
            if version and SpecifierSet(known["affected"]).contains(version, prereleases=True):
                yield f"{known['package']} {version}: {known['id']} ({known['what']})"


def licences(installed: dict[str, str]) -> Iterator[str]:
    for name, version in sorted(installed.items()):
        about = metadata.metadata(name)
        said = [
            about.get("License-Expression") or "",
            *(line for line in about.get_all("Classifier") or () if line.startswith("License ::")),
        ]
        if not any(said):
            said = [(about.get("License") or "")[:200]]
        words = "; ".join(filter(None, said))
        if STRICT.search(words) or not FREE.search(words):
            yield f"{name} {version}: licence {words[:80] or 'not stated'!r}"


def secrets() -> Iterator[str]:
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, files):
        path = ROOT / name
        if (
            not path.is_file()
            or path.suffix in (".safetensors", ".wav", ".bin", ".svg")
            or path.stat().st_size > 4 << 20
        ):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for kind, pattern in SECRETS.items():
            if "URL" in kind and name.startswith("tests/"):
                continue  # made up, to be found in nothing that is printed
            for match in re.finditer(pattern, text):
                yield f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {kind}"


if __name__ == "__main__":
    sys.exit(main())
