"""Options and markers, parsed once into frozen objects. Command line over marker over ini file over
default.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..common.errors import RequestError
from ..common.limits import MOST_DEPTH, MOST_K, MOST_NEW_TOKENS, MOST_PROMPTS
from .options import (
    OPTIONS,
    Option,
    file_name,
    fraction,
    id_range,
    probability,
    temperature,
    whole_number,
    whole_numbers,
)

if TYPE_CHECKING:
    import pytest

    from ..cases.case import JudgedRange

Value = TypeVar("Value")

DEFAULT_ALPHA = 0.01
_EXCLUSIVE = (
    ("update", "prompts", "would drop prompts from baselines"),
    ("accumulate", "update", "would judge against a baseline that is being replaced"),
    ("accumulate", "prompts", "would mix runs of different prompts"),
    ("accumulate", "repeats", "would count one night as several"),
)


@dataclasses.dataclass(frozen=True)
class OptionValues:
    """What one source (command line or ini file) asks for; None where it is silent."""

    k: tuple[int, ...] | None = None
    depth: tuple[int, ...] | None = None
    target: str | None = None
    draft: str | None = None
    device: str | None = None
    dtype: str | None = None
    engine: str | None = None
    url: str | None = None
    draft_url: str | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    judged: JudgedRange | None = None
    prompts: int | None = None
    new_tokens: int | None = None
    seed: int | None = None
    alpha: float | None = None
    margin: float | None = None
    inconclusive: str | None = None
    repeats: int | None = None
    verifier: str | None = None
    costs: Path | None = None
    costs_margin: float | None = None
    baselines: Path | None = None
    update: str | None = None
    prune: bool | None = None
    accumulate: bool | None = None
    report: tuple[Path, ...] | None = None
    language: str | None = None


def first(*values: Value | None, default: Value) -> Value:
    """The first value that was given; zero and empty count as given."""
    return next((value for value in values if value is not None), default)


@dataclasses.dataclass(frozen=True)
class Settings:
    """A session's options, with where each came from kept apart until a marker is known."""

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
        given = {o.name.replace("-", "_"): config.getoption(o.flag) for o in OPTIONS}
        if given["report"] is not None:
            given["report"] = tuple(given["report"])
        for one, other, why in _EXCLUSIVE:
            if given[one] is not None and given[other] is not None:
                raise RequestError(
                    f"--specdec-{one} with --specdec-{other} {why}; leave one of them out"
                )
        ini = {
            o.name.replace("-", "_"): _from_ini(o, str(config.getini(o.ini_name)))
            for o in OPTIONS
            if o.ini
        }
        return cls(
            OptionValues(**given),
            OptionValues(**ini),
            config.rootpath,
            config.invocation_params.dir,
        )

    @property
    def speaks(self) -> bool:
        """Whether anything was asked for at all; a project that merely has the plugin installed
        hears nothing.
        """
        return self.command_line != OptionValues() or self.ini != OptionValues()

    def scalar(self, name: str, default: Value) -> Value:
        """A session-wide option: command line, then ini, then the default."""
        value: Value = first(
            getattr(self.command_line, name), getattr(self.ini, name), default=default
        )
        return value

    @property
    def engine(self) -> str:
        return self.scalar("engine", "replay")

    @property
    def url(self) -> str | None:
        """Where a foreign engine is; a file's path is taken from the folder that its source is
        relative to.
        """
        line, ini = self.command_line.url, self.ini.url
        for given, folder in ((line, self.invoked_from), (ini, self.root)):
            if given is not None:
                return given if "://" in given else str(folder / Path(given).expanduser())
        return None

    @property
    def device(self) -> str:
        return self.scalar("device", "auto")

    @property
    def dtype(self) -> str:
        return self.scalar("dtype", "float32")

    @property
    def alpha(self) -> float:
        """False-alarm rate of the whole session."""
        return self.scalar("alpha", DEFAULT_ALPHA)

    @property
    def inconclusive(self) -> str:
        return self.scalar("inconclusive", "fail")

    @property
    def repeats(self) -> int | None:
        """Runs of each sampled case; None where nobody asked."""
        return self.scalar("repeats", None)

    def path(self, name: str) -> Path | None:
        """A path option, resolved against the folder its source is relative to."""
        if (given := getattr(self.command_line, name)) is not None:
            return self.invoked_from / Path(given)
        ini: Path | None = getattr(self.ini, name)
        return None if ini is None else self.root / ini

    @property
    def baselines(self) -> Path:
        return self.path("baselines") or self.root / "baselines"

    @property
    def reports(self) -> tuple[Path, ...]:
        return tuple(self.invoked_from / path for path in self.command_line.report or ())


