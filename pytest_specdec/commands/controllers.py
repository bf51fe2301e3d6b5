"""`controllers`: what controllers of the number of drafts would do on a pair of models, from one
replay of its texts, and the settings of engines that have them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import RequestError
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
    from ..cases.drafter import DrafterSpec
    from ..decoding.measured_controllers import ReplayedTexts
    from ..speedup.controller_table import ControllerTable
    from ..speedup.controllers import Controller
    from ..speedup.cost_profile import CostProfile

STEPS = (1, 3, 5, 7)
"""SGLang's candidates for a batch of one."""
FIRST = 5
"""Where schedules begin, where k is no less."""
_OFTEN = 0.02
"""Share of rounds at the limit of a schedule that is worth a line."""
NAMES = (
    "heuristic",
    "heuristic-transient",
    "confidence",
    "tuned-threshold",
    "moving-average",
    "best-by-average",
)
_FORMS = (
    "heuristic=5, heuristic-transient=5, confidence=0.4, tuned-threshold=0.4, "
    "moving-average=1,3,5, best-by-average=8, gate=WINDOW:LENGTH"
)


def add(parser: argparse.ArgumentParser) -> None:
    add_target_option(parser)
    add_draft_option(parser)
    add_prompts_option(parser)
    parser.add_argument(
        "--costs",
        required=True,
        action="append",
        type=Path,
        metavar="FILE",
        help="cost profile of this pair; the first is for controllers, all together for --load",
    )
    _add_choices(parser)
    add_text_options(parser, new_tokens=128)
    add_device_options(parser)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    add_most_drafts_options(parser)
    parser.add_argument(
        "--controller",
        action="append",
        metavar="NAME",
        help=f"which, may be repeated (default all but the gate): {_FORMS}",
    )
    parser.add_argument(
        "--load",
        metavar="SHARES",
        help="tokens served at each batch size, 1=0.5,8=0.5, for a schedule (default: none)",
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="or the batch size of each round of a request, one a line (default: none)",
    )


def run(arguments: argparse.Namespace) -> int:
    from ..cases.drafter import DraftModelSpec, OwnHeadsSpec, kind_of, parse_drafter
    from ..checkpoints.drafter_folders import recognised
    from ..speedup.controller_table import check_loads, controller_table
    from ..speedup.policies import check_covered, times

    drafter = recognised(parse_drafter(arguments.draft))
    kind = kind_of(drafter)
    first = int(isinstance(drafter, OwnHeadsSpec))
    arguments.depth = first if arguments.depth is None else arguments.depth
    depth, k = arguments.depth, arguments.k
    profiles = _profiles(arguments.costs)
    shares = None if arguments.load is None else _shares(arguments.load)
    trace = _trace(arguments.trace)
    by_size = _by_size(profiles)
    loads = shares is not None or bool(trace)
    if loads:
        check_loads(by_size, shares, trace)
    elif len(profiles) > 1:
        raise RequestError(
            "several --costs are for --load or --trace; pass one of these, or one profile"
        )
    for profile in profiles:
        check_covered(profile, k, depth, drafter=kind)
    stops = isinstance(drafter, DraftModelSpec) and depth == 0
    round_ms = times(profiles[0], depth, drafter=kind)
    controllers = chosen(arguments.controller, k, tuple(map(round_ms, range(k + 1))), stops)
    progress = CommandProgress()
    texts = _texts(arguments, drafter, progress)
    table = controller_table(
        texts.field,
        profiles[0],
        controllers,
        most=k,
        depth=depth,
        drafter=kind,
        confidences=texts.confidences,
        limits=texts.limits,
        progress=progress,
    )
    if len(profiles) > 1:
        print(f"times at batch size {profiles[0].batch_size}, of the first profile:")
    print("\n".join(_lines(table, kind)))
    if loads:
        print("\n".join(_load_lines(texts, by_size, shares, trace, k, depth, kind)))
    return 0


def _texts(
    arguments: argparse.Namespace, drafter: DrafterSpec, progress: CommandProgress
) -> ReplayedTexts:
    from ..cases.drafter import DraftModelSpec
    from ..cases.prompts import read_prompts
    from ..decoding.measured_controllers import replayed_texts

    prompts = read_prompts(arguments.prompts, cure="name one with --prompts=FILE")
    draft_model = drafter.path if isinstance(drafter, DraftModelSpec) else None
    target, model = load_pair(
        arguments.target, draft_model, arguments.device, arguments.dtype, progress
    )
    check_two_models(target, model)
    return replayed_texts(
        target,
        drafter if model is None else model,
        prompts,
        k=arguments.k,
        depth=arguments.depth,
        temperature=arguments.temperature,
        new_tokens=arguments.new_tokens,
        seed=arguments.seed,
        progress=progress,
    )


def chosen(
    names: Sequence[str] | None, k: int, round_ms: tuple[float, ...], stops: bool
) -> list[Controller]:
    """The controllers of the options; without names all that a drafter can have.

    Raises RequestError for another name or value, and for thresholds with a drafter that does not
    stop by them.
    """
    if names is None:
        names = [name for name in NAMES if stops or name not in ("confidence", "tuned-threshold")]
    controllers = [_controller(name, k, round_ms) for name in names]
    for controller in controllers:
        if controller.stops and not stops:
            raise RequestError(
                f"{controller.name} stops by confidence, which works only with a draft model "
                "without MTP heads; choose another --controller"
            )
        if controller.most > k:
            raise RequestError(
                f"{controller.name} drafts up to {controller.most}; raise --k to that"
            )
    return controllers


