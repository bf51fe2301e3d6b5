"""The table of options and the parsers of their values. Imported by every pytest run, so it imports
next to nothing.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..common.limits import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    MOST_DEPTH,
    MOST_K,
    MOST_NEW_TOKENS,
    MOST_PROMPTS,
    MOST_REPEATS,
    MOST_SEED,
    MOST_TOKEN_ID,
)
from .engines import engine_name

if TYPE_CHECKING:
    from ..cases.case import JudgedRange

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
UPDATES = ("new", "changed", "all")
INCONCLUSIVE = ("fail", "warn")
REPORTS = (".json", ".html", ".md", ".txt")
LANGUAGES = ("en", "zh")


_UNUSABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and what stands for bytes of the command line that are no UTF-8."""


class Option(NamedTuple):
    """One option: `--specdec-NAME` on the command line and, unless told otherwise, `specdec_NAME`
    in the ini file.
    """

    name: str
    parse: Callable[[str], Any]
    metavar: str
    help: str
    ini: bool = True
    action: str = "store"
    """argparse's: `store`, `append` for an option that may be repeated, `store_true` for one
    without a value.
    """

    @property
    def flag(self) -> str:
        return f"--specdec-{self.name}"

    @property
    def ini_name(self) -> str:
        return f"specdec_{self.name.replace('-', '_')}"


def whole_numbers(least: int, most: int) -> Callable[[str], tuple[int, ...]]:
    """Parser of a comma-separated list of whole numbers from `least` to `most`."""
    one = whole_number(least, most, example="4,8")

    def parse(text: str) -> tuple[int, ...]:
        return tuple(dict.fromkeys(one(part.strip()) for part in text.split(",")))

    return parse


def whole_number(
    least: int, most: int = MOST_TOKEN_ID, example: str = "64"
) -> Callable[[str], int]:
    """Parser of one whole number from `least` to `most`, in decimal digits."""

    def parse(text: str) -> int:
        digits = text.strip()
        value = int(digits) if re.fullmatch("[0-9]{1,30}", digits) else least - 1
        if value < least:
            raise argparse.ArgumentTypeError(
                f"{_quoted(text)} is not a whole number of at least {least}; write for example "
                f"{example}"
            )
        if value > most:
            raise argparse.ArgumentTypeError(
                f"{_quoted(text)} is more than {most}; write for example {example}"
            )
        return value

    return parse


