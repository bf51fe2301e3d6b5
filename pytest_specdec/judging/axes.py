"""The axes of a session: cases that differ in one setting, and groups of prompts of one case.

They are compared once all cases are measured, on xdist's controller if there is one. Of cases that
differ in k, too, the largest k is taken.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from ..acceptance.counts import Counts
from ..cases.case import Case, default_rule
from ..cases.texts import Text
from ..common.printable import printable
from ..config.candidates import natural_order
from ..gate.axes import LengthChange, paired_change, unpaired_change
from ..report.row import AxisRow, ReportRow, plain
from .comparison import Run

AXES = ("target", "drafter", "temperature", "drafting", "template", "batch")
"""Settings along which cases are compared, paired by prompt."""
CONTEXT, CATEGORY = "context", "category"
"""Axes that split the prompts of one case."""
_SHORTEST = 128
"""Tokens of a prompt in the first bucket of contexts; each further one is twice as long."""
_DEFAULTS = ("default", "as-target", "-")
"""Values that say nothing is changed, so that what is held fixed does not name them."""
_FEWEST = 2
"""Prompts of a group that is compared."""


class MeasuredAxes(TypedDict):
    """What the axes need of one case: plain data, so it crosses from xdist workers."""

    values: dict[str, str]
    """By axis."""
    fixed: list[str]
    """All other settings but k."""
    k: int
    place: int
    """Among the session's cases, as they are written."""
    prompts: list[str]
    categories: list[str]
    contexts: list[int]
    """Tokens of each prompt; none where they are not known."""
    rounds: list[float]
    accepted: list[float]


def measured_axes(run: Run, texts: Sequence[Text], place: int) -> MeasuredAxes:
    """Of a measured case; `texts` are its first run's, none where their prompts are not known."""
    case, counts = run.case, run.measured.counts
    lengths = {text.key: text.prompt_length for text in texts}
    return MeasuredAxes(
        values={name: printable(value) for name, value in _values(case).items()},
        fixed=[printable(value) for value in _fixed(case)],
        k=case.k,
        place=place,
        prompts=list(counts.prompts),
        categories=[printable(name) for name in counts.categories],
        contexts=[lengths[key] for key in counts.prompts]
        if all(key in lengths for key in counts.prompts)
        else [],
        rounds=counts.rounds.tolist(),
        accepted=counts.accepted.sum(1).tolist(),
    )


def _values(case: Case) -> dict[str, str]:
    """As they are shown; the values of one axis differ where the cases do."""
    flags = case.texts.flags
    return {
        "target": case.texts.target_name.removeprefix("target-") or Path(case.target).name,
        "drafter": case.label,
        "temperature": f"{case.temperature:g}",
        "drafting": str(case.drafting) or "as-target",
        "template": "default" if flags is None else str(flags),
        "batch": "-" if case.batch is None else str(case.batch),
    }


def _fixed(case: Case) -> list[str]:
    rule = "" if case.rule == default_rule(case.temperature) else case.rule
    texts = dataclasses.replace(case.texts, target="", target_name="", flags=None, temperature=0.0)
    others = (case.depth, rule, case.engine, case.judged, case.tree)
    return [case.suite, f"depth {case.depth}", repr((texts, others))]


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """Two sides of an axis."""

    axis: str
    row: str
    """The id of the row that shows it."""
    name: str
    """What is held fixed."""
    k: int
    start: str
    end: str
    before: Counts
    now: Counts
    paired: bool
    weight: int = 1
    """Comparisons that it stands for: the extremes of many are chosen by the data."""


def compare_axes(rows: Iterable[ReportRow], measured: Mapping[str, MeasuredAxes]) -> None:
    """Put the changes along axes into the rows of their ends; `measured` goes by row id."""
    by_id = {row["id"]: row for row in rows if row["id"] in measured}
    known = {name: measured[name] for name in sorted(by_id, key=natural_order)}
    found = [*_between_cases(known), *_within_cases(known)]
    numbers: Counter[str] = Counter()
    for comparison in found:
        numbers[comparison.axis] += comparison.weight
    for row in by_id.values():
        row["axes"] = []
    for comparison in found:
        change = paired_change if comparison.paired else unpaired_change
        changed = change(comparison.before, comparison.now, numbers[comparison.axis])
        changed = changed.within(comparison.k)
        by_id[comparison.row]["axes"].append(_row(comparison, changed))


def _between_cases(measured: Mapping[str, MeasuredAxes]) -> Iterator[_Comparison]:
    for axis in AXES:
        groups: dict[tuple[str, ...], dict[int, dict[str, str]]] = {}
        for name, of in measured.items():
            others = tuple(value for other, value in of["values"].items() if other != axis)
            by_k = groups.setdefault((*of["fixed"], *others), {})
            by_k.setdefault(of["k"], {}).setdefault(of["values"][axis], name)
        for by_k in groups.values():
            several = [k for k, by_value in by_k.items() if len(by_value) > 1]
            if several:
                yield from _from_the_first(axis, max(several), by_k[max(several)], measured)


