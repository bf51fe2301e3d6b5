"""What is found by its name: what this package brings, and what other packages register as entry
points.

Engines, drafters and verification rules are each one `Registry`, so one rule holds for all three:

- A name of this package's own is found without a look at other packages. Every pytest run asks for
  some.
- The group's entry points are read, and none is imported, for any other name and before anything
  is loaded. A name that cannot be used, that two packages register or that is this package's own is
  then refused at once, whether it was asked for or not.
- What is asked for is imported when it is loaded, and nothing else.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import RequestError

_NAME = re.compile("[a-z0-9][a-z0-9._-]{0,39}")
"""Names are parts of test ids and file names, on file systems that ignore case, too."""
_OURS = "pytest-specdec itself"


class Registry:
    """One group of entry points and this package's own objects of the same sort, by name.

    A plain class: a frozen dataclass takes milliseconds to make, in every run of pytest.
    """

    def __init__(
        self,
        group: str,
        noun: str,
        built_in: Mapping[str, str],
        *,
        reserved: Collection[str] = (),
    ) -> None:
        self.group, self.noun = group, noun
        """The group of entry points, and what one of them is called in messages."""
        self.built_in = built_in
        """This package's own, `module:attribute` by name, as entry points are written."""
        self.reserved = reserved
        """Further names that other packages cannot take."""

    def __contains__(self, name: object) -> bool:
        """Whether a name is known; raises as `added` does."""
        return name in self.built_in or name in self.added()

    def __iter__(self) -> Iterator[str]:
        """All names, this package's own first; raises as `added` does."""
        return iter([*self.built_in, *self.added()])

    def added(self) -> Mapping[str, EntryPoint]:
        """The entry points of other packages by name, sorted.

        Raises RequestError for a name that cannot be used, or that is registered twice.
        """
        points: dict[str, EntryPoint] = {}
        for point in _read(self.group, tuple(map(str, sys.path))):
            if not _NAME.fullmatch(point.name):
                raise RequestError(
                    f"{package_of(point)} registers the {self.noun} {point.name!r}, which is not "
                    "a usable name; uninstall that package, or let it use at most 40 lower-case "
                    "letters, digits, '.', '_' and '-'"
                )
            ours = point.name in self.built_in or point.name in self.reserved
            if ours or point.name in points:
                other = _OURS if ours else package_of(points[point.name])
                raise RequestError(
                    f"the {self.noun} {point.name!r} is registered by {other} and by "
                    f"{package_of(point)}; uninstall one of them, or let it use another name"
                )
            points[point.name] = point
        return points

    def load(self, name: str) -> Any:
        """What a known name stands for, imported.

        Raises RequestError as `added` does and where the import of another package's fails, and
        ImportError where that of this package's own does.
        """
        added = self.added()
        if name in self.built_in:
            return EntryPoint(name, self.built_in[name], self.group).load()
        try:
            return added[name].load()
        except Exception as error:  # another package's import can fail anyhow
            reason = " ".join(str(error).split())[:200]
            raise self.fault(
                name, f"cannot be imported ({type(error).__name__}: {reason})"
            ) from error

    def fault(self, name: str, problem: str) -> RequestError:
        """The error for something of another package that cannot be used: `problem` continues the
        sentence that its name begins.
        """
        point = self.added()[name]
        return RequestError(
            f"the {self.noun} {name!r} of {package_of(point)} {problem}; repair that package, "
            f"whose entry point is {point.value}, or uninstall it"
        )


def package_of(point: EntryPoint) -> str:
    """The package that registers an entry point, and its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


@functools.lru_cache(maxsize=16)
def _read(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group on a `sys.path`, sorted and each once."""
    points = {
        (point.name, package_of(point), point.value): point for point in entry_points(group=group)
    }
    return tuple(points[key] for key in sorted(points))
