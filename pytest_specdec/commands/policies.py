"""`policies`: what fixed and dynamic drafting would gain on a pair of models, from one replay of
its texts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.progress import CommandProgress
from .costs import add_device_options, check_two_models, load_pair
from .text_options import (
    add_draft_option,
    add_most_drafts_options,
    add_prompts_option,
    add_target_option,
    add_text_options,
)

if TYPE_CHECKING:
    from ..speedup.policy_table import PolicyRow


def add(parser: argparse.ArgumentParser) -> None:
    add_target_option(parser)
    add_draft_option(parser)
    add_prompts_option(parser)
    parser.add_argument(
        "--costs", required=True, type=Path, metavar="FILE", help="cost profile of this pair"
    )
    add_most_drafts_options(parser)
    add_text_options(parser, new_tokens=128)
    add_device_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..cases.drafter import DraftModelSpec, OwnHeadsSpec, kind_of, parse_drafter
    from ..cases.prompts import read_prompts
    from ..checkpoints.drafter_folders import recognised
    from ..decoding.measured_policies import policies
    from ..speedup.cost_profile import CostProfile
    from ..speedup.policies import check_covered

    drafter = recognised(parse_drafter(arguments.draft))
    first = int(isinstance(drafter, OwnHeadsSpec))
    depth = first if arguments.depth is None else arguments.depth
    costs = CostProfile.load(arguments.costs).with_target(arguments.costs)
    # A profile that is too narrow is refused before models are loaded.
    check_covered(costs, arguments.k, depth, drafter=kind_of(drafter))
    prompts = read_prompts(arguments.prompts, cure="name one with --prompts=FILE")
    progress = CommandProgress()
    draft_model = drafter.path if isinstance(drafter, DraftModelSpec) else None
    target, model = load_pair(
        arguments.target, draft_model, arguments.device, arguments.dtype, progress
    )
    check_two_models(target, model)
    rows = policies(
        target,
        drafter if model is None else model,
        prompts,
        costs,
        k=arguments.k,
        depth=depth,
        temperature=arguments.temperature,
        new_tokens=arguments.new_tokens,
        seed=arguments.seed,
        progress=progress,
    )
    print("\n".join(_lines(rows)))
    if model is None or depth > 0:
        print("confidence thresholds need a draft model without MTP heads, so none is listed")
    return 0


def _lines(rows: Sequence[PolicyRow]) -> Iterator[str]:
    """The table, what policies chose, and the gain of the best dynamic policy."""
    from ..common.printable import printable
    from ..report.layout import aligned, wrapped
    from ..speedup.policy_table import HEADERS, NOTE

    yield from aligned([HEADERS, *(tuple(map(printable, row.cells())) for row in rows)], left=(0,))
    for row in rows:
        if row.detail:
            yield from wrapped(f"{row.name}: {row.detail}", indent="  ")
    for row in rows:
        if row.gain is not None:
            low, high = row.gain.interval
            gain = (
                f"best dynamic policy: {row.name}, {row.gain.ratio:.3f}x the speed of the best "
                f"fixed k (95 % interval {low:.3f}x to {high:.3f}x); both were chosen on these "
                "prompts"
            )
            yield from wrapped(gain, indent="  ")
    yield from wrapped(NOTE)
