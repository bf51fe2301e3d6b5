"""Cost profiles: what the target's step, a verification and a draft take, in milliseconds. Plain
Python.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..cases.drafter import DRAFT, LOOKUP, OWN_HEADS
from ..common.bounded_files import read_text
from ..common.errors import CostError
from ..common.strict_json import JsonError, parse_json

SCHEMA = 1
_HINT = "measure one with: python -m pytest_specdec costs"


@dataclasses.dataclass(frozen=True)
class CostProfile:
    """Median times of one pair on one machine.

    `verify[k]` and `draft[depth][k]` are milliseconds per round that drafts k tokens. Between two
    measured k the time is interpolated linearly; outside the measured range is a CostError.
    """

    verify: Mapping[int, float]
    draft: Mapping[int, Mapping[int, float]]
    target_ms: float | None = None
    own_heads: Mapping[int, Mapping[int, float]] = dataclasses.field(default_factory=dict)
    """As `draft`, for the target's own MTP heads."""
    lookup: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """Milliseconds to look up k tokens in the text itself."""
    drafters: Mapping[str, Mapping[int, Mapping[int, float]]] = dataclasses.field(
        default_factory=dict
    )
    """As `draft`, for drafters of registered types, by the type's name: `eagle3`."""
    batch_size: int = 1
    """Rows decoded at once; a round's times are of all of them together."""
    machine: str = "unknown"
    """Hardware and setting: times are compared only where both are the same."""
    software: str = ""
    """Versions of what ran."""
    spread: float = 0.0
    """Largest relative inter-quartile range among the measured times."""
    error: float | None = None
    """Standard error of a time, relative, as it is for most of them: from medians over the turns of
    the measurement.
    """
    samples: int = 0
    """How many times each part was timed; 0 if unknown."""
    extrapolated: tuple[int, ...] = ()
    """k whose times were not measured but lie on a line through others, outside their range."""

    def __post_init__(self) -> None:
        times = [*self.verify.values(), *self.lookup.values()]
        times += [
            ms
            for table in (self.draft, self.own_heads, *self.drafters.values())
            for row in table.values()
            for ms in row.values()
        ]
        if self.target_ms is not None:
            times.append(self.target_ms)
        if not self.verify or any(not 0 < ms < math.inf for ms in times):
            raise CostError(f"a cost profile needs verify times, and all times positive; {_HINT}")

    def verify_ms(self, k: int) -> float:
        """Milliseconds of one target pass over k drafts. Raises CostError outside the measured
        k.
        """
        return _interpolate(self.verify, k, "verify")

    def draft_ms(self, k: int, depth: int = 0, *, drafter: str = DRAFT) -> float:
        """Milliseconds to draft k tokens.

        `drafter` is named as in records: `draft`, `mtp`, `prompt-lookup`, or the name of a
        registered type, which has times of its own only. Raises CostError outside the measured k
        and depths.
        """
        if drafter == LOOKUP:
            return _interpolate(self.lookup, k, "lookup")
        table, name = self._times(drafter), "own_heads" if drafter == OWN_HEADS else drafter
        if depth not in table:
            raise CostError(f"the cost profile has no {name} times for depth {depth}; {_HINT}")
        return _interpolate(table[depth], k, f"{name} (depth {depth})")

    def round_ms(self, k: int, depth: int = 0, *, drafter: str = DRAFT) -> float:
        """Milliseconds of a whole round."""
        return self.verify_ms(k) + self.draft_ms(k, depth, drafter=drafter)

    def knows(self, drafter: str) -> bool:
        """Whether the profile has any times of a drafter, named as in records."""
        return bool(self.lookup if drafter == LOOKUP else self._times(drafter))

    def _times(self, drafter: str) -> Mapping[int, Mapping[int, float]]:
        """By depth and k, of what has depths."""
        built_in = {DRAFT: self.draft, OWN_HEADS: self.own_heads}
        return built_in.get(drafter, self.drafters.get(drafter, {}))

    def with_target(self, path: str | Path) -> CostProfile:
        """The profile itself. Raises CostError, naming its file, where it lacks the target's
        step.
        """
        if self.target_ms is None:
            raise CostError(f"cost profile {path} has no target_ms; {_HINT}")
        return self

    @property
    def relative_error(self) -> float:
        """Standard error of a median time, relative; 0 where it is unknown.

        Where it was not measured, from the inter-quartile range as of a normal distribution: 1.253
        * (IQR / 1.349) / sqrt(samples).
        """
        if self.error is not None:
            return self.error
        return 1.253 * self.spread / 1.349 / math.sqrt(self.samples) if self.samples else 0.0

    def extended(self, ks: Iterable[int]) -> CostProfile:
        """A profile that also covers `ks`, from least-squares lines: verification over k, drafting
        over passes.

        A pass of a draft model yields 1 + depth tokens, one of the target's own heads or of a
        drafter of a registered type a token. k outside the measured range are named in
        `extrapolated`. Raises CostError for a line through fewer than two points, or one that ends
        in a time that is not positive.
        """
        wanted = sorted(set(ks) - set(self.verify))
        verify = _lined_up(self.verify, wanted, 1, "verify")
        draft = {
            depth: _lined_up(row, wanted, 1 + depth, f"draft (depth {depth})")
            for depth, row in self.draft.items()
        }
        own_heads = {
            depth: _lined_up(row, wanted, 1, "own_heads") for depth, row in self.own_heads.items()
        }
        lookup = _lined_up(self.lookup, wanted, 1, "lookup") if self.lookup else {}
        drafters = {
            name: {
                depth: _lined_up(row, wanted, 1, f"{name} (depth {depth})")
                for depth, row in table.items()
            }
            for name, table in self.drafters.items()
        }
        outside = [k for k in wanted if not min(self.verify) < k < max(self.verify)]
        extrapolated = tuple(sorted({*self.extrapolated, *outside}))
        return dataclasses.replace(
            self,
            verify=verify,
            draft=draft,
            own_heads=own_heads,
            lookup=lookup,
            drafters=drafters,
            extrapolated=extrapolated,
        )

    def to_json(self) -> str:
        return (
            json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=2, sort_keys=True)
            + "\n"
        )

    @classmethod
    def load(cls, path: str | Path) -> CostProfile:
        """Read a profile. Raises CostError naming what is wrong with the file."""
        try:
            data: Any = parse_json(read_text(Path(path)))
        except OSError as error:
            raise CostError(
                f"cost profile {path} cannot be read ({error.strerror}); {_HINT}"
            ) from None
        except UnicodeDecodeError:
            raise CostError(f"cost profile {path} is not UTF-8; {_HINT}") from None
        except JsonError as error:
            raise CostError(
                f"cost profile {path}:{error.line} is not JSON ({error.problem}); {_HINT}"
            ) from None
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise CostError(f"cost profile {path} is not of schema {SCHEMA}; {_HINT}")
        from .profile_file import profile_fields

        try:
            return cls(**profile_fields(data))
        except CostError as error:
            raise CostError(f"cost profile {path}: {error}") from None
        except ValueError as error:
            raise CostError(
                f"cost profile {path} has a bad or missing field ({error}); {_HINT}"
            ) from None


