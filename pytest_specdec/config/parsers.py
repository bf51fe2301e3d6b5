"""What options and markers take: text from the command line and the ini file, values of Python from
markers, both held to the same rules. Imported by every pytest run, so it imports next to nothing.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..common.limits import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    MOST_NEW_TOKENS,
    MOST_TOKEN_ID,
)

if TYPE_CHECKING:
    from ..cases.case import JudgedRange
    from ..cases.processors import ProcessorSpec
    from ..cases.shard import Shard
    from ..cases.tree import Tree

T_co = TypeVar("T_co", covariant=True)

_UNUSABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and what stands for bytes of the command line that are not UTF-8."""


class ValueRefusedError(Exception):
    """A value that is not taken. The message lacks its subject: `is out of range; write ...`."""


class Parser(Generic[T_co]):
    """Reads one kind of value. Called with a text, it is a `type` of argparse.

    A plain class: a frozen dataclass takes milliseconds to make, in every run of pytest.
    """

    def __init__(
        self,
        read: Callable[[str], T_co],
        check: Callable[[object], T_co],
        show: Callable[[Any], str] = str,
    ) -> None:
        self.read = read
        """From text. Raises ValueRefusedError, or ArgumentTypeError with a message of its own."""
        self.check = check
        """From a value of Python, never written as text on the way. Raises as `read`."""
        self.show = show
        """How help and docs write a value."""

    def __call__(self, text: str) -> T_co:
        """The value of a text. Raises argparse.ArgumentTypeError."""
        try:
            return self.read(text)
        except ValueRefusedError as refusal:
            raise argparse.ArgumentTypeError(f"{_quoted(text)} {refusal}") from None


def whole_number(least: int, most: int = MOST_TOKEN_ID, example: str = "64") -> Parser[int]:
    """One whole number from `least` to `most`; as text, in decimal digits."""

    def in_range(value: int) -> int:
        if value < least:
            raise ValueRefusedError(
                f"is not a whole number of at least {least}; write for example {example}"
            )
        if value > most:
            raise ValueRefusedError(f"is more than {most}; write for example {example}")
        return value

    def read(text: str) -> int:
        digits = text.strip()
        return in_range(int(digits) if re.fullmatch("[0-9]{1,30}", digits) else least - 1)

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueRefusedError(f"is not an int; pass a whole number, for example {example}")
        return in_range(value)

    return Parser(read, check)


def whole_numbers(least: int, most: int) -> Parser[tuple[int, ...]]:
    """Whole numbers from `least` to `most`, each once; as text, separated by commas."""
    number = whole_number(least, most, example="4,8")

    def check(value: object) -> tuple[int, ...]:
        if not isinstance(value, list | tuple):
            return (number.check(value),)
        if not value:
            raise ValueRefusedError("is empty; pass a whole number or a list of them")
        return tuple(dict.fromkeys(map(check_item, value)))

    def check_item(item: object) -> int:
        try:
            return number.check(item)
        except ValueRefusedError as refusal:
            raise ValueRefusedError(f"has {shown(item)}, which {refusal}") from None

    return Parser(
        lambda text: tuple(dict.fromkeys(number(part.strip()) for part in text.split(","))),
        check,
        lambda values: ",".join(map(str, values)),
    )


def fraction(*, above_zero: bool, below: float) -> Parser[float]:
    """A number from 0 up to `below`; as text, also in percent."""

    def in_range(value: float) -> float:
        if not 0 <= value < below or (above_zero and value == 0):
            raise ValueRefusedError(
                f"is out of range; write a number below {below:g} like 0.01 or 1%"
            )
        return float(value)

    return Parser(
        lambda text: in_range(_decimal(text.removesuffix("%")) / (100 if text[-1:] == "%" else 1)),
        lambda value: in_range(_number(value)),
        lambda value: f"{100 * value:g}%",
    )


def _temperature(value: float) -> float:
    if value != 0 and not LOWEST_TEMPERATURE <= value <= HIGHEST_TEMPERATURE:
        raise ValueRefusedError(
            "is not a temperature; write 0 for greedy decoding or a number from "
            f"{LOWEST_TEMPERATURE:g} to {HIGHEST_TEMPERATURE:g}"
        )
    return abs(float(value))


