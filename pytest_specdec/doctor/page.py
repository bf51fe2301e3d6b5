"""A diagnosis as text of 80 columns: the verdict first, then what it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ..acceptance.counts import Counts
from ..common.printable import printable
from ..common.student import student_quantile
from ..report.layout import aligned, wrapped
from .diagnosis import Diagnosis, DoctorOutcome
from .measure import FEWEST, PairedGain
from .patient import R
from .search import ALPHA, MARGIN

_NO_READING = (DoctorOutcome.NOTHING, DoctorOutcome.UNDECIDED)
"""Outcomes without a reading that the drafter was trained for."""
_LEVEL = 0.95
_MOST_ROWS = 40
_MOST_RIVALS = 12
_NAME = 34
"""Columns of a reading's words in the table."""


def lines(diagnosis: Diagnosis[R], circumstances: str) -> Iterator[str]:
    """The report. `circumstances` say what was measured on: `24 texts of 64 new tokens, k 4`."""
    findings, patient = diagnosis.findings, diagnosis.patient
    yield from wrapped(printable(patient.title))
    yield from wrapped(circumstances)
    yield ""
    for sentence in _verdict(diagnosis):
        yield from wrapped(printable(sentence), indent="  ")
    yield ""
    yield from _table(diagnosis)
    yield ""
    for name, reading in {"written": findings.written, "best": findings.best}.items():
        if name == "best" and reading == findings.written:
            continue
        shares = findings.measured[reading].counts.conditional
        words = "as written" if name == "written" else "the best reading"
        yield from wrapped(
            f"conditional acceptance of draft tokens 1, 2, ... {words}: "
            + " ".join(f"{share:.2f}" for share in shares if not math.isnan(share)),
            indent="  ",
        )
    shares = findings.nothing.conditional
    yield from wrapped(
        "of a drafter that knows nothing, to compare: "
        + " ".join(f"{share:.2f}" for share in shares if not math.isnan(share)),
        indent="  ",
    )
    yield from _engines(diagnosis)


def last_line(diagnosis: Diagnosis[R]) -> str:
    """The verdict again with its exit status, for the end of a log."""
    return f"doctor: {diagnosis.outcome.words} (exit status {diagnosis.outcome.status})"


def _verdict(diagnosis: Diagnosis[R]) -> Iterator[str]:
    findings, patient = diagnosis.findings, diagnosis.patient
    written, best = (findings.length(reading) for reading in (findings.written, findings.best))
    yield f"verdict: {diagnosis.outcome.words}"
    if diagnosis.outcome is DoctorOutcome.RIGHT:
        yield (
            f"The acceptance length is {written:.3f}, and none of {_readings(findings.tried)} "
            f"has a chance of acceptance that is {MARGIN:.0%} better. Nothing to correct."
        )
    elif diagnosis.outcome is DoctorOutcome.MISREAD:
        yield from _misread(diagnosis, written, best)
    elif diagnosis.outcome is DoctorOutcome.CONTRADICTORY:
        yield (
            f"As written the acceptance length is {written:.3f}, and no other reading is better; "
            "but loaders refuse the folder, or guess:"
        )
        yield from (f"- {fault}" for fault in patient.faults)
    elif diagnosis.outcome is DoctorOutcome.NOTHING:
        yield _nothing(diagnosis, written, best)
    else:
        yield from _undecided(diagnosis)
    named = (findings.written, *findings.rivals)
    equal = [reading for reading in findings.equal if reading not in named]
    if equal and diagnosis.outcome not in _NO_READING:
        yield (
            f"Not told apart, and the difference does not matter (below {MARGIN:.0%}): "
            + " | ".join(patient.words(reading) for reading in equal[:8])
            + (f" and {len(equal) - 8} more" if len(equal) > 8 else "")
        )


def _readings(others: int) -> str:
    return f"{others} other reading{'s' * (others != 1)}"


def _nothing(diagnosis: Diagnosis[R], written: float, best: float) -> str:
    findings = diagnosis.findings
    others = f"none of {_readings(findings.tried)} is surely better"
    if findings.best != findings.written:
        others = f"{best:.3f} in the best of {_readings(findings.tried)}"
    pairs = f", {findings.screened} pairs of changes were screened" if findings.screened else ""
    return (
        f"As written the acceptance length is {written:.3f}, {others}{pairs}, and a drafter that "
        f"knows nothing of the target has {findings.nothing.acceptance_length:.3f}. The weights "
        "are random, broken, or for another target: train or export the drafter again, or name "
        "its target."
    )


def _misread(diagnosis: Diagnosis[R], written: float, best: float) -> Iterator[str]:
    findings, patient = diagnosis.findings, diagnosis.patient
    gain = PairedGain.of_lengths(
        findings.measured[findings.written].counts, findings.measured[findings.best].counts
    )
    low, high = gain.bounds(1 - _LEVEL)
    found = (
        "The drafter was not trained for the written reading. Best on these texts"
        if findings.rivals
        else "The drafter was trained for"
    )
    yield (
        f"{found}: {patient.words(findings.best)}. Read so, the acceptance "
        f"length is {best:.3f} and not {written:.3f}: {best - written:+.3f} tokens a round "
        f"({_LEVEL:.0%} interval {low:+.3f} to {high:+.3f})."
    )
    yield "Correct:"
    yield from (f"- {cure}" for cure in patient.cures(findings.best))
    yield from (f"- the loader also says: {fault}" for fault in patient.faults)
    rivals = findings.rivals
    if rivals:
        names = " | ".join(patient.words(reading) for reading in rivals[:_MOST_RIVALS])
        more = len(rivals) - _MOST_RIVALS
        yield (
            f"Not told apart from it on these texts, the best first: {names}"
            + (f" and {more} more" if more > 0 else "")
            + ". More texts decide."
        )
    unsure = [reading for reading in findings.open if reading not in rivals]
    if unsure:
        names = " | ".join(patient.words(reading) for reading in unsure[:6])
        yield f"Not excluded, with more texts to decide: {names}"


