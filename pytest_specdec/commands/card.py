"""`card`: a section of a model card on a measured drafter, as Markdown and JSON.

Exit status 0: written, with a warning on standard error where the numbers should not be trusted;
2: an error.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.bounded_files import read_bytes
from ..common.errors import RequestError
from ..common.limits import MOST_DEPTH, MOST_K
from ..common.printable import printable
from ..common.progress import CommandProgress
from ..common.strict_json import JsonError, parse_json
from ..config.parsers import whole_number
from .costs import add_device_options, check_writable, load_pair
from .text_options import add_prompts_option, add_target_option, add_text_options

if TYPE_CHECKING:
    from ..cases.drafter import DrafterSpec
    from ..cases.prompts import Prompt
    from ..doctor.head_card import CardRequest
    from ..report.card import CardDocument

_K = 8
_ENDINGS = (".md", ".json")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "drafter",
        metavar="HEAD",
        help="a folder of heads or a draft model, mtp, prompt-lookup, or another drafter's name",
    )
    add_target_option(parser)
    add_prompts_option(parser)
    parser.add_argument(
        "--texts",
        type=whole_number(2),
        default=32,
        metavar="N",
        help="texts to sample from the target, a prompt each: N prompts of the file, of each "
        "category in turn, or all where there are fewer (default %(default)s)",
    )
    _add_rounds(parser)
    add_text_options(parser, new_tokens=64)
    add_device_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        action="append",
        metavar="FILE",
        help="where to write the card, .md or .json, repeatable; of a Markdown file that is there "
        "what stands between the card's marks is replaced (default: Markdown on standard output)",
    )


def _add_rounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--k",
        type=whole_number(1, MOST_K, example="4"),
        metavar="K",
        help=f"most tokens to draft in a round (default {_K}, or as many as the drafter makes)",
    )
    parser.add_argument(
        "--depth",
        type=whole_number(0, MOST_DEPTH, example="1"),
        metavar="D",
        help="MTP layers per drafter pass (default 0, or all of them for the target's own)",
    )
    parser.add_argument(
        "--costs",
        type=Path,
        metavar="FILE",
        help="cost profile of this pair, for speed-ups (default: none)",
    )
    parser.add_argument(
        "--no-doctor",
        action="store_true",
        help="leave out the doctor, which takes the longest (default: examine the folder)",
    )


def run(arguments: argparse.Namespace) -> int:
    from ..cases.drafter import DraftModelSpec, parse_drafter
    from ..cases.prompts import read_prompts
    from ..checkpoints.drafter_folders import recognised

    before = {path: _read_before(path) for path in arguments.output or ()}
    held = read_prompts(arguments.prompts, cure="name one with --prompts=FILE")
    prompts = _spread(held, arguments.texts)
    spec = recognised(parse_drafter(arguments.drafter))
    request = _request(arguments, spec)

    from ..doctor.head_card import measured_card

    _check(arguments.target, spec, request)
    progress = CommandProgress()
    draft_model = spec.path if isinstance(spec, DraftModelSpec) else None
    target, model = load_pair(
        arguments.target, draft_model, arguments.device, arguments.dtype, progress
    )
    card = measured_card(target, spec if model is None else model, prompts, request, progress)
    for warning in card["warnings"]:
        progress.say(printable(f"warning: {warning}"))
    _write(card, before)
    return 0


def _spread(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many prompts, in turn of each category, in the order of the file."""
    by_category: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_category.setdefault(prompt.category, []).append(prompt)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_category.values()))
    chosen = set(itertools.islice((prompt for prompt in turns if prompt is not None), count))
    return [prompt for prompt in prompts if prompt in chosen]