def _probability(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueRefusedError("is out of range; write a number above 0 and at most 1, like 0.95")
    return float(value)


def _decimal(text: str) -> float:
    """A decimal number; nan for anything else, also for what Python's float() takes besides:
    infinities, 1_0, digits of other scripts.
    """
    plain = text.strip()
    known = len(plain) <= 60 and re.fullmatch(
        r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", plain
    )
    return float(plain) if known else float("nan")


def _number(value: object) -> float:
    """An int or float as it is: a huge int cannot become a float before its range is checked."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueRefusedError("is not an int or float; pass a number")
    return value


temperature = Parser[float](
    lambda text: _temperature(_decimal(text)),
    lambda value: _temperature(_number(value)),
    "{:g}".format,
)
"""A sampling temperature, 0 for greedy decoding."""
probability = Parser[float](
    lambda text: _probability(_decimal(text)),
    lambda value: _probability(_number(value)),
    "{:g}".format,
)
"""A number above 0 and at most 1."""


def text(read: Callable[[str], T_co], cure: str = "pass a string", *kinds: type) -> Parser[T_co]:
    """A value that is written as text in markers, too."""

    def check(value: object) -> T_co:
        if not isinstance(value, (str, *kinds)):
            raise ValueRefusedError(f"is not text; {cure}")
        return read(str(value))

    return Parser(read, check)


def one_of(*names: str) -> Parser[str]:
    """One of a few words."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueRefusedError(f"is not one of {', '.join(names)}; choose one of these")
        return text

    return text(read)


def _file_name(text: str) -> str:
    parts = text.encode(errors="surrogatepass").split(b"/")
    usable = 0 < len(text) <= 4096 and max(map(len, parts)) <= 255
    if not usable or _UNUSABLE.search(text):
        raise ValueRefusedError(
            "is not the name of a file; write a path without control characters"
        )
    return text


file_name = text(_file_name, "pass a string", Path)
"""The name of a file, a folder or a model on the hub, which every file system can hold."""
file_path = text(lambda text: Path(_file_name(text)), "pass a string", Path)
"""The same as a path."""


def files_ending_in(*endings: str) -> Parser[tuple[Path, ...]]:
    """One file with one of these endings; the option may be repeated, which makes it several."""

    def read(text: str) -> tuple[Path, ...]:
        if Path(text).suffix not in endings:
            raise ValueRefusedError(
                f"ends in no known report format; end it in {' or '.join(endings)}"
            )
        return (Path(_file_name(text)),)

    return text(read)


def _server_url(text: str) -> str:
    from ..common.errors import RequestError
    from ..common.urls import check_server_url

    try:
        check_server_url(text)
    except RequestError as error:  # it quotes the URL without what is secret in it
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


server_url = text(_server_url)
"""The URL of a server."""
server_or_file = text(lambda text: _server_url(text) if "://" in text else _file_name(text))
"""The URL of a server, or the name of a file."""


"""How drafts are drawn."""


def _ray_address(text: str) -> str:
    if not re.fullmatch(r"local|auto|(ray://)?[\w.:\[\]-]+:[0-9]{1,5}", text, re.ASCII):
        raise ValueRefusedError("is no address of a Ray cluster; write local, auto or HOST:PORT")
    return text


ray_address = text(_ray_address)
"""The address of a Ray cluster, or `local` for one of this machine alone."""


def _id_range(text: str) -> JudgedRange:
    from ..cases.case import JudgedRange

    match = re.fullmatch(
        r"\s*([0-9]{1,10})\s*:\s*([0-9]{1,10})\s*(?::\s*([0-9]{1,10})\s*)?", text, re.ASCII
    )
    first, end, every = (int(part or 1) for part in match.groups()) if match else (0, 0, 0)
    if not (first < end <= MOST_TOKEN_ID + 1 and 0 < every <= MOST_NEW_TOKENS):
        raise ValueRefusedError(
            "is not a range of token ids; write FIRST:END, and FIRST:END:2 where every second "
            "token is in it"
        )
    return JudgedRange(first, end, every)


id_range = text(_id_range, "pass a string like '41:297'")
"""FIRST:END or FIRST:END:EVERY, as in a Python slice."""


def _processors(given: object) -> ProcessorSpec:
    from ..cases.processors import ProcessorSpec, parse_processors
    from ..common.errors import RequestError

    if not isinstance(given, str | Mapping):
        raise ValueRefusedError(
            "is neither text nor a dict; pass for example {'repetition_penalty': 1.1}"
        )
    try:
        return parse_processors({} if given == "none" else given) or ProcessorSpec()
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


logits_processors = Parser(_processors, _processors, str)
"""Logits processors by name, as text or as a dict; `none` for none."""


def _draft_tree(given: object) -> Tree:
    from ..cases.tree import tree_of
    from ..common.errors import RequestError

    try:
        return tree_of(given)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


draft_tree = Parser(_draft_tree, _draft_tree, str)
"""A tree of drafts, as text, as a list of paths or as a dict."""


def _import_path(text: str) -> str:
    module, _, name = text.partition(":")
    if len(text) > 1000 or not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ValueRefusedError(
            "does not name a function; write module:function, like my_engine.sampler:verify"
        )
    return text


import_path = text(_import_path, "pass 'module:function'")
"""module:function."""


def _on(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueRefusedError("is not True or False; pass one of these")
    return value


switch = Parser[bool](lambda text: True, _on, lambda on: "on" if on else "off")
"""An option without a value."""


def shown(value: object) -> str:
    """A value of Python as messages name it."""
    try:
        text = repr(value)
    except ValueError:  # whole numbers of thousands of digits
        return "a huge number"
    return text if len(text) <= 200 else text[:197] + "..."


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def shard() -> Parser[Shard]:
    """`I/N`: which of how many processes; the fields of both have the same range."""

    def read(text: str) -> Shard:
        from ..cases.shard import Shard

        found = re.fullmatch("([0-9]{1,6})/([0-9]{1,6})", text.strip())
        number, shards = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= shards:
            raise ValueRefusedError(
                "is not one of so many shards, counted from 1; write for example 2/4"
            )
        return Shard(number, shards)

    def check(value: object) -> Shard:
        return read(str(value))

    return Parser(read, check)