def _undecided(diagnosis: Diagnosis[R]) -> Iterator[str]:
    findings, patient = diagnosis.findings, diagnosis.patient
    prompts = findings.knowledge.prompts
    if diagnosis.too_few:
        yield f"{prompts} texts are too few; give at least {FEWEST} prompts, better 32."
        return
    if findings.knowledge.bounds(ALPHA)[0] <= 0:
        yield (
            f"On {prompts} texts the drafter (acceptance length "
            f"{findings.length(findings.best):.3f}) is not told apart from one that knows nothing "
            f"({findings.nothing.acceptance_length:.3f}). Give more prompts or more --new-tokens."
        )
        return
    names = " | ".join(patient.words(reading) for reading in findings.open[:6])
    more = len(findings.open) - 6
    yield (
        f"As written the acceptance length is {findings.length(findings.written):.3f}, and no "
        f"other reading is surely better; {prompts} texts do not exclude that these are, by "
        f"{MARGIN:.0%} or more: {names}" + (f" and {more} more" if more > 0 else "") + ". Give "
        "more prompts or more --new-tokens."
    )


def _table(diagnosis: Diagnosis[R]) -> Iterator[str]:
    findings, patient = diagnosis.findings, diagnosis.patient
    measured = findings.measured
    order = sorted(measured, key=lambda reading: measured[reading].chance, reverse=True)
    shown = order[:_MOST_ROWS]
    if findings.written not in shown:
        shown.append(findings.written)
    rows: list[Sequence[str]] = [("reading", "length", "chance, against written")]
    extra: list[str] = []
    for reading in shown:
        words = printable(patient.words(reading))
        against = "" if reading == findings.written else _gain(diagnosis, reading)
        marked = words if reading != findings.best else f"{words} *"
        if len(marked) > _NAME:
            marked, rest = _cut(marked)
            extra.append(rest)
        else:
            extra.append("")
        rows.append((marked, _length(findings.measured[reading].counts), against))
    rows.append(("knows nothing of the target", _length(findings.nothing), ""))
    extra.append("")
    table = list(aligned(rows, left=(0,)))
    yield table[0]
    for line, rest in zip(table[1:], extra, strict=True):
        yield line
        while rest:
            part, rest = _cut(rest)
            yield f"    {part}"
    if len(order) > len(shown):
        below = len(order) - len(shown)
        yield f"and {below} reading{'s' * (below > 1)} below these"
    yield from wrapped(
        f"* the best reading. Length: acceptance length, {_LEVEL:.0%} interval over prompts. "
        "Chance: that a draft is accepted in its context, relative, paired by prompt, with an "
        f"interval at a level shared by all readings ({findings.together:.1%} together)."
    )


def _cut(words: str) -> tuple[str, str]:
    """A line's worth of words, and the rest."""
    if len(words) <= _NAME:
        return words, ""
    at = words.rfind(" ", 0, _NAME)
    at = at if at > 0 else _NAME
    return words[:at], words[at:].strip()


def _length(counts: Counts) -> str:
    prompts = len(counts.prompts)
    if prompts < 2:
        return f"{counts.acceptance_length:.3f}"
    reach = student_quantile((1 + _LEVEL) / 2, prompts) * counts.standard_error
    return f"{counts.acceptance_length:.3f} ±{reach:.3f}"


def _gain(diagnosis: Diagnosis[Any], reading: Any) -> str:
    findings = diagnosis.findings
    gain = findings.gain(reading, findings.written)
    low, high = gain.bounds(findings.level)
    whole = max(findings.measured[findings.written].chance, 1e-9)
    if not math.isfinite(low):
        return _share(gain.amount / whole)
    # The interval is symmetric, and a chance cannot fall by more than all of it.
    amount, least, most = (_share(max(value / whole, -1.0)) for value in (gain.amount, low, high))
    return f"{amount} ({least} to {most})"


def _share(value: float) -> str:
    return f"{value:+.1%}" if abs(value) < 1 else f"{value:+.0%}"


def _engines(diagnosis: Diagnosis[R]) -> Iterator[str]:
    """Who reads the folder in another way, and what that gives: as it is, or once corrected."""
    findings = diagnosis.findings
    if not diagnosis.engines or diagnosis.outcome in _NO_READING:
        return
    yield ""
    if diagnosis.outcome is DoctorOutcome.MISREAD:
        yield from wrapped(
            "Who reads this folder in another way once it is corrected as above (sources: "
            "docs/doctor.md):"
        )
    else:
        yield "Who reads this folder in another way (sources: docs/doctor.md):"
    for engine, found in diagnosis.engines:
        best = engine.reading == findings.best
        words = "as it was trained" if best else engine.words
        text = f"- {engine.who} {engine.does}: {words}"
        if found is not None:
            text += f", length {found.length:.3f}"
        yield from wrapped(printable(text), indent="  ")
