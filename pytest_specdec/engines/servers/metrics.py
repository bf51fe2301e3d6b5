"""Prometheus' text exposition, read strictly: a counter that is missing, undefined or running
backwards is an error.

Engines count since they started and for all their users, so a measurement is the difference of two
readings without other requests between them. Series of several engines at one address
(data parallel) add up.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from ...common.errors import MeasurementError, naming_extras

with naming_extras():
    from prometheus_client.parser import text_string_to_metric_families
    from prometheus_client.samples import Sample

Labels = frozenset[tuple[str, str]]
_Series = tuple[str, Labels]


class MetricError(MeasurementError):
    """A page of metrics that cannot be read, or without the counter that is needed. The message
    names it.
    """


class RestartedError(MetricError):
    """Counters that began again between two readings."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """All samples of one page of metrics, or the difference of two; `source` is the page's URL."""

    source: str
    samples: Mapping[_Series, float]

    def total(self, name: str, **labels: str) -> float:
        """A counter summed over its series that carry the given labels. Raises MetricError where
        there is none.
        """
        series = self._series(name, labels)
        if not series:
            raise MetricError(f"{self.source} has no {_series_name(name, labels)}; {_CURE}")
        return sum(series.values())

    def whole(self, name: str, **labels: str) -> int:
        """`total` of a counter of things. Raises MetricError also for other than whole numbers."""
        value = self.total(name, **labels)
        if value != int(value):
            raise MetricError(
                f"{self.source}: {_series_name(name, labels)} is {value}, not a whole number; "
                "report the engine's version"
            )
        return int(value)

    def has(self, name: str) -> bool:
        """Whether a counter is on the page."""
        return bool(self._series(name, {}))

    def by_position(self, name: str, label: str = "position", **labels: str) -> tuple[int, ...]:
        """A counter's values by a label that numbers positions 0, 1, ..., each summed over engines.

        Empty where the counter has no series at all, as before the first round. Raises MetricError
        for positions that are not numbers or leave one out.
        """
        sums: dict[int, float] = {}
        for (_, own_labels), value in self._series(name, labels).items():
            position = dict(own_labels).get(label, "")
            if not position.isdecimal():
                raise MetricError(
                    f"{self.source}: {name} has a series whose {label} is {position!r}, not a "
                    f"number; {_CURE}"
                )
            sums[int(position)] = sums.get(int(position), 0.0) + value
        if sorted(sums) != list(range(len(sums))):
            raise MetricError(
                f"{self.source}: {name} leaves out a {label}, it has {sorted(sums)}; {_CURE}"
            )
        if any(value != int(value) for value in sums.values()):
            raise MetricError(
                f"{self.source}: {name} has values that are not whole numbers; report the engine's "
                "version"
            )
        return tuple(int(sums[position]) for position in range(len(sums)))

    def values(self, name: str, label: str) -> set[str]:
        """The values that a label takes on a counter's series."""
        return {dict(own_labels).get(label, "") for _, own_labels in self._series(name, {})}

    def since(self, before: Reading, *names: str) -> Reading:
        """What was counted after an earlier reading, for the counters named.

        A series that is new counts from 0. Raises RestartedError for a series that has gone or runs
        backwards, and for other times of the start: the server was restarted in between.
        """
        self._check_start(before, names)
        grown: dict[_Series, float] = {}
        for name in names:
            now, earlier = self._series(name, {}), before._series(name, {})
            if gone := earlier.keys() - now.keys():
                raise RestartedError(
                    f"{self.source}: {_series_name(*_first(gone))} has gone since the run began; "
                    f"{_RESTARTED}"
                )
            for series, value in now.items():
                if value < (start := earlier.get(series, 0.0)):
                    raise RestartedError(
                        f"{self.source}: {_series_name(*_first({series}))} went backwards, "
                        f"from {start:g} to {value:g}; {_RESTARTED}"
                    )
                grown[series] = value - start
        return Reading(self.source, grown)

    def _check_start(self, before: Reading, names: Sequence[str]) -> None:
        """Counters of a server that was restarted may have passed their earlier values again."""
        times = {_STARTED, *(f"{name.removesuffix('_total')}_created" for name in names)}
        for series in sorted(self.samples.keys() & before.samples.keys(), key=str):
            if series[0] in times and self.samples[series] != before.samples[series]:
                raise RestartedError(
                    f"{self.source}: {_series_name(*series)} was {before.samples[series]:.12g} and "
                    f"is {self.samples[series]:.12g}; {_RESTARTED}"
                )

    def _series(self, name: str, labels: Mapping[str, str]) -> dict[_Series, float]:
        """The series of a counter that carry the given labels, under its own name or with
        OpenMetrics' `_total`.
        """
        wanted = set(labels.items())
        matching = {
            series: value
            for series, value in self.samples.items()
            if series[0] in (name, f"{name}_total") and wanted <= series[1]
        }
        for series, value in matching.items():
            if not math.isfinite(value) or value < 0:
                raise MetricError(
                    f"{self.source}: {_series_name(*_first({series}))} is {value}, which no "
                    "counter can be; look into the server's log"
                )
        return matching


def parse(text: str, source: str) -> Reading:
    """Read a page of metrics. Raises MetricError, with the line, for anything else."""
    if text.lstrip()[:1] == "<":
        raise MetricError(
            f"{source} answers with a web page, not with metrics; is this the engine's own URL?"
        )
    samples: dict[_Series, float] = {}
    # Not splitlines(): label values may hold other line separators.
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        for sample in _samples(line, f"{source}, line {number}"):
            series = sample.name, frozenset(sample.labels.items())
            if series in samples:
                raise MetricError(
                    f"{source}, line {number}: {sample.name} occurs twice with the same labels; "
                    f"{_CURE}"
                )
            samples[series] = sample.value
    if not samples:
        raise MetricError(f"{source} is empty; start the server with its metrics turned on")
    return Reading(source, samples)


def _samples(line: str, where: str) -> list[Sample]:
    """The sample of a line. Raises MetricError for a line that has none."""
    try:
        samples = [
            sample._replace(value=float(sample.value))  # a number of 400 digits is none
            for family in text_string_to_metric_families(line)
            for sample in family.samples
        ]
    except (ValueError, LookupError, OverflowError) as error:
        raise MetricError(
            f"{where} is not a metric: {line[:80]!r} ({str(error)[:80]}); is this the engine's "
            "page of metrics?"
        ) from None
    return samples


def _first(series: set[_Series]) -> _Series:
    return min(series, key=lambda key: (key[0], sorted(key[1])))


def _series_name(name: str, labels: Mapping[str, str] | Labels) -> str:
    pairs = sorted(labels.items() if isinstance(labels, Mapping) else labels)
    return name + (
        "{" + ",".join(f'{key}="{value}"' for key, value in pairs) + "}" if pairs else ""
    )


_CURE = (
    "turn on the engine's metrics and speculative decoding, and check its version against "
    "docs/engines.md"
)
_STARTED = "process_start_time_seconds"
_RESTARTED = "the server was restarted, or another one has the same address now; run again"
