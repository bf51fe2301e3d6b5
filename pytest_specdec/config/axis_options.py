"""Options that may hold several values, a case for each: axes along which cases are compared."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .option_type import Option
from .parsers import Parser, ValueRefusedError, file_name

if TYPE_CHECKING:
    from ..cases.drafting import DraftSampling
    from ..cases.template_flags import TemplateFlags

MOST_VALUES = 64
"""Values of one axis; more are a mistake."""


def several(one: Callable[[object], Any], example: str) -> Parser[Any]:
    """One value, or a tuple of those of a list, each once; as text, separated by semicolons."""

    def check(value: object) -> Any:
        if not isinstance(value, list | tuple):
            return one(value)
        if not 0 < len(value) <= MOST_VALUES:
            raise ValueRefusedError(f"holds {len(value)} values; {example}")
        return tuple(dict.fromkeys(map(one, value)))

    return Parser(
        lambda text: check(text.split(";") if ";" in text else text),
        check,
        lambda value: ";".join(map(str, values_of(value))),
    )


def values_of(value: Any) -> tuple[Any, ...]:
    """The values of an axis: those of a tuple, or the value alone.

    >>> values_of("argmax"), values_of(("argmax", "unfiltered"))
    (('argmax',), ('argmax', 'unfiltered'))
    """
    return value if isinstance(value, tuple) else (value,)


def _drafting(value: object) -> DraftSampling:
    from ..cases.drafting import parse_drafting
    from ..common.errors import RequestError

    if not isinstance(value, str):
        raise ValueRefusedError(
            "is not text; pass a string like 'argmax' or 'temperature=0.7', or a list of them"
        )
    try:
        return parse_drafting(value)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _flags(value: object) -> TemplateFlags:
    from ..cases.template_flags import parse_template_flags, template_flags
    from ..common.errors import RequestError

    if not isinstance(value, str | Mapping):
        raise ValueRefusedError(
            "is neither text nor a dict; pass for example {'enable_thinking': False}"
        )
    try:
        return parse_template_flags(value) if isinstance(value, str) else template_flags(value)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


TARGET: Option[str | tuple[str, ...] | None] = Option(
    name="target",
    parser=several(lambda value: file_name.check(value), "name one target or a list of them"),
    metavar="PATH[;PATH]",
    help="Target model: a checkpoint folder or hub id; of several, a case for each",
    default=None,
    required=True,
    marker="target",
    narrows=True,
)
DRAFTING: Option[DraftSampling | tuple[DraftSampling, ...] | None] = Option(
    name="drafting",
    parser=several(_drafting, "pass a string like 'argmax' or a list of them"),
    metavar="HOW[;HOW]",
    help="How drafts are drawn: argmax, unfiltered, temperature=T, longer-blocks; a case for each",
    default=None,
    default_words="as the target's tokens",
    marker="drafting",
    narrows=True,
)
TEMPLATE: Option[TemplateFlags | tuple[TemplateFlags, ...] | None] = Option(
    name="template",
    parser=several(_flags, "pass for example {'enable_thinking': False} or a list of such"),
    metavar="FLAGS[;FLAGS]",
    help="Flags of the chat template: enable_thinking=false, system_prompt=TEXT; a case for each",
    default=None,
    default_words="the template's own",
    marker="template",
    narrows=True,
)