def _request(arguments: argparse.Namespace, spec: DrafterSpec) -> CardRequest:
    """Raises RequestError for more drafts than the drafter makes, CostError for a profile that
    cannot be used.
    """
    from ..cases.drafter import OwnHeadsSpec, kind_of
    from ..checkpoints.checkpoint import open_checkpoint
    from ..checkpoints.drafter_folders import largest_k
    from ..decoding.loading import resolve
    from ..doctor.head_card import CardRequest
    from ..speedup.cost_profile import CostProfile
    from ..speedup.policies import check_covered

    most = largest_k(spec)
    k = arguments.k or min(_K, most or _K)
    if most is not None and k > most:
        raise RequestError(
            f"--k={k}: {arguments.drafter} drafts at most {most} tokens in a round; ask for fewer"
        )
    if k >= arguments.new_tokens:
        raise RequestError(
            f"no text of {arguments.new_tokens} new tokens is long enough for a round of k={k}; "
            "ask for more --new-tokens or a smaller --k"
        )
    depth = arguments.depth
    if depth is None:
        own = isinstance(spec, OwnHeadsSpec)
        depth = max(open_checkpoint(resolve(arguments.target)).mtp_layers, 1) if own else 0
    costs = None
    if arguments.costs is not None:
        costs = CostProfile.load(arguments.costs).with_target(arguments.costs)
        check_covered(costs.extended(range(1, k + 1)), k, depth, drafter=kind_of(spec))
    return CardRequest(
        target=arguments.target,
        drafter=arguments.drafter,
        spec=spec,
        k=k,
        depth=depth,
        temperature=arguments.temperature,
        new_tokens=arguments.new_tokens,
        seed=arguments.seed,
        prompts=arguments.prompts.name,
        dtype=arguments.dtype,
        command=_command(arguments),
        costs=costs,
        costs_name="" if costs is None else f"{arguments.costs.name}, batch {costs.batch_size}",
        examine=not arguments.no_doctor,
    )


def _check(target: str, spec: DrafterSpec, request: CardRequest) -> None:
    """Raises RequestError for a drafter that cannot draft for the target, before either is
    loaded.
    """
    from ..checkpoints.checkpoint import open_checkpoint
    from ..decoding.drafters.registry import type_of
    from ..decoding.loading import resolve

    drafter_type, folder = type_of(spec)
    drafter_type.check(open_checkpoint(resolve(target)), folder, request.depth)


def _command(arguments: argparse.Namespace) -> str:
    """The command again, with what is not the default."""
    words = ["python", "-m", "pytest_specdec", "card", arguments.drafter]
    words += ["--target", arguments.target, "--prompts", str(arguments.prompts)]
    options: Mapping[str, tuple[object, object]] = {
        "--texts": (arguments.texts, 32),
        "--k": (arguments.k, None),
        "--depth": (arguments.depth, None),
        "--costs": (arguments.costs, None),
        "--temperature": (arguments.temperature, 1.0),
        "--new-tokens": (arguments.new_tokens, 64),
        "--seed": (arguments.seed, 0),
        "--device": (arguments.device, "auto"),
        "--dtype": (arguments.dtype, "float32"),
    }
    for name, (value, default) in options.items():
        if value != default:
            words += [name, f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words + ["--no-doctor"] * arguments.no_doctor)


def _read_before(path: Path) -> str | None:
    """What a file holds that a card is written to; None where there is none. Raises RequestError
    for another ending, and for a file that is not ours to replace.
    """
    from ..report.card_page import BEGIN, END

    if path.suffix not in _ENDINGS:
        raise RequestError(f"{path} ends in neither .md nor .json; name a file that does")
    check_writable(path)
    if not path.exists():
        return None
    try:
        text = read_bytes(path).decode("utf-8")  # with its own line ends, which stay
    except (OSError, UnicodeDecodeError):
        raise RequestError(f"{path} cannot be read; name another file") from None
    if path.suffix == ".md":
        if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
            raise RequestError(
                f"{path} is there and has no place for a card; add the lines {BEGIN} and {END} to "
                "it, or name another file"
            )
        return text
    try:
        held = parse_json(text)
    except JsonError:
        held = None
    if not isinstance(held, dict) or not _is_card(held):
        raise RequestError(f"{path} is there and holds no card; name another file")
    return text


def _is_card(held: Mapping[str, object]) -> bool:
    own = held.get("card"), held.get("steps")
    return held.get("schema") == 1 and isinstance(own[0], dict) and isinstance(own[1], list)


def _write(card: CardDocument, before: Mapping[Path, str | None]) -> None:
    from ..baselines.store import write_all
    from ..report.card_page import BEGIN, END, render_card
    from ..report.row import printable_values

    page = render_card(card)
    if not before:
        print(page, end="")
        return
    files = {}
    for path, text in before.items():
        if path.suffix == ".json":
            files[path] = json.dumps(printable_values(card), indent=2, allow_nan=False) + "\n"
        elif text is None:
            files[path] = page
        else:
            head, _, rest = text.partition(BEGIN)
            tail = re.sub(r"\A\r?\n", "", rest.partition(END)[2])
            ends = "\r\n" if "\r\n" in text else "\n"
            files[path] = head + page.replace("\n", ends) + tail
    write_all(files)
    for path in files:
        print(printable(f"wrote {path}"))