@dataclasses.dataclass(frozen=True)
class Marker:
    """The `specdec` marker's arguments; paths are relative to the test file's folder."""

    target: str | None = None
    drafter: str | None = None
    k: tuple[int, ...] | None = None
    depth: tuple[int, ...] | None = None
    rule: str | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    judged: JudgedRange | None = None
    prompts: str | None = None
    prompt_limit: int | None = None
    new_tokens: int | None = None
    margin: float | None = None
    costs: str | None = None

    @classmethod
    def from_pytest_mark(
        cls, args: tuple[object, ...], kwargs: Mapping[str, object], where: str
    ) -> Marker:
        """Check a marker. Raises RequestError naming the valid arguments, or the value that is
        none.
        """
        names = ", ".join(field.name for field in dataclasses.fields(cls))
        if args:
            raise RequestError(
                f"{where}: the specdec marker takes keywords only; name them: {names}"
            )
        if unknown := sorted(set(kwargs) - {field.name for field in dataclasses.fields(cls)}):
            raise RequestError(
                f"{where}: the specdec marker knows no {', '.join(unknown)}; choose among {names}"
            )
        return cls(
            **{
                name: _MARKER_CHECKS[name](value, f"{where}: {name}={_shown(value)}")
                for name, value in kwargs.items()
            }
        )


def _from_ini(option: Option, text: str) -> Any:
    if not text.strip():
        return None
    try:
        return option.parse(text.strip())
    except argparse.ArgumentTypeError as error:
        raise RequestError(f"ini option {option.ini_name}: {error}") from None


def _text(value: object, where: str) -> str:
    if not isinstance(value, Path | str) or not str(value):
        raise RequestError(f"{where} is no text; pass a string")
    try:
        return file_name(str(value))
    except argparse.ArgumentTypeError as error:
        raise RequestError(f"{where}: {error}") from None


def _reparse(
    parse: Callable[[str], Any], *kinds: type, cure: str = "pass a number"
) -> Callable[[object, str], Any]:
    """Hold a marker's value to the same rules as the option's text."""

    def check(value: object, where: str) -> Any:
        values = value if isinstance(value, list | tuple) else [value]
        if not values or any(
            isinstance(item, bool) or not isinstance(item, kinds) for item in values
        ):
            raise RequestError(
                f"{where} is not {' or '.join(kind.__name__ for kind in kinds)}; {cure}"
            )
        try:
            return parse(",".join(map(_written, values)))
        except argparse.ArgumentTypeError as error:
            raise RequestError(f"{where}: {error}") from None

    return check


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # whole numbers of thousands of digits
        return "a huge number"
    return text if len(text) <= 200 else text[:197] + "..."


def _written(value: object) -> str:
    """A value as an option's text."""
    return "a huge number" if isinstance(value, int) and abs(value) >= 10**300 else str(value)


_MARKER_CHECKS: dict[str, Callable[[object, str], Any]] = {
    "target": _text,
    "drafter": _text,
    "k": _reparse(whole_numbers(1, MOST_K), int),
    "depth": _reparse(whole_numbers(0, MOST_DEPTH), int),
    "rule": _text,
    "temperature": _reparse(temperature, int, float),
    "top_k": _reparse(whole_number(0), int),
    "top_p": _reparse(probability, int, float),
    "judged": _reparse(id_range, str, cure="pass a string like '41:297'"),
    "prompts": _text,
    "prompt_limit": _reparse(whole_number(1, MOST_PROMPTS), int),
    "new_tokens": _reparse(whole_number(2, MOST_NEW_TOKENS), int),
    "margin": _reparse(fraction(above_zero=False, below=1.0), int, float),
    "costs": _text,
}