def fraction(*, above_zero: bool, below: float) -> Callable[[str], float]:
    """Parser of a share of one, as a number or in percent."""

    def parse(text: str) -> float:
        value = _number(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        if not 0 <= value < below or (above_zero and value == 0):
            raise argparse.ArgumentTypeError(
                f"{_quoted(text)} is out of range; write a number below {below:g} like 0.01 or 1%"
            )
        return value

    return parse


def temperature(text: str) -> float:
    """A sampling temperature, 0 for greedy decoding."""
    value = _number(text)
    if value != 0 and not LOWEST_TEMPERATURE <= value <= HIGHEST_TEMPERATURE:
        raise argparse.ArgumentTypeError(
            f"{_quoted(text)} is not a temperature; write 0 for greedy decoding or a number from "
            f"{LOWEST_TEMPERATURE:g} to "
            f"{HIGHEST_TEMPERATURE:g}"
        )
    return abs(value)


def probability(text: str) -> float:
    """A number above 0 and at most 1."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{_quoted(text)} is out of range; write a number above 0 and at most 1, like 0.95"
        )
    return value


def one_of(*names: str) -> Callable[[str], str]:
    """Parser of one of a few words."""

    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(
                f"{_quoted(text)} is not one of {', '.join(names)}; choose one of these"
            )
        return text

    return parse


def file_name(text: str) -> str:
    """The name of a file, a folder or a model on the hub, which every file system can hold."""
    parts = text.encode(errors="surrogatepass").split(b"/")
    usable = 0 < len(text) <= 4096 and max(map(len, parts)) <= 255
    if not usable or _UNUSABLE.search(text):
        raise argparse.ArgumentTypeError(
            f"{_quoted(text)} is not the name of a file; write a path without control characters"
        )
    return text


def file_path(text: str) -> Path:
    """As `file_name`, as a path."""
    return Path(file_name(text))


def report_file(text: str) -> Path:
    """A file whose ending is that of a report."""
    path = Path(text)
    if path.suffix not in REPORTS:
        raise argparse.ArgumentTypeError(
            f"{_quoted(text)} ends in no known report format; end it in {' or '.join(REPORTS)}"
        )
    return file_path(text)


def server_url(text: str) -> str:
    """The URL of a server."""
    from ..common.errors import RequestError
    from ..common.urls import check_server_url

    try:
        check_server_url(text)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def server_or_file(text: str) -> str:
    """The URL of a server, or the name of a file."""
    return server_url(text) if "://" in text else file_name(text)


def id_range(text: str) -> JudgedRange:
    """FIRST:END or FIRST:END:EVERY, as in a Python slice."""
    from ..cases.case import JudgedRange

    found = re.fullmatch(
        r"\s*([0-9]{1,10})\s*:\s*([0-9]{1,10})\s*(?::\s*([0-9]{1,10})\s*)?", text, re.ASCII
    )
    first, end, every = (int(part or 1) for part in found.groups()) if found else (0, 0, 0)
    if not (first < end <= MOST_TOKEN_ID + 1 and 0 < every <= MOST_NEW_TOKENS):
        raise argparse.ArgumentTypeError(
            f"{_quoted(text)} is no range of token ids; write FIRST:END, and FIRST:END:2 where "
            "every second token is in it"
        )
    return JudgedRange(first, end, every)


def import_path(text: str) -> str:
    """module:function."""
    module, _, name = text.partition(":")
    if len(text) > 1000 or not all(part.isidentifier() for part in (*module.split("."), name)):
        raise argparse.ArgumentTypeError(
            f"{_quoted(text)} names no function; write module:function, like "
            "my_engine.sampler:verify"
        )
    return text


def _number(text: str) -> float:
    """A decimal number; nan for anything else, as what Python's float() takes besides: infinities,
    1_0, other digits.
    """
    plain = text.strip()
    known = len(plain) <= 60 and re.fullmatch(
        r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", plain
    )
    return float(plain) if known else float("nan")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


OPTIONS = (
    Option("k", whole_numbers(1, MOST_K), "K[,K]", "Draft tokens per round to measure (default 8)"),
    Option(
        "depth",
        whole_numbers(0, MOST_DEPTH),
        "D[,D]",
        "MTP layers per drafter pass to measure; 0 (default, for mtp 1) is none",
    ),
    Option("target", file_name, "PATH", "Target model: a checkpoint folder or hub id (no default)"),
    Option(
        "draft",
        file_name,
        "PATH",
        "Drafter: a checkpoint folder or hub id, mtp or prompt-lookup (no default)",
    ),
    Option("device", one_of(*DEVICES), "NAME", "Where the models run: auto (default), cpu or cuda"),
    Option(
        "dtype",
        one_of(*DTYPES),
        "NAME",
        "Number format of the weights: float32 (default), bfloat16 or float16",
    ),
    Option(
        "engine",
        engine_name,
        "NAME",
        "How acceptance is measured: replay (default), decode, or a real engine by name",
    ),
    Option(
        "url",
        server_or_file,
        "URL",
        "Where the engine is: a server's http URL, or the file of a trace",
    ),
    Option(
        "draft-url",
        server_url,
        "URL",
        "Where the drafter is served, for the engine logprobs; its target is at --specdec-url",
    ),
    Option(
        "temperature", temperature, "T", "Sampling temperature; 0 is greedy decoding (default 1)"
    ),
    Option(
        "top-k", whole_number(0), "N", "Sample among the N likeliest tokens; 0 (default) is all"
    ),
    Option(
        "top-p",
        probability,
        "P",
        "Sample among the likeliest tokens that make up P; 1 (default) is all",
    ),
    Option(
        "judged",
        id_range,
        "FIRST:END[:EVERY]",
        "Judge only drafts with these token ids (default: all); others are given",
    ),
    Option(
        "prompts",
        whole_number(1, MOST_PROMPTS),
        "N",
        "Use the first N prompts of each prompt file (default: all)",
    ),
    Option(
        "new-tokens",
        whole_number(2, MOST_NEW_TOKENS),
        "N",
        "Tokens of text per prompt (default 128)",
    ),
    Option("seed", whole_number(0, MOST_SEED), "N", "Seed of newly sampled texts (default 0)"),
    Option(
        "alpha",
        fraction(above_zero=True, below=0.5),
        "A",
        "False-alarm rate of the whole session (default 1%%)",
    ),
    Option(
        "margin",
        fraction(above_zero=False, below=1.0),
        "M",
        "Relative drop that fails a gate (default 0.5%%)",
    ),
    Option(
        "inconclusive",
        one_of(*INCONCLUSIVE),
        "WORD",
        "What an undecided gate does: fail (default) or warn",
    ),
    Option(
        "repeats",
        whole_number(1, MOST_REPEATS),
        "N",
        "Runs of each sampled case, each with a seed of its own (default 1)",
    ),
    Option(
        "verifier",
        import_path,
        "MODULE:FUNCTION",
        "The sampler that specdec_verifier hands to tests (default: our own)",
    ),
    Option(
        "costs",
        file_path,
        "FILE",
        "Cost profile to compute the theoretical speed-up from; measure: time the loaded models",
    ),
    Option(
        "costs-margin",
        fraction(above_zero=True, below=1.0),
        "M",
        "Fall of the speed-up that fails with new costs (default 10%%)",
    ),
    Option("baselines", file_path, "DIR", "Folder of the stored baselines (default: baselines)"),
    Option("update", one_of(*UPDATES), "WHICH", "Write baselines: new, changed or all", ini=False),
    Option(
        "prune",
        bool,
        "",
        "Delete stored files that no test asks for any more; needs a full run",
        ini=False,
        action="store_true",
    ),
    Option(
        "accumulate",
        bool,
        "",
        "Add this run's evidence to that of earlier ones",
        ini=False,
        action="store_true",
    ),
    Option(
        "report",
        report_file,
        "FILE",
        "Write a report; the ending names its format: .json, .html, .md or .txt",
        ini=False,
        action="append",
    ),
    Option(
        "language",
        one_of(*LANGUAGES),
        "NAME",
        "Language of .txt and .html reports: en (default) or zh",
    ),
)
