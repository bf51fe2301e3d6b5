"""`staleness`: the acceptance of a fixed drafter along a sequence of targets, and when to train it
again.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import RequestError
from ..common.limits import MOST_DEPTH, MOST_K
from ..common.progress import CommandProgress
from ..config.parsers import whole_number
from .costs import add_device_options, check_two_models, check_writable
from .text_options import add_prompts_option, add_text_options

if TYPE_CHECKING:
    from ..config.candidates import Candidate
    from ..decoding.drafters.registry import DrafterSource
    from ..gate.staleness import BreakEven, StalenessCurve

HEADERS = ("target", "length", "loss", "interval", "effective", "texts of")
_HOUR = 3.6e6


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--targets",
        required=True,
        metavar="PATTERN",
        help="folders of the targets, 'run/step-*', in the order of their numbers",
    )
    parser.add_argument(
        "--draft", required=True, metavar="PATH", help="the drafter: a draft model or a head"
    )
    add_prompts_option(parser)
    parser.add_argument(
        "--k",
        type=whole_number(1, MOST_K, example="4"),
        default=4,
        metavar="K",
        help="draft tokens per round (default %(default)s)",
    )
    parser.add_argument(
        "--depth",
        type=whole_number(0, MOST_DEPTH, example="1"),
        default=0,
        metavar="D",
        help="MTP layers per drafter pass (default %(default)s)",
    )
    _add_judging(parser)
    _add_costs(parser)
    add_text_options(parser, new_tokens=128)
    add_device_options(parser)


def _add_judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--margin",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="loss of acceptance length from which the drafter is stale (default %(default)s)",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=0.01,
        metavar="P",
        help="chance of calling it stale where no loss exceeds the margin (default %(default)s)",
    )
    parser.add_argument(
        "--fresh-every",
        type=whole_number(1),
        metavar="N",
        help="measure each N-th target on texts of its own, too (default: none)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="also write the curve as JSON (default: standard output alone)",
    )


def _add_costs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--costs",
        type=Path,
        metavar="FILE",
        help="cost profile, for when training pays (default: none)",
    )
    parser.add_argument(
        "--tokens-per-step",
        type=float,
        metavar="N",
        help="tokens served with each target of the sequence (default: none)",
    )
    cost = parser.add_mutually_exclusive_group()
    cost.add_argument(
        "--retraining-hours", type=float, metavar="H", help="GPU-hours of training the drafter"
    )
    cost.add_argument(
        "--retraining-passes",
        type=float,
        metavar="N",
        help="the same in steps of the target, those of the cost profile",
    )
    parser.add_argument(
        "--gpus",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="GPUs that serve the target together (default %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    from ..cases.prompts import read_prompts
    from ..decoding.drafters.draft_model import DraftModel
    from ..decoding.loading import load_model
    from ..decoding.stale_drafter import StaleDrafter
    from ..gate.staleness import staleness_curve

    _check(arguments)
    targets = _targets(arguments.targets)
    if arguments.output is not None:
        check_writable(arguments.output)
    prompts = read_prompts(arguments.prompts, cure="name one with --prompts=FILE")
    progress = CommandProgress()
    draft_model = _draft_model(arguments.draft)
    source: DrafterSource = arguments.draft
    if draft_model is not None:
        source = DraftModel(
            load_model(draft_model, arguments.device, arguments.dtype), arguments.depth
        )
    drafter = StaleDrafter(
        source,
        prompts,
        k=arguments.k,
        depth=arguments.depth,
        temperature=arguments.temperature,
        new_tokens=arguments.new_tokens,
        seed=arguments.seed,
        progress=progress,
    )
    measured = []
    for number, target in enumerate(targets):
        progress("targets", number, len(targets))
        model = load_model(target.path, arguments.device, arguments.dtype)
        check_two_models(model, source.model if isinstance(source, DraftModel) else None)
        fresh = bool(arguments.fresh_every) and number % arguments.fresh_every == 0
        measured.append(drafter.measure(target.name, model, fresh=fresh))
    progress("targets", len(targets), len(targets))
    curve = staleness_curve(measured, margin=arguments.margin, alpha=arguments.alpha)
    lines = list(_lines(curve))
    found = None
    if arguments.costs is not None:
        assert drafter.request_length is not None
        found = _break_even(arguments, curve, drafter.request_length)
        lines += _break_even_lines(curve, found, drafter.request_length)
    print("\n".join(lines))
    if arguments.output is not None:
        arguments.output.write_text(_json(curve, found), encoding="utf-8")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises RequestError for options that do not go together."""
    numbers = (
        arguments.tokens_per_step,
        arguments.retraining_hours,
        arguments.retraining_passes,
    )
    if not all(math.isfinite(number) for number in numbers if number is not None):
        raise RequestError("tokens per step and the cost of training are finite; correct them")
    if not 0 <= arguments.margin < 1 or not 0 < arguments.alpha < 1:
        raise RequestError("--margin lies in [0, 1) and --alpha in (0, 1); correct them")
    cost = arguments.retraining_hours or arguments.retraining_passes
    given = [arguments.costs, arguments.tokens_per_step, cost]
    if any(value is not None for value in given) and not all(given):
        raise RequestError(
            "when training pays needs --costs, --tokens-per-step and one of --retraining-hours or "
            "--retraining-passes; pass all three, positive, or none"
        )
    if (arguments.tokens_per_step or 1) <= 0 or (cost or 1) <= 0:
        raise RequestError("tokens per step and the cost of training are positive; correct them")


