"""Options and markers, parsed once into frozen objects. Command line over marker over ini file over default."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import RequestError

if TYPE_CHECKING:
    import pytest

Value = TypeVar("Value")

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
ENGINES = ("replay",)
UPDATES = ("new", "changed", "all")
INCONCLUSIVE = ("fail", "warn")
REPORTS = (".json",)


@dataclasses.dataclass(frozen=True)
class Option:
    """One option: `--specdec-NAME` on the command line and, unless told otherwise, `specdec_NAME` in the ini file."""

    name: str
    parse: Callable[[str], Any]
    metavar: str
    help: str
    ini: bool = True
    repeatable: bool = False

    @property
    def flag(self) -> str:
        return f"--specdec-{self.name}"

    @property
    def ini_name(self) -> str:
        return f"specdec_{self.name.replace('-', '_')}"


def whole_numbers(least: int) -> Callable[[str], tuple[int, ...]]:
    """Parser of a comma-separated list of whole numbers, each at least `least`."""
    one = whole_number(least, example="4,8")

    def parse(text: str) -> tuple[int, ...]:
        return tuple(dict.fromkeys(one(part.strip()) for part in text.split(",")))

    return parse


def whole_number(least: int, example: str = "64") -> Callable[[str], int]:
    """Parser of one whole number of at least `least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}; write for example {example}")
        return value

    return parse


def fraction(*, above_zero: bool, below: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            value = -1.0
        if not value < below or value < 0 or (above_zero and value == 0):
            raise argparse.ArgumentTypeError(f"{text!r} is out of range; write a number below {below:g} like 0.01 or 1%")
        return value

    return parse


def non_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a temperature; write 0 for greedy decoding or a positive number")
    return value


def one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(names)}; choose one of these")
        return text

    return parse


def report_file(text: str) -> Path:
    path = Path(text)
    if path.suffix not in REPORTS:
        raise argparse.ArgumentTypeError(f"{text!r} ends in no known report format; end it in {' or '.join(REPORTS)}")
    return path


OPTIONS = (
    Option("k", whole_numbers(1), "K[,K]", "Draft tokens per round to measure"),
    Option("depth", whole_numbers(0), "D[,D]", "MTP layers per drafter pass to measure; 0 is a plain draft model"),
    Option("target", str, "PATH", "Target model: a checkpoint folder or hub id"),
    Option("draft", str, "PATH", "Draft model: a checkpoint folder or hub id"),
    Option("device", one_of(*DEVICES), "NAME", "Where the models run: auto (default), cpu or cuda"),
    Option("dtype", one_of(*DTYPES), "NAME", "Number format of the weights: float32 (default), bfloat16 or float16"),
    Option("engine", one_of(*ENGINES), "NAME", "How acceptance is measured: replay (default)"),
    Option("temperature", non_negative, "T", "Sampling temperature; 0 is greedy decoding"),
    Option("prompts", whole_number(1), "N", "Use the first N prompts of each prompt file"),
    Option("new-tokens", whole_number(2), "N", "Tokens of text per prompt (default 128)"),
    Option("seed", whole_number(0), "N", "Seed of newly sampled texts (default 0)"),
    Option("alpha", fraction(above_zero=True, below=0.5), "A", "False-alarm rate of the whole session (default 1%%)"),
    Option("margin", fraction(above_zero=False, below=1.0), "M", "Relative drop that fails a gate (default 0.5%%)"),
    Option("inconclusive", one_of(*INCONCLUSIVE), "WORD", "What an undecided gate does: fail (default) or warn"),
    Option("costs", Path, "FILE", "Cost profile to compute the theoretical speed-up from"),
    Option("baselines", Path, "DIR", "Folder of the stored baselines (default: baselines)"),
    Option("update", one_of(*UPDATES), "WHICH", "Write baselines: new, changed or all", ini=False),
    Option("report", report_file, "FILE", "Write a report; the ending names its format (.json)", ini=False, repeatable=True),
)


@dataclasses.dataclass(frozen=True)
class Given:
    """What one source (command line or ini file) asks for; None where it is silent."""

    k: tuple[int, ...] | None = None
    depth: tuple[int, ...] | None = None
    target: str | None = None
    draft: str | None = None
    device: str | None = None
    dtype: str | None = None
    engine: str | None = None
    temperature: float | None = None
    prompts: int | None = None
    new_tokens: int | None = None
    seed: int | None = None
    alpha: float | None = None
    margin: float | None = None
    inconclusive: str | None = None
    costs: Path | None = None
    baselines: Path | None = None
    update: str | None = None
    report: tuple[Path, ...] | None = None


def first(*values: Value | None, default: Value) -> Value:
    """The first value that was given; zero and empty count as given."""
    return next((value for value in values if value is not None), default)


@dataclasses.dataclass(frozen=True)
class Settings:
    """A session's options, with where each came from kept apart until a marker is known."""

    command_line: Given
    ini: Given
    root: Path
    """Folder that ini paths and the baselines folder are relative to."""
    invoked_from: Path
    """Folder that command-line paths are relative to."""

    @classmethod
    def from_pytest_config(cls, config: pytest.Config) -> Settings:
        """Read all options.

        Raises RequestError for a bad ini value or options that exclude each other; pytest itself refuses bad
        command-line values.
        """
        given = {o.name.replace("-", "_"): config.getoption(o.flag) for o in OPTIONS}
        if given["report"] is not None:
            given["report"] = tuple(given["report"])
        if given["update"] is not None and given["prompts"] is not None:
            raise RequestError("--specdec-update with --specdec-prompts would drop prompts from baselines; leave one of them out")
        ini = {o.name.replace("-", "_"): _from_ini(o, str(config.getini(o.ini_name))) for o in OPTIONS if o.ini}
        return cls(Given(**given), Given(**ini), config.rootpath, config.invocation_params.dir)

    @property
    def speaks(self) -> bool:
        """Whether anything was asked for at all; a project that merely has the plugin installed hears nothing."""
        return self.command_line != Given() or self.ini != Given()

    def scalar(self, name: str, default: Value) -> Value:
        """A session-wide option: command line, then ini, then the default."""
        value: Value = first(getattr(self.command_line, name), getattr(self.ini, name), default=default)
        return value

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
    prompts: str | None = None
    new_tokens: int | None = None
    margin: float | None = None
    costs: str | None = None

    @classmethod
    def from_pytest_mark(cls, args: tuple[object, ...], kwargs: Mapping[str, object], where: str) -> Marker:
        """Check a marker. Raises RequestError naming the valid arguments, or the value that is none."""
        names = ", ".join(field.name for field in dataclasses.fields(cls))
        if args:
            raise RequestError(f"{where}: the specdec marker takes keywords only; name them: {names}")
        if unknown := sorted(set(kwargs) - {field.name for field in dataclasses.fields(cls)}):
            raise RequestError(f"{where}: the specdec marker knows no {', '.join(unknown)}; choose among {names}")
        return cls(**{name: _MARKER_CHECKS[name](value, f"{where}: {name}={value!r}") for name, value in kwargs.items()})


def _from_ini(option: Option, text: str) -> Any:
    if not text.strip():
        return None
    try:
        return option.parse(text.strip())
    except argparse.ArgumentTypeError as error:
        raise RequestError(f"ini option {option.ini_name}: {error}") from None


def _text(value: object, where: str) -> str:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise RequestError(f"{where} is no text; pass a string")


def _reparse(parse: Callable[[str], Any], *kinds: type) -> Callable[[object, str], Any]:
    """Hold a marker's value to the same rules as the option's text."""

    def check(value: object, where: str) -> Any:
        values = value if isinstance(value, list | tuple) else [value]
        if not values or any(isinstance(item, bool) or not isinstance(item, kinds) for item in values):
            raise RequestError(f"{where} is not {' or '.join(kind.__name__ for kind in kinds)}; pass a number")
        try:
            return parse(",".join(map(str, values)))
        except argparse.ArgumentTypeError as error:
            raise RequestError(f"{where}: {error}") from None

    return check


_MARKER_CHECKS: dict[str, Callable[[object, str], Any]] = {
    "target": _text,
    "drafter": _text,
    "k": _reparse(whole_numbers(1), int),
    "depth": _reparse(whole_numbers(0), int),
    "rule": _text,
    "temperature": _reparse(non_negative, int, float),
    "prompts": _text,
    "new_tokens": _reparse(whole_number(2), int),
    "margin": _reparse(fraction(above_zero=False, below=1.0), int, float),
    "costs": _text,
}
