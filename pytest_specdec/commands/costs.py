"""`costs`: measure a cost profile, or read one out of what pytest-benchmark saved."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..limits import MOST_DEPTH, MOST_K
from ..options import DEVICES, DTYPES, temperature, whole_number, whole_numbers
from ..printable import printable

if TYPE_CHECKING:
    from ..speedup.costs import CostProfile


def add(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--target", metavar="PATH", help="target: a checkpoint folder or hub id")
    source.add_argument("--benchmark", type=Path, metavar="FILE", help="what pytest-benchmark saved of specdec_rounds")
    parser.add_argument("--draft", metavar="PATH", help="draft model; leave out for the target's own MTP heads")
    parser.add_argument("--k", type=whole_numbers(1, MOST_K), default=(1, 2, 3, 4, 8, 12, 16), metavar="K[,K]")
    parser.add_argument("--depth", type=whole_numbers(0, MOST_DEPTH), default=(0,), metavar="D[,D]")
    parser.add_argument("--context", type=whole_number(2), default=128, metavar="N", help="cached tokens before a round")
    parser.add_argument("--batch", type=whole_number(1), default=1, metavar="N", help="rows decoded at once")
    parser.add_argument("--temperature", type=temperature, default=1.0, metavar="T")
    parser.add_argument("--repeats", type=whole_number(2), default=40, metavar="N", help="rounds to time of each kind")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there instead of to standard output")


def run(asked: argparse.Namespace) -> int:
    from ..speedup.benchmark_file import profile_from_benchmark

    profile = profile_from_benchmark(asked.benchmark) if asked.benchmark else _measured(asked)
    if asked.output is None:
        print(profile.to_json(), end="")
    else:
        asked.output.write_text(profile.to_json(), encoding="utf-8")
        print(printable(f"wrote {asked.output}"))
    return 0


def _measured(asked: argparse.Namespace) -> CostProfile:
    from ..checkpoint import check_pair
    from ..decoding.loading import check_folders, load_model
    from ..decoding.timing import Setting, measure_costs

    check_folders(asked.target, *([asked.draft] if asked.draft else []))
    target = load_model(asked.target, asked.device, asked.dtype)
    drafter = load_model(asked.draft, asked.device, asked.dtype) if asked.draft else None
    if drafter is not None:
        check_pair(target.checkpoint, drafter.checkpoint, max(asked.depth))
    setting = Setting(asked.batch, asked.context, asked.temperature, asked.dtype)
    return measure_costs(target, drafter, ks=asked.k, depths=asked.depth, setting=setting, repeats=asked.repeats, lookup=True)
