"""The table of options and the parsers of their values. Imported by every pytest run, so it imports next to nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .acceptance.case import Judged

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
FOREIGN_ENGINES = ("transformers", "vllm", "sglang", "llama-cpp", "openvino", "onnxruntime", "tensorrt-llm", "trace")
"""Somebody else's decoders."""
ENGINES = ("replay", "decode", "logprobs", *FOREIGN_ENGINES)
UPDATES = ("new", "changed", "all")
INCONCLUSIVE = ("fail", "warn")
REPORTS = (".json", ".html", ".md", ".txt", ".wav")
LANGUAGES = ("en", "zh")


class Option(NamedTuple):
    """One option: `--specdec-NAME` on the command line and, unless told otherwise, `specdec_NAME` in the ini file."""

    name: str
    parse: Callable[[str], Any]
    metavar: str
    help: str
    ini: bool = True
    action: str = "store"
    """argparse's: `store`, `append` for an option that may be repeated, `store_true` for one without a value."""

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


def probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; write a number above 0 and at most 1, like 0.95")
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


def id_range(text: str) -> Judged:
    """FIRST:END or FIRST:END:EVERY, as in a Python slice."""
    from .acceptance.case import Judged

    try:
        first, end, every = (*map(int, text.split(":")), 1)[:3] if text.count(":") in (1, 2) else (0, 0, 0)
    except ValueError:
        first = end = every = 0
    if not (0 <= first < end and every > 0):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no range of token ids; write FIRST:END, and FIRST:END:2 where every second token is in it"
        )
    return Judged(first, end, every)


def import_path(text: str) -> str:
    module, _, name = text.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise argparse.ArgumentTypeError(f"{text!r} names no function; write module:function, like my_engine.sampler:verify")
    return text


OPTIONS = (
    Option("k", whole_numbers(1), "K[,K]", "Draft tokens per round to measure (default 8)"),
    Option("depth", whole_numbers(0), "D[,D]", "MTP layers per drafter pass to measure; 0 (default, for mtp 1) is none"),
    Option("target", str, "PATH", "Target model: a checkpoint folder or hub id (no default)"),
    Option("draft", str, "PATH", "Drafter: a checkpoint folder or hub id, mtp or prompt-lookup (no default)"),
    Option("device", one_of(*DEVICES), "NAME", "Where the models run: auto (default), cpu or cuda"),
    Option("dtype", one_of(*DTYPES), "NAME", "Number format of the weights: float32 (default), bfloat16 or float16"),
    Option("engine", one_of(*ENGINES), "NAME", "How acceptance is measured: replay (default), decode, or a real engine by name"),
    Option("url", str, "URL", "Where the engine is: a server's http URL, or the file of a trace"),
    Option("draft-url", str, "URL", "Where the drafter is served, for the engine logprobs; its target is at --specdec-url"),
    Option("temperature", non_negative, "T", "Sampling temperature; 0 is greedy decoding (default 1)"),
    Option("top-k", whole_number(0), "N", "Sample among the N likeliest tokens; 0 (default) is all"),
    Option("top-p", probability, "P", "Sample among the likeliest tokens that make up P; 1 (default) is all"),
    Option("judged", id_range, "FIRST:END[:EVERY]", "Judge only drafts with these token ids (default: all); others are given"),
    Option("prompts", whole_number(1), "N", "Use the first N prompts of each prompt file (default: all)"),
    Option("new-tokens", whole_number(2), "N", "Tokens of text per prompt (default 128)"),
    Option("seed", whole_number(0), "N", "Seed of newly sampled texts (default 0)"),
    Option("alpha", fraction(above_zero=True, below=0.5), "A", "False-alarm rate of the whole session (default 1%%)"),
    Option("margin", fraction(above_zero=False, below=1.0), "M", "Relative drop that fails a gate (default 0.5%%)"),
    Option("inconclusive", one_of(*INCONCLUSIVE), "WORD", "What an undecided gate does: fail (default) or warn"),
    Option("repeats", whole_number(1), "N", "Runs of each sampled case, each with a seed of its own (default 1)"),
    Option("verifier", import_path, "MODULE:FUNCTION", "The sampler that specdec_verifier hands to tests (default: our own)"),
    Option("speech", import_path, "MODULE:FUNCTION", "Makes sound of a text's token ids, for specdec_speech"),
    Option("costs", Path, "FILE", "Cost profile to compute the theoretical speed-up from; measure: time the loaded models"),
    Option(
        "costs-margin", fraction(above_zero=True, below=1.0), "M", "Fall of the speed-up that fails with new costs (default 10%%)"
    ),
    Option("baselines", Path, "DIR", "Folder of the stored baselines (default: baselines)"),
    Option("update", one_of(*UPDATES), "WHICH", "Write baselines: new, changed or all", ini=False),
    Option(
        "prune", bool, "", "Delete stored files that no test asks for any more; needs a full run", ini=False, action="store_true"
    ),
    Option("accumulate", bool, "", "Add this run's evidence to that of earlier ones", ini=False, action="store_true"),
    Option(
        "report",
        report_file,
        "FILE",
        "Write a report; the ending names its format: .json, .html, .md, .txt or .wav",
        ini=False,
        action="append",
    ),
    Option("language", one_of(*LANGUAGES), "NAME", "Language of .txt and .html reports: en (default) or zh"),
)