def _from_the_first(
    axis: str, k: int, by_value: Mapping[str, str], measured: Mapping[str, MeasuredAxes]
) -> Iterator[_Comparison]:
    """Each value of an axis beside the one that is written first."""
    first, *others = sorted(by_value, key=lambda value: measured[by_value[value]]["place"])
    for value in others:
        sides = [measured[by_value[side]] for side in (first, value)]
        held = {name: shown for name, shown in sides[0]["values"].items() if name != axis}
        yield _Comparison(
            axis=axis,
            row=by_value[value],
            name=_named(sides[0], held),
            k=k,
            start=first,
            end=value,
            before=_counts(sides[0]),
            now=_counts(sides[1]),
            paired=True,
        )


def _named(of: MeasuredAxes, held: Mapping[str, str]) -> str:
    words = {"temperature": "T ", "batch": "batch "}
    shown = [
        f"{words.get(axis, '')}{value}" for axis, value in held.items() if value not in _DEFAULTS
    ]
    return f"{of['fixed'][0]}: {', '.join(shown)}"


def _within_cases(measured: Mapping[str, MeasuredAxes]) -> Iterator[_Comparison]:
    """Groups of prompts of the first case of each pair, at its largest k."""
    chosen: dict[tuple[str, ...], str] = {}
    for name, of in measured.items():
        pair = (*of["fixed"][:2], of["values"]["target"], of["values"]["drafter"])
        before = chosen.get(pair)
        if before is None or _default_first(of) < _default_first(measured[before]):
            chosen[pair] = name
    for name in chosen.values():
        yield from _splits(name, measured[name])


def _default_first(of: MeasuredAxes) -> tuple[list[bool], int]:
    named = [of["values"][axis] not in _DEFAULTS for axis in ("drafting", "template", "batch")]
    return (named, -of["k"])


def _splits(name: str, of: MeasuredAxes) -> Iterator[_Comparison]:
    common = {"row": name, "name": _named(of, of["values"]), "k": of["k"]}
    categories = _groups(of, of["categories"])
    if len(categories) > 1:
        lengths = {group: counts.acceptance_length for group, counts in categories.items()}
        least, most = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        yield _Comparison(
            axis=CATEGORY,
            start=least,
            end=most,
            before=categories[least],
            now=categories[most],
            paired=False,
            weight=math.comb(len(categories), 2),
            **common,  # type: ignore[arg-type]
        )
    contexts = _groups(of, [bucket(length) for length in of["contexts"]])
    if len(contexts) > 1:
        ordered = sorted(contexts, key=natural_order)
        first, *others = ordered
        for group in others:
            yield _Comparison(
                axis=CONTEXT,
                start=first,
                end=group,
                before=contexts[first],
                now=contexts[group],
                paired=False,
                **common,  # type: ignore[arg-type]
            )


def bucket(length: int) -> str:
    """The bucket of a prompt of so many tokens.

    >>> [bucket(length) for length in (5, 128, 300)]
    ['1-127', '128-255', '256-511']
    """
    if length < _SHORTEST:
        return f"1-{_SHORTEST - 1}"
    first = 1 << (length.bit_length() - 1)
    return f"{first}-{2 * first - 1}"


def _groups(of: MeasuredAxes, names: Sequence[str]) -> dict[str, Counts]:
    """Of groups with rounds and prompts enough, in order of appearance."""
    counts = _counts(of)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if counts.rounds[place] > 0:
            places.setdefault(name, []).append(place)
    return {name: counts.select(of) for name, of in places.items() if len(of) >= _FEWEST}


def _counts(of: MeasuredAxes) -> Counts:
    """Counts with the positions added up: all that acceptance lengths are made of."""
    rounds = np.array(of["rounds"])
    return Counts(
        prompts=tuple(of["prompts"]),
        categories=tuple(of["categories"]),
        rounds=rounds,
        drafted=rounds[:, None],
        accepted=np.array(of["accepted"])[:, None],
    )


def _row(comparison: _Comparison, changed: LengthChange) -> AxisRow:
    return AxisRow(
        axis=comparison.axis,
        comparison=comparison.name,
        k=comparison.k,
        start=comparison.start,
        end=comparison.end,
        before=plain(changed.before),
        now=plain(changed.now),
        change=plain(changed.change),
        interval=[plain(changed.low), plain(changed.high)],
        prompts=changed.prompts,
        paired=comparison.paired,
        moves=changed.moves,
    )
