"""The comparisons of each test with its baseline, and whether the test saw those that the gate
failed.

The exit status must agree with the table: a failed judgement fails its test, whatever the test does
with the value of `==`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..common.printable import printable
from ..report.layout import wrapped


@dataclasses.dataclass(frozen=True)
class Judgement:
    """One comparison of a run with a baseline, as the gate judged it."""

    case_id: str
    passes: bool
    headline: str
    summary: str
    """The headline in short, for a line that also names the test."""
    message: Sequence[str]
    """What is printed of a judgement that does not pass; empty otherwise."""
    expected: bool
    """Whether the test expected a difference (`!=`) and there is one; an error does not count."""
    counts_given: bool = False
    """Whether the test handed over the counts, to a gate of its own."""


class JudgementLog:
    """The judgements of a session by test. A test has seen a failed judgement if it failed itself
    or expected the failure, by `!=` or the mark `xfail`. Cases with failures that no test saw are
    in `unseen`.
    """

    def __init__(self) -> None:
        self.asking: set[str] = set()
        """Node ids of the tests that requested a baseline."""
        self.handing_over: set[str] = set()
        """Node ids of the tests that requested a gate for counts of their own."""
        self.unseen: set[str] = set()
        self._compared: set[str] = set()
        self._handed_over: set[str] = set()
        self._held: dict[str, list[Judgement]] = {}
        self._messages: dict[str, list[Sequence[str]]] = {}
        self._failed: dict[str, set[str]] = {}

    def hold(self, nodeid: str, judgements: Sequence[Judgement]) -> None:
        """Keep the judgements made in a test's fixtures until the test itself has run."""
        self._held.setdefault(nodeid, []).extend(judgements)

    def failed(self, nodeid: str, judgements: Sequence[Judgement]) -> Sequence[Judgement]:
        """Take the judgements of a phase that failed by itself; returns them with those that were
        held.
        """
        judgements = [*self._held.pop(nodeid, []), *judgements]
        for judgement in judgements:
            (self._handed_over if judgement.counts_given else self._compared).add(nodeid)
        failures = [
            judgement for judgement in judgements if not (judgement.passes or judgement.expected)
        ]
        self._messages.setdefault(nodeid, []).extend(failure.message for failure in failures)
        self._failed.setdefault(nodeid, set()).update(failure.case_id for failure in failures)
        return judgements

    def dropped(self, nodeid: str, judgements: Sequence[Judgement]) -> str | None:
        """Take the judgements of a phase that did not fail; returns why it must fail, or None."""
        dropped = [
            judgement
            for judgement in self.failed(nodeid, judgements)
            if not (judgement.passes or judgement.expected)
        ]
        if not dropped:
            return None
        return (
            f"{dropped[0].headline}, but the test did not fail; assert the comparison, or mark the "
            "test xfail"
            if not dropped[0].counts_given
            else f"{dropped[0].headline}, but the test did not fail; let the AssertionError of "
            "check() pass, or mark the test xfail"
        )

    def missing(self, nodeid: str) -> str | None:
        """Why a test that passed must fail: it requested a baseline and compared nothing with it,
        or a gate and handed over no counts. None where it did.
        """
        if nodeid in self.handing_over and nodeid not in self._handed_over:
            return (
                "the test requests specdec_gate and no counts were judged; call "
                "specdec_gate(NAME).check(rounds=...), or remove the fixture"
            )
        if nodeid not in self.asking or nodeid in self._compared:
            return None
        return (
            "the test requests specdec_baseline and compares nothing with it by == or !=, so no "
            "gate judged it (pytest.approx and >= compare numbers); write `assert specdec_run == "
            "specdec_baseline` (without -O) and set the tolerated drop by --specdec-margin, or "
            "remove the fixture"
        )

    def explain_no_baseline(self, nodeid: str, case_id: str) -> None:
        """Add a message to a test that failed: it compared nothing with the missing baseline, so
        none is created.
        """
        if self.missing(nodeid) is not None:
            reason = (
                f"{case_id} has no baseline, and the test failed before it compared anything with "
                "one by == or !=, so --specdec-update=new creates none (pytest.approx and >= "
                "compare numbers); set the tolerated drop by --specdec-margin, and compare by"
            )
            self._messages.setdefault(nodeid, []).append(
                [*wrapped(printable(reason)), "    assert specdec_run == specdec_baseline"]
            )

    def take_messages(self, nodeid: str, *, seen: bool) -> list[Sequence[str]]:
        """The messages of the failures since the last call; `seen` where the test was expected to
        fail.
        """
        failed = self._failed.pop(nodeid, set())
        if not seen:
            self.unseen |= failed
        return self._messages.pop(nodeid, [])
