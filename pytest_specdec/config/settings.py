"""What the command line, the markers and the ini file ask for, and which of them wins."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar, cast

from ..common.errors import RequestError
from . import engines
from .option_type import Option
from .options import (
    BASELINES,
    ENGINE,
    HIDDEN_STATES,
    MARKER_ARGUMENTS,
    OPTIONS,
    REPORT,
    URL,
)
from .parsers import ValueRefusedError, shown

if TYPE_CHECKING:
    import pytest

T = TypeVar("T")


class Source:
    """The values that one place gives, by their option: `source[options.K]` is None without one.

    Made with keywords, as the place names its options: `Source(k=(4,), top_k=50)`.
    """

    _OPTIONS: ClassVar[Mapping[str, Option[Any]]]

    def __init__(self, **values: Any) -> None:
        self._values = {
            self._OPTIONS[name]: value for name, value in values.items() if value is not None
        }

    def __getitem__(self, option: Option[T]) -> T | None:
        return cast("T | None", self._values.get(option))

    def __bool__(self) -> bool:
        """Whether any value is given."""
        return bool(self._values)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values == cast(Self, other)._values

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = (f"{option.name}={value!r}" for option, value in self._values.items())
        return f"{type(self).__name__}({', '.join(values)})"

    def without(self, option: Option[Any]) -> Self:
        """All values but one option's."""
        return type(self)(
            **{
                name: self._values.get(known)
                for name, known in self._OPTIONS.items()
                if known is not option
            }
        )


class OptionValues(Source):
    """The values of the command line or the ini file."""

    _OPTIONS: ClassVar = {option.key: option for option in OPTIONS}

    @classmethod
    def of_command_line(cls, config: pytest.Config) -> OptionValues:
        """Read the command line, whose values pytest has parsed. Raises RequestError for options
        that exclude each other.
        """
        values = cls(**{option.key: config.getoption(option.flag) for option in OPTIONS})
        if (reports := values[REPORT]) is not None:
            values._values[REPORT] = tuple(reports)
        for option in OPTIONS:
            for other, why in option.excludes.items():
                if values[option] is not None and values[other] is not None:
                    raise RequestError(
                        f"{option.flag} with {other.flag} {why}; leave one of them out"
                    )
        if (folder := values[HIDDEN_STATES]) is not None:
            values._values |= {ENGINE: engines.HIDDEN_STATES, URL: str(folder)}
        return values

    @classmethod
    def of_ini_file(cls, config: pytest.Config) -> OptionValues:
        """Read the ini file. Raises RequestError for a bad value."""
        return cls(
            **{
                option.key: _from_ini(option, str(config.getini(option.ini_name)).strip())
                for option in OPTIONS
                if option.ini
            }
        )


class Marker(Source):
    """The arguments of the `specdec` marker; paths are relative to the test file's folder."""

    _OPTIONS: ClassVar = MARKER_ARGUMENTS

    @classmethod
    def from_pytest_mark(
        cls, args: tuple[object, ...], kwargs: Mapping[str, object], where: str
    ) -> Marker:
        """Check a marker. Raises RequestError naming the valid arguments, or the bad value."""
        names = ", ".join(cls._OPTIONS)
        if args:
            raise RequestError(
                f"{where}: the specdec marker takes keywords only; name them: {names}"
            )
        if unknown := sorted(set(kwargs) - set(cls._OPTIONS)):
            raise RequestError(
                f"{where}: the specdec marker has no argument {', '.join(unknown)}; choose among "
                f"{names}"
            )
        return cls(
            **{
                name: _from_marker(cls._OPTIONS[name], value, f"{where}: {name}={shown(value)}")
                for name, value in kwargs.items()
            }
        )


class Given(NamedTuple):
    """A value that was given, and the folder that its source is relative to."""

    value: Any
    folder: Path


@dataclasses.dataclass(frozen=True)
class Settings:
    """A session's options. Which value wins is decided in `value` and `given` alone: the command
    line's, then the marker's, the ini file's, and the default.
    """

    command_line: OptionValues
    ini: OptionValues
    root: Path
    """Folder that ini paths and the baselines folder are relative to."""
    invoked_from: Path
    """Folder that command-line paths are relative to."""

    @classmethod
    def from_pytest_config(cls, config: pytest.Config) -> Settings:
        """Read all options.

        Raises RequestError for a bad ini value or options that exclude each other; pytest itself
        refuses bad command-line values.
        """
        return cls(
            OptionValues.of_command_line(config),
            OptionValues.of_ini_file(config),
            config.rootpath,
            config.invocation_params.dir,
        )

    def value(self, option: Option[T], marker: Marker | None = None) -> T:
        """An option's value; zero and empty count as given."""
        given = self.given(option, marker)
        return option.default if given is None else cast(T, given.value)

    def given(
        self, option: Option[Any], marker: Marker | None = None, test_folder: Path | None = None
    ) -> Given | None:
        """The value that wins, with the folder it is relative to; None where the default does.

        `test_folder` is the marker's folder, needed for paths only.
        """
        sources = (
            (self.command_line, self.invoked_from),
            (marker, test_folder or self.root),
            (self.ini, self.root),
        )
        for source, folder in sources:
            if source is not None and (value := source[option]) is not None:
                return Given(value, folder)
        return None

    def path(
        self,
        option: Option[Path] | Option[Path | None],
        marker: Marker | None = None,
        test_folder: Path | None = None,
    ) -> Path | None:
        """A path option, resolved against the folder its source is relative to; None without
        one.
        """
        given = self.given(option, marker, test_folder)
        return None if given is None else given.folder / given.value

    @property
    def active(self) -> bool:
        """Whether any option is given; in a project that merely has the plugin installed, nothing
        is printed.
        """
        return bool(self.command_line or self.ini)

    @property
    def url(self) -> str | None:
        """Where a foreign engine is; a file's path is made absolute."""
        given = self.given(URL)
        if given is None or "://" in given.value:
            return None if given is None else str(given.value)
        return str(given.folder / Path(given.value).expanduser())

    @property
    def baselines(self) -> Path:
        """Folder of the stored baselines."""
        return self.path(BASELINES) or self.root / BASELINES.default

    @property
    def reports(self) -> tuple[Path, ...]:
        """Files of the reports to be written."""
        return tuple(self.invoked_from / path for path in self.value(REPORT))

    @property
    def writes_html(self) -> bool:
        """Whether one of the reports is a page."""
        return any(path.suffix == ".html" for path in self.value(REPORT))


def _from_ini(option: Option[T], text: str) -> T | None:
    if not text:
        return None
    try:
        return cast(T, option.parser(text))
    except argparse.ArgumentTypeError as error:
        raise RequestError(f"ini option {option.ini_name}: {error}") from None


def _from_marker(option: Option[T], value: object, where: str) -> T:
    try:
        return cast(T, option.parser.check(value))
    except (ValueRefusedError, argparse.ArgumentTypeError) as refusal:
        raise RequestError(f"{where} {refusal}") from None
