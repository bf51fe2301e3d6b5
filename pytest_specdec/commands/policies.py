"""`policies`: what fixed and dynamic drafting would gain on a pair of models, from one replay of
its texts.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.limits import MOST_DEPTH, MOST_K, MOST_NEW_TOKENS
from ..common.progress import CommandProgress
from ..config.options import DEVICES, DTYPES
from ..config.parsers import temperature, whole_number
from .costs import load_pair

if TYPE_CHECKING:
    from ..acceptance.renewal import AcceptanceField
    from ..cases.prompts import Prompt
    from ..decoding.loading import LoadedModel
    from ..speedup.policies import Confidences


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target", required=True, metavar="PATH", help="target: a checkpoint folder or hub id"
    )
    parser.add_argument(
        "--draft", required=True, metavar="PATH", help="a draft model, mtp or prompt-lookup"
    )
    parser.add_argument(
        "--prompts",
        required=True,
        type=Path,
        metavar="FILE",
        help="prompts, one JSON object a line",
    )
    parser.add_argument(
        "--costs", required=True, type=Path, metavar="FILE", help="cost profile of this pair"
    )
    parser.add_argument(
        "--k",
        type=whole_number(1, MOST_K),
        default=8,
        metavar="K",
        help="most tokens to draft in a round (default %(default)s)",
    )
    parser.add_argument(
        "--depth",
        type=whole_number(0, MOST_DEPTH),
        metavar="D",
        help="MTP layers per drafter pass (default 0, or 1 for the target's own)",
    )
    parser.add_argument(
        "--temperature",
        type=temperature,
        default=1.0,
        metavar="T",
        help="sampling temperature (default %(default)s)",
    )
    parser.add_argument(
        "--new-tokens",
        type=whole_number(2, MOST_NEW_TOKENS),
        default=128,
        metavar="N",
        help="tokens of text per prompt (default %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="seed of the texts (default %(default)s)",
    )
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


def run(asked: argparse.Namespace) -> int:
    from ..cases.case import LOOKUP, OWN_HEADS
    from ..cases.prompts import read_prompts
    from ..common.printable import printable
    from ..decoding.replay import check_drafter
    from ..report.layout import aligned, wrapped
    from ..speedup.cost_profile import CostProfile
    from ..speedup.policies import times
    from ..speedup.policy_table import HEADERS, NOTE, policy_table

    own_heads, lookup = asked.draft == OWN_HEADS, asked.draft == LOOKUP
    depth = (1 if own_heads else 0) if asked.depth is None else asked.depth
    costs = CostProfile.load(asked.costs).with_target(asked.costs)
    round_ms = times(costs, depth, own_heads=own_heads, lookup=lookup)
    for k in range(1, asked.k + 1):
        round_ms(k)  # so that a profile that is too narrow is refused before anything is loaded
    prompts = read_prompts(asked.prompts, None)
    progress = CommandProgress()
    target, model = load_pair(
        asked.target,
        None if own_heads or lookup else asked.draft,
        asked.device,
        asked.dtype,
        progress,
    )
    drafter = asked.draft if model is None else model
    check_drafter(target, drafter, depth)
    field, sure = _measured(asked, target, drafter, depth, prompts, progress)
    rows = policy_table(
        field,
        costs,
        most=asked.k,
        depth=depth,
        own_heads=own_heads,
        lookup=lookup,
        confidences=sure,
        progress=progress,
    )
    print(
        "\n".join(
            aligned([HEADERS, *(tuple(map(printable, row.cells())) for row in rows)], left=(0,))
        )
    )
    for row in rows:
        if row.detail:
            print("\n".join(wrapped(f"{row.name}: {row.detail}", indent="  ")))
    for row in rows:
        if row.gain is not None:
            low, high = row.gain.interval
            over = (
                f"{row.gain.ratio:.3f}x the speed of the best fixed k (95 % interval {low:.3f}x to "
                f"{high:.3f}x)"
            )
            print(
                "\n".join(
                    wrapped(
                        f"best that decides anew: {row.name}, {over}; both were chosen on these "
                        "prompts",
                        indent="  ",
                    )
                )
            )
    print("\n".join(wrapped(NOTE)))
    if sure is None:
        print("a confidence stops draft models without MTP heads only: none is listed")
    return 0


def _measured(
    asked: argparse.Namespace,
    target: LoadedModel,
    drafter: LoadedModel | str,
    depth: int,
    prompts: Sequence[Prompt],
    progress: CommandProgress,
) -> tuple[AcceptanceField, Confidences | None]:
    """The acceptance field of texts sampled from the target, and the drafter's confidences where
    they can stop it.
    """
    from ..cases.case import Sampling, default_rule
    from ..cases.texts import texts_of_prompts
    from ..decoding.confidence import confidences
    from ..decoding.loading import LoadedModel
    from ..decoding.replay import DrafterPlan, text_scores
    from ..decoding.sampling import encode_prompts, sample_new_tokens

    ids, sampling = encode_prompts(target.tokenizer, prompts), Sampling(asked.temperature)
    new = sample_new_tokens(
        target,
        ids,
        new_tokens=asked.new_tokens,
        sampling=sampling,
        seed=asked.seed,
        progress=functools.partial(progress, "sampling texts"),
    )
    texts = texts_of_prompts(prompts, ids, new)
    plan = DrafterPlan(drafter, depth, asked.k)
    (scores,) = text_scores(target, [plan], texts, sampling, functools.partial(progress, "replay"))
    sure = None
    if isinstance(drafter, LoadedModel) and depth == 0:
        told = functools.partial(progress, "confidences")
        sure = confidences(target, drafter, texts, k=asked.k, sampling=sampling, progress=told)
    return scores.field(default_rule(asked.temperature)), sure
