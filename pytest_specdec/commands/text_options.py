"""Options of commands that sample tokens of a target, and of those that draft after them."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..common.limits import MOST_DEPTH, MOST_K, MOST_NEW_TOKENS
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


def add_target_option(parser: argparse.ArgumentParser) -> None:
    """`--target`."""
    parser.add_argument(
        "--target", required=True, metavar="PATH", help="target: a checkpoint folder or hub id"
    )


def add_draft_option(parser: argparse.ArgumentParser) -> None:
    """`--draft`, of every kind whose rounds are replayed."""
    parser.add_argument(
        "--draft",
        required=True,
        metavar="PATH",
        help="a draft model, an EAGLE-3 head, mtp or prompt-lookup",
    )


def add_prompts_option(parser: argparse.ArgumentParser) -> None:
    """`--prompts`."""
    parser.add_argument(
        "--prompts",
        required=True,
        type=Path,
        metavar="FILE",
        help="prompts, one JSON object a line",
    )


def add_most_drafts_options(parser: argparse.ArgumentParser) -> None:
    """`--k`, the most that a policy may draft, and `--depth`."""
    parser.add_argument(
        "--k",
        type=whole_number(1, MOST_K, example="4"),
        default=8,
        metavar="K",
        help="most tokens to draft in a round (default %(default)s)",
    )
    parser.add_argument(
        "--depth",
        type=whole_number(0, MOST_DEPTH, example="1"),
        metavar="D",
        help="MTP layers per drafter pass (default 0, or 1 for the target's own)",
    )