def _controller(text: str, k: int, round_ms: tuple[float, ...]) -> Controller:
    from ..speedup.controllers import (
        AcceptanceGate,
        BestByAverage,
        FixedDrafts,
        HeuristicSchedule,
    )
    from ..speedup.learning_controllers import AdaptiveSteps, TunedThreshold

    name, _, value = text.partition("=")
    try:
        match name:
            case "heuristic" | "heuristic-transient":
                begin = int(value) if value else min(FIRST, k)
                return HeuristicSchedule(begin, k, carries=name == "heuristic")
            case "confidence":
                return FixedDrafts(k, float(value or 0.4))
            case "tuned-threshold":
                return TunedThreshold(k, float(value or 0.4))
            case "moving-average":
                steps = [int(step) for step in value.split(",")] if value else list(STEPS)
                return AdaptiveSteps(
                    candidate_steps=tuple(steps if value else (s for s in steps if s <= k))
                )
            case "best-by-average":
                return BestByAverage(round_ms, window=int(value or 8))
            case "gate" if value:
                window, _, least = value.partition(":")
                return AcceptanceGate(k, int(window), float(least))
    except ValueError:
        pass
    raise RequestError(f"no controller {text!r}; choose of {_FORMS}")


def _profiles(paths: Sequence[Path]) -> list[CostProfile]:
    from ..speedup.cost_profile import CostProfile

    return [CostProfile.load(path).with_target(path) for path in paths]


def _by_size(profiles: Sequence[CostProfile]) -> dict[int, CostProfile]:
    found = {profile.batch_size: profile for profile in profiles}
    if len(found) < len(profiles):
        raise RequestError("two cost profiles have the same batch size; pass one of each")
    return found


def _shares(text: str) -> dict[int, float]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {int(size): float(share) for size, share in pairs}
    except ValueError:
        raise RequestError(f"--load={text} is not like 1=0.5,8=0.5; correct it") from None


def _trace(path: Path | None) -> tuple[int, ...]:
    from ..common.bounded_files import read_text

    if path is None:
        return ()
    try:
        return tuple(int(line) for line in read_text(path).split())
    except (OSError, ValueError):
        raise RequestError(f"{path} is not a file of one batch size a line; write one") from None


def _lines(table: ControllerTable, kind: str) -> Iterator[str]:
    """The table, what is uncertain in it, and the settings of the fastest."""
    from ..common.printable import printable
    from ..report.layout import aligned, wrapped
    from ..speedup.controller_table import CONTROLLER_HEADERS, REGRET_HEADERS
    from ..speedup.controllers import FixedDrafts, HeuristicSchedule

    rows = [tuple(map(printable, row.cells())) for row in table.rows]
    yield from aligned([CONTROLLER_HEADERS, *rows], left=(0,))
    yield ""
    lost = [tuple(map(printable, row.regrets())) for row in table.rows]
    yield from aligned([REGRET_HEADERS, *lost], left=(0,))
    yield ""
    for row in table.rows:
        if not row.result.exact:
            length, drafted = row.result.errors
            played = (
                f"{row.result.name}: too many states to sum over, so rounds were played on the "
                f"texts; standard errors {length:.3f} of the length, {drafted:.3f} of drafted"
            )
            yield from wrapped(played, indent="  ")
        if isinstance(row.controller, HeuristicSchedule) and row.result.at_most > _OFTEN:
            limited = (
                f"{row.result.name}: asks for the most tokens in {row.result.at_most:.0%} of its "
                "rounds, and transformers knows no most; raise --k"
            )
            yield from wrapped(limited, indent="  ")
    yield from wrapped(
        "drafted and length = tokens per round, over whole texts; speed-up over plain decoding, "
        f"from the cost profile; time over that of the best fixed k ({table.best_k}) and of the "
        "oracle for the same texts, with its 95 % interval over prompts"
    )
    best = table.best
    assert best.controller is not None
    yield f"fastest: {best.result.name}"
    yield from _setting_lines(best.controller, kind)
    if best.controller != FixedDrafts(table.best_k):
        yield f"best fixed k: {table.best_k}"
        yield from _setting_lines(FixedDrafts(table.best_k), kind)


def _setting_lines(controller: Controller, kind: str) -> Iterator[str]:
    from ..speedup.engine_settings import engine_settings

    settings = engine_settings(controller, kind)
    if not settings:
        yield "  no engine has it for this drafter"
    for setting in settings:
        yield f"  {setting.engine}" + (f" ({setting.note})" if setting.note else "")
        for line in setting.lines:
            yield f"    {line}"


def _load_lines(
    texts: ReplayedTexts,
    by_size: dict[int, CostProfile],
    shares: dict[int, float] | None,
    trace: tuple[int, ...],
    k: int,
    depth: int,
    kind: str,
) -> Iterator[str]:
    from ..report.layout import aligned
    from ..speedup.controller_table import load_table
    from ..speedup.controllers import LoadSchedule

    table = load_table(
        texts.field,
        by_size,
        most=k,
        shares=shares,
        trace=trace,
        depth=depth,
        drafter=kind,
    )
    yield ""
    rows = [
        (str(size), str(best), f"{speedup:.3f}x") for size, (best, speedup) in table.best.items()
    ]
    yield from aligned([("batch size", "best k", "speed-up"), *rows], left=())
    yield f"schedule over the best k for all ({table.fixed_k}): {table.over_fixed} time"
    yield f"schedule over plain decoding: {table.over_plain} time"
    yield from _setting_lines(LoadSchedule(table.steps, tuple(by_size)), kind)
