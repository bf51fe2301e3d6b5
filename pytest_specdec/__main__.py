"""`python -m pytest_specdec costs` measures a cost profile of a pair; `baseline diff` compares stored baselines."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import SpecdecError
from .options import DEVICES, DTYPES, non_negative, whole_number, whole_numbers

if TYPE_CHECKING:
    from .speedup.costs import CostProfile


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pytest_specdec")
    commands = parser.add_subparsers(dest="command", required=True)
    costs = commands.add_parser("costs", help="measure what the target's step, verification and drafting take")
    source = costs.add_mutually_exclusive_group(required=True)
    source.add_argument("--target", metavar="PATH", help="target: a checkpoint folder or hub id")
    source.add_argument("--benchmark", type=Path, metavar="FILE", help="what pytest-benchmark saved of specdec_rounds")
    costs.add_argument("--draft", metavar="PATH", help="draft model; leave out for the target's own MTP heads")
    costs.add_argument("--k", type=whole_numbers(1), default=(1, 2, 3, 4, 8, 12, 16), metavar="K[,K]")
    costs.add_argument("--depth", type=whole_numbers(0), default=(0,), metavar="D[,D]")
    costs.add_argument("--context", type=whole_number(1), default=128, metavar="N", help="cached tokens before a round")
    costs.add_argument("--batch", type=whole_number(1), default=1, metavar="N", help="rows decoded at once")
    costs.add_argument("--temperature", type=non_negative, default=1.0, metavar="T")
    costs.add_argument("--repeats", type=whole_number(2), default=40, metavar="N")
    costs.add_argument("--device", choices=DEVICES, default="auto")
    costs.add_argument("--dtype", choices=DTYPES, default="float32")
    costs.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there instead of to standard output")
    costs.set_defaults(run=_costs)
    baseline = commands.add_parser("baseline", help="look at stored baselines").add_subparsers(dest="action", required=True)
    diff = baseline.add_parser("diff", help="what changed from A to B: exit status 0 where nothing did, 1 where something did")
    diff.add_argument("before", type=Path, metavar="A", help="a baseline file or a folder of them")
    diff.add_argument("now", type=Path, metavar="B")
    diff.set_defaults(run=_diff)
    asked = parser.parse_args(arguments)
    try:
        status: int = asked.run(asked)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
        return 1
    except SpecdecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return status


def _diff(asked: argparse.Namespace) -> int:
    from .baselines.diff import differences

    found = differences(asked.before, asked.now)
    for difference in found:
        print("\n".join(difference.lines()))
    return 1 if found else 0


def _costs(asked: argparse.Namespace) -> int:
    from .speedup.benchmark_file import profile_from_benchmark

    profile = profile_from_benchmark(asked.benchmark) if asked.benchmark else _measured(asked)
    if asked.output is None:
        print(profile.to_json(), end="")
    else:
        asked.output.write_text(profile.to_json(), encoding="utf-8")
        print(f"wrote {asked.output}")
    return 0


def _measured(asked: argparse.Namespace) -> CostProfile:
    from .checkpoint import check_pair
    from .decoding.loading import load_model
    from .decoding.timing import Setting, measure_costs

    target = load_model(asked.target, asked.device, asked.dtype)
    drafter = load_model(asked.draft, asked.device, asked.dtype) if asked.draft else None
    if drafter is not None:
        check_pair(target.checkpoint, drafter.checkpoint, max(asked.depth))
    setting = Setting(asked.batch, asked.context, asked.temperature, asked.dtype)
    return measure_costs(
        target, drafter, ks=asked.k, depths=asked.depth, setting=setting, repeats=asked.repeats, lookup=True
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
