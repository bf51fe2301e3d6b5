"""What real engines count and emit on SmolLM2-135M-Instruct, from the JUnit files of
`suites/engines/smollm2`: a section of docs/real-model.md.

    python benchmarks/real_engines.py .venv-engines/smollm2/*.xml

`make engines-smollm2` does it. The suite's tests record their numbers as properties, which only
`-o junit_family=xunit1` keeps.
"""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from engine_versions import first_sentence
from marked_page import marks_of, write_lines

ROOT = Path(__file__).parent.parent
PAGE, MARKED = ROOT / "docs" / "real-model.md", marks_of("real_engines.py")
COUNTS, TEXTS = "test_counts_are_those_of_the_models", "test_texts_are_the_targets"
HEADS = ("engine", "drafter", "T", "prompts", "rounds", "drafted", "accepted", "counts", "texts")


class Test(NamedTuple):
    """One test of a case."""

    properties: Mapping[str, str]
    outcome: str
    """passed, failure, error or skipped."""
    message: str
    """Of one that did not pass."""


class Case(NamedTuple):
    """One case of the suite, run by one engine."""

    engine: str
    name: str
    """Of its class."""
    counts: Test
    texts: Test

    @property
    def label(self) -> str:
        """The engine with its version."""
        return f"{self.engine} {self.counts.properties.get('version', '')}".strip()


def read(path: Path) -> list[Case]:
    """The cases behind `llama-cpp.xml`. Raises SystemExit for a file that lacks one of a case's two
    tests.
    """
    tests: dict[str, dict[str, Test]] = {}
    for element in ET.parse(path).getroot().iter("testcase"):
        case = element.get("classname", "").rpartition(".")[2]
        tests.setdefault(case, {})[element.get("name", "").partition("[")[0]] = _test(element)
    for case, own in tests.items():
        if set(own) != {COUNTS, TEXTS}:
            raise SystemExit(f"{path} holds {sorted(own)} of {case}; run its whole suite again")
    return [
        Case(engine=path.stem, name=case, counts=own[COUNTS], texts=own[TEXTS])
        for case, own in tests.items()
    ]


def _test(element: ET.Element) -> Test:
    ended = next((e for e in element if e.tag in ("failure", "error", "skipped")), None)
    return Test(
        properties={own.get("name", ""): own.get("value", "") for own in element.iter("property")},
        outcome="passed" if ended is None else ended.tag,
        message="" if ended is None else first_sentence(ended.get("message", "")),
    )


def section(cases: Sequence[Case]) -> str:
    """A table of what ran, then what disagrees and what was not run, with the reasons."""
    ran = [case for case in cases if case.counts.outcome != "skipped"]
    lines = [
        "",
        *(f"| {' | '.join(row)} |" for row in (HEADS, ["---"] * len(HEADS), *map(_row, ran))),
        "",
        *_equal_texts(ran),
        "",
        *(_findings(ran) or ["No count and no text disagrees."]),
    ]
    skipped = [case for case in cases if case.counts.outcome == "skipped"]
    if skipped:
        lines += ["", "Not run:", ""]
        lines += [f"- {case.engine}, `{case.name}`: {case.counts.message}." for case in skipped]
    return "\n".join(lines) + "\n"


def _row(case: Case) -> list[str]:
    properties = case.counts.properties
    settings = [properties.get(name, "") for name in ("drafter", "temperature")]
    counts = [properties.get(name, "") for name in ("rounds", "drafted", "accepted")]
    prompts = str(len(_texts(case)) or "")
    return [case.label, *settings, prompts, *counts, _counted(case), _emitted(case)]


def _counted(case: Case) -> str:
    """The oracle's verdict in a few words."""
    properties, outcome = case.counts.properties, case.counts.outcome
    if outcome == "error":
        return "no run"
    verdict = "as the models" if outcome == "passed" else "**differ**"
    if properties.get("exact") != "True":
        return f"{verdict}, z = {properties.get('z', '?')}"
    return f"{verdict}, every round{_ties(properties)}"


def _emitted(case: Case) -> str:
    """Conformance's verdict in a few words."""
    properties, outcome = case.texts.properties, case.texts.outcome
    if outcome == "error":
        return "no run"
    verdict = "the target's" if outcome == "passed" else "**not the target's**"
    score = (
        f", z = {properties.get('z', '?')}" if case.counts.properties.get("exact") != "True" else ""
    )
    return f"{verdict}{score}{_ties(properties)}"


def _ties(properties: Mapping[str, str]) -> str:
    ties = int(properties.get("ties", "0"))
    return f", {ties} near-tie{'s' * (ties > 1)}" if ties else ""


def _equal_texts(ran: Sequence[Case]) -> Iterator[str]:
    """How many of the greedy texts that all engines decoded are the same by all."""
    greedy = [case for case in ran if case.counts.properties.get("exact") == "True"]
    engines = len({case.engine for case in greedy})
    if engines > 1:
        texts = [dict(text.split(":") for text in _texts(case)) for case in greedy]
        prompts = set.intersection(*(set(own) for own in texts))
        same = sum(len({own[prompt] for own in texts}) == 1 for prompt in prompts)
        yield (
            f"{engines} engines decode {len(prompts)} of the prompts greedily, in {len(greedy)} "
            f"runs; {same} of these texts are the same in all of them."
        )


def _texts(case: Case) -> list[str]:
    """Key and fingerprint of each text."""
    return case.counts.properties.get("texts", "").split()


def _findings(ran: Sequence[Case]) -> list[str]:
    """What did not pass; once where both tests of a case end alike."""
    found = [
        f"- {case.label}, `{case.name}`: {test.message}."
        for case in ran
        for test in (case.counts, case.texts)
        if test.outcome != "passed"
    ]
    return list(dict.fromkeys(found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    arguments = parser.parse_args()
    cases = [case for path in sorted(arguments.runs) for case in read(path)]
    write_lines(PAGE, MARKED, section(cases))


if __name__ == "__main__":
    main()
