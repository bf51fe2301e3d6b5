"""One entry of the table of options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from .parsers import Parser, switch

T_co = TypeVar("T_co", covariant=True)


class Option(Generic[T_co]):
    """One setting of a run: `--specdec-NAME` on the command line, `specdec_NAME` in the ini file,
    and, where the marker takes it, one of the marker's arguments.

    A plain class: a frozen dataclass takes milliseconds to make, in every run of pytest.
    """

    def __init__(
        self,
        *,
        name: str,
        parser: Parser[Any],
        default: T_co,
        help: str,  # noqa: A002  # argparse's word
        metavar: str = "",
        command_line: bool = True,
        ini: bool = True,
        marker: str | None = None,
        narrows: bool = False,
        excludes: Mapping[Option[Any], str] | None = None,
        default_words: str | None = None,
        required: bool = False,
        repeats: bool = False,
    ) -> None:
        self.name, self.parser, self.default, self.metavar = name, parser, default, metavar
        self.help = help
        """One line, without the default."""
        self.command_line, self.ini = command_line, ini
        self.marker = marker
        """The marker's argument; None where the marker does not take it."""
        self.narrows = narrows
        """Whether it makes a run cover other cells than the tests choose, so that a stored file
        that no test needs is not superfluous.
        """
        self.excludes = excludes or {}
        """Options that do not go with it on one command line, and what they would do together."""
        self.default_words = default_words
        """The default in words, where the value itself does not name it."""
        self.required = required
        self.repeats = repeats
        """Whether it may be given more than once."""

    @property
    def flag(self) -> str:
        return f"--specdec-{self.name}"

    @property
    def key(self) -> str:
        """The name as an identifier."""
        return self.name.replace("-", "_")

    @property
    def ini_name(self) -> str:
        return f"specdec_{self.key}"

    @property
    def takes_value(self) -> bool:
        return self.parser is not switch

    @property
    def action(self) -> str:
        """How argparse stores it."""
        if not self.takes_value:
            return "store_true"
        return "extend" if self.repeats else "store"

    @property
    def default_text(self) -> str:
        """The default as help and docs write it."""
        if self.required:
            return "required"
        if self.default_words is not None:
            return self.default_words
        return "none" if self.default in (None, ()) else self.parser.show(self.default)

    @property
    def help_text(self) -> str:
        """The line of `pytest --help`: with the default, where there is one."""
        if self.required:
            return f"{self.help} (required)"
        if not self.takes_value or self.default_text == "none":
            return self.help
        return f"{self.help} (default: {self.default_text})"