def _targets(pattern: str) -> tuple[Candidate, ...]:
    from ..config.candidates import candidates

    found = candidates(pattern, Path.cwd(), option="--targets")
    if len(found) < 2:
        raise RequestError(
            f"--targets={pattern!r} matches {len(found)} folder; a curve needs at least two"
        )
    return found


def _draft_model(name: str) -> str | None:
    """The path of a draft model; None for another drafter."""
    from ..cases.drafter import DraftModelSpec, parse_drafter
    from ..checkpoints.drafter_folders import recognised

    spec = recognised(parse_drafter(name))
    return spec.path if isinstance(spec, DraftModelSpec) else None


def _lines(curve: StalenessCurve) -> Iterator[str]:
    """The table, what its intervals are, and where the drafter is stale."""
    from ..common.percent import percent
    from ..common.printable import printable
    from ..report.layout import aligned, wrapped

    rows = []
    for number, point in enumerate(curve.points):
        low, high = point.interval
        share = point.effective_share
        rows.append(
            (
                printable(point.name),
                f"{point.length:.3f}",
                f"{point.loss:+.2%}" if number else "-",
                f"{low:+.2%} to {high:+.2%}" if number else "-",
                "-" if share is None else f"{share:.1%}",
                "its own" if point.contexts == point.name else printable(point.contexts),
            )
        )
    yield from aligned([HEADERS, *rows], left=(0, 5))
    yield from wrapped(
        "length = acceptance length of rounds from every start of the texts; loss = its fall since "
        f"{printable(curve.points[0].name)}, relative, paired over {curve.prompts} prompts; all "
        "intervals hold together with 95 % confidence; effective = share of the contexts that "
        "count, texts of = the target that emitted them"
    )
    for point in curve.points:
        if point.fresh_loss is not None:
            loss, low, high = point.fresh_loss
            yield (
                f"  {printable(point.name)} on texts of its own: loss {loss:+.2%} "
                f"({low:+.2%} to {high:+.2%})"
            )
    if curve.passed is None:
        yield f"no target's loss is surely above {percent(curve.margin)}"
    else:
        yield (
            f"stale from {printable(curve.points[curve.passed].name)} on: the first loss that is "
            f"surely above {percent(curve.margin)}"
        )


def _break_even(
    arguments: argparse.Namespace, curve: StalenessCurve, request_length: float
) -> BreakEven:
    from ..cases.drafter import kind_of, parse_drafter
    from ..checkpoints.drafter_folders import recognised
    from ..gate.staleness import RetrainingCosts, break_even_of
    from ..speedup.cost_profile import CostProfile

    costs = CostProfile.load(arguments.costs).with_target(arguments.costs)
    assert costs.target_ms is not None
    kind = kind_of(recognised(parse_drafter(arguments.draft)))
    round_ms = costs.round_ms(arguments.k, arguments.depth, drafter=kind)
    if arguments.retraining_hours is not None:
        retraining_ms = arguments.retraining_hours * _HOUR / arguments.gpus
    else:
        retraining_ms = arguments.retraining_passes * costs.target_ms
    return break_even_of(
        curve,
        RetrainingCosts(
            retraining_ms=retraining_ms,
            token_ms=round_ms / (costs.batch_size * request_length),
            tokens_per_step=arguments.tokens_per_step,
        ),
    )


def _break_even_lines(
    curve: StalenessCurve, found: BreakEven, request_length: float
) -> Iterator[str]:
    from ..common.printable import printable
    from ..report.layout import wrapped

    def named(number: int | None) -> str:
        return "not yet" if number is None else f"from {printable(curve.points[number].name)} on"

    early, late = found.range
    pays = "training does not pay yet" if found.at is None else f"training pays {named(found.at)}"
    yield from wrapped(
        f"{pays}: where the time lost so far reaches the cost of training (by the upper bounds of "
        f"the losses {named(early)}, by the lower ones {named(late)}); lost so far "
        f"{found.lost_ms[-1] / _HOUR:.3g} h, with each further step like the last "
        f"{found.next_ms / _HOUR:.3g} h; a round of the first target emits {request_length:.3f} "
        "tokens in whole texts"
    )


def _json(curve: StalenessCurve, found: BreakEven | None) -> str:
    import dataclasses

    content = dataclasses.asdict(curve)
    content["break_even"] = None if found is None else dataclasses.asdict(found)
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
