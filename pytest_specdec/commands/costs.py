"""`costs`: measure a cost profile, or read one out of what pytest-benchmark saved."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ..baselines.store import write_all
from ..common.errors import RequestError
from ..common.limits import MOST_DEPTH, MOST_K
from ..common.printable import printable
from ..common.progress import CommandProgress
from ..config.options import DEVICES, DTYPES
from ..config.parsers import whole_number, whole_numbers
from .text_options import add_temperature_option

if TYPE_CHECKING:
    from ..cases.drafter import DrafterSpec, RegisteredSpec
    from ..decoding.loading import LoadedModel
    from ..speedup.cost_profile import CostProfile


UNCERTAIN = 0.1
"""Relative standard error of the times above which the command warns."""


def add(parser: argparse.ArgumentParser) -> None:
    _add_models(parser)
    _add_rounds(parser)
    _add_effort(parser)
    add_device_options(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="file to write (default: standard output)"
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--target", metavar="PATH", help="target: a checkpoint folder or hub id")
    source.add_argument(
        "--benchmark",
        type=Path,
        metavar="FILE",
        help="what pytest-benchmark saved of specdec_rounds",
    )
    parser.add_argument(
        "--draft",
        action="append",
        metavar="PATH",
        help="drafter: a draft model, an EAGLE-3 head, mtp for the target's own MTP heads, or "
        "prompt-lookup; repeat the option for several (default: mtp where the target has heads, "
        "and prompt-lookup)",
    )


def _add_rounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--k",
        type=whole_numbers(1, MOST_K),
        default="1,2,3,4,8,12,16",
        metavar="K[,K]",
        help="draft tokens per round (default %(default)s)",
    )
    parser.add_argument(
        "--depth",
        type=whole_numbers(0, MOST_DEPTH),
        default="0",
        metavar="D[,D]",
        help="MTP layers per drafter pass (default %(default)s)",
    )
    parser.add_argument(
        "--context",
        type=whole_number(2),
        default=128,
        metavar="N",
        help="cached tokens before a round (default %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="rows decoded at once (default %(default)s)",
    )
    add_temperature_option(parser)


def _add_effort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeats",
        type=whole_number(2),
        default=40,
        metavar="N",
        help="rounds to time of each kind (default %(default)s)",
    )
    parser.add_argument(
        "--max-seconds",
        type=whole_number(1),
        default=60,
        metavar="N",
        help="limit in seconds for measuring, once the models are loaded: fewer rounds are timed, "
        "and what does not fit is refused (default %(default)s)",
    )


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that loads models."""
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="where the models run (default %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="number format of the weights (default %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    from ..speedup.benchmark_file import profile_from_benchmark

    if arguments.output is not None:
        check_writable(arguments.output)
    progress = CommandProgress()
    profile = (
        profile_from_benchmark(arguments.benchmark)
        if arguments.benchmark
        else _measured(arguments, progress)
    )
    if profile.relative_error > UNCERTAIN:
        progress.say(
            f"warning: the times have a standard error of {profile.relative_error:.0%}, and so has "
            "every speed-up from them; close other programs, or time more rounds with --repeats "
            "and --max-seconds"
        )
    if arguments.output is None:
        print(profile.to_json(), end="")
    else:
        write_all({arguments.output: profile.to_json()})
        print(printable(f"wrote {arguments.output}"))
    return 0


def _measured(arguments: argparse.Namespace, progress: CommandProgress) -> CostProfile:
    from ..cases.drafter import OwnHeadsSpec, PromptLookupSpec, parse_drafter
    from ..checkpoints.checkpoint import check_pair
    from ..checkpoints.drafter_folders import recognised
    from ..decoding.timing import Setting, measure_costs

    given = {recognised(parse_drafter(name)) for name in arguments.draft or ()}
    drafters = given or {OwnHeadsSpec(), PromptLookupSpec()}
    draft_model, head = _model_and_head(drafters)
    if head is not None:
        _check_head(head, arguments)
    target, drafter = load_pair(
        arguments.target, draft_model, arguments.device, arguments.dtype, progress
    )
    if drafter is not None:
        check_pair(target.checkpoint, drafter.checkpoint, max(arguments.depth))
    if OwnHeadsSpec() in given:
        check_pair(target.checkpoint, None, max(arguments.depth))
    for model in (target, drafter):
        context = None if model is None else model.checkpoint.context
        if model is not None and context is not None and arguments.context >= context:
            whole = f"the context of {model.checkpoint.folder} ({context} tokens)"
            raise RequestError(
                f"--context={arguments.context} fills {whole}; ask for a smaller one"
            )
    return measure_costs(
        target,
        drafter,
        ks=arguments.k,
        depths=arguments.depth,
        setting=Setting(arguments.batch, arguments.context, arguments.temperature, arguments.dtype),
        repeats=arguments.repeats,
        own_heads=OwnHeadsSpec() in drafters,
        lookup=PromptLookupSpec() in drafters,
        registered=[] if head is None else [head],
        max_seconds=arguments.max_seconds,
        progress=progress,
        announce=progress.say,
    )


def _model_and_head(drafters: Collection[DrafterSpec]) -> tuple[str | None, RegisteredSpec | None]:
    """The draft model and the EAGLE-3 head among the drafters. Raises RequestError for two of one
    kind, and for a type of another package.
    """
    from ..cases.drafter import EAGLE3, OwnHeadsSpec, PromptLookupSpec, RegisteredSpec

    heads = [drafter for drafter in drafters if isinstance(drafter, RegisteredSpec)]
    if added := sorted(head.name for head in heads if head.name != EAGLE3):
        raise RequestError(
            f"costs does not time {added[0]!r}; write its times into the field drafters of the file"
        )
    others = (RegisteredSpec, OwnHeadsSpec, PromptLookupSpec)
    models = [str(drafter) for drafter in drafters if not isinstance(drafter, others)]
    for number, what in ((len(models), "draft model"), (len(heads), "EAGLE-3 head")):
        if number > 1:
            raise RequestError(
                f"a profile holds the times of one {what}, and {number} are named; measure each in "
                "its own run"
            )
    return next(iter(models), None), next(iter(heads), None)


def _check_head(head: RegisteredSpec, arguments: argparse.Namespace) -> None:
    """Raises RequestError for a head that cannot draft for the target, or is left out."""
    from ..checkpoints.checkpoint import open_checkpoint
    from ..checkpoints.eagle3_checks import check_eagle3
    from ..decoding.loading import resolve

    check_eagle3(open_checkpoint(resolve(arguments.target)), head.folder, 0)
    if 0 not in arguments.depth:
        raise RequestError(
            "an EAGLE-3 head has no MTP layers and is timed at depth 0, which --depth leaves out; "
            "add 0 to it"
        )


def load_pair(
    target: str, draft: str | None, device: str, dtype: str, progress: CommandProgress
) -> tuple[LoadedModel, LoadedModel | None]:
    """The models of a command."""
    from ..decoding.loading import check_folders, load_model

    models = []
    names = [name for name in (target, draft) if name is not None]
    check_folders(*names)
    for number, name in enumerate(names):
        progress("loading models", number, len(names))
        models.append(load_model(name, device, dtype))
    progress("loading models", len(names), len(names))
    return models[0], models[1] if draft is not None else None


def check_two_models(target: LoadedModel, draft: LoadedModel | None) -> None:
    """Raises RequestError where the draft model is the target itself."""
    if draft is None:
        return
    if draft.checkpoint.model_fingerprint == target.checkpoint.model_fingerprint:
        raise RequestError(
            f"the draft model {draft.checkpoint.folder} is the target itself, so every draft is "
            "accepted and nothing is measured; name another one with --draft"
        )


def check_writable(path: Path) -> None:
    """Raises RequestError now rather than after minutes of measuring."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise RequestError(f"{path} cannot be written; name a file in a folder that can")
