"""Options of commands that sample tokens of a target."""

from __future__ import annotations

import argparse

from ..common.limits import MOST_NEW_TOKENS
from ..config.parsers import temperature, whole_number


def add_text_options(parser: argparse.ArgumentParser, *, new_tokens: int) -> None:
    """`--temperature`, `--new-tokens` with a default, and `--seed`."""
    add_temperature_option(parser)
    parser.add_argument(
        "--new-tokens",
        type=whole_number(2, MOST_NEW_TOKENS),
        default=new_tokens,
        metavar="N",
        help="tokens of each text after its prompt (default %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="seed of the texts (default %(default)s)",
    )


def add_temperature_option(parser: argparse.ArgumentParser) -> None:
    """`--temperature`, 1 by default."""
    parser.add_argument(
        "--temperature",
        type=temperature,
        default=1.0,
        metavar="T",
        help="sampling temperature (default %(default)s)",
    )