def _lined_up(
    row: Mapping[int, float], wanted: Iterable[int], tokens: int, name: str
) -> dict[int, float]:
    """A row with times at the wanted k, on the line over passes of so many tokens through its
    own.
    """
    missing = [k for k in wanted if k not in row]
    if not missing:
        return dict(row)
    passes = {k: -(-k // tokens) for k in (*row, *missing)}
    if len({passes[k] for k in row}) < 2:
        raise CostError(
            f"the cost profile's {name} times are too few to draw a line through; {_HINT}"
        )
    slope, intercept = statistics.linear_regression([passes[k] for k in row], list(row.values()))
    fitted = {k: intercept + slope * passes[k] for k in missing}
    if bad := [k for k, ms in fitted.items() if not ms > 0]:
        raise CostError(
            f"the line through the cost profile's {name} times is not positive at k = {bad[0]}; "
            f"{_HINT} --k {bad[0]}"
        )
    return dict(sorted({**row, **fitted}.items()))


def _interpolate(table: Mapping[int, float], k: int, name: str) -> float:
    if k in table:
        return table[k]
    below, above = (
        max((x for x in table if x < k), default=None),
        min((x for x in table if x > k), default=None),
    )
    if below is None or above is None:
        measured = ", ".join(map(str, sorted(table))) or "none"
        raise CostError(
            f"the cost profile's {name} times cover k = {measured}, not {k}; {_HINT} --k {k}"
        )
    share = (k - below) / (above - below)
    return table[below] * (1 - share) + table[above] * share
