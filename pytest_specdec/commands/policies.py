"""`policies`: what fixed and dynamic drafting would gain on a pair of models, from one replay of its texts."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..limits import MOST_DEPTH, MOST_K, MOST_NEW_TOKENS
from ..options import DEVICES, DTYPES, temperature, whole_number


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", required=True, metavar="PATH", help="target: a checkpoint folder or hub id")
    parser.add_argument("--draft", required=True, metavar="PATH", help="a draft model, mtp or prompt-lookup")
    parser.add_argument("--prompts", required=True, type=Path, metavar="FILE", help="prompts, one JSON object a line")
    parser.add_argument("--costs", required=True, type=Path, metavar="FILE", help="cost profile of this pair")
    parser.add_argument("--k", type=whole_number(1, MOST_K), default=8, metavar="K", help="most tokens to draft in a round")
    parser.add_argument("--depth", type=whole_number(0, MOST_DEPTH), metavar="D", help="MTP layers; 0, or 1 for the target's own")
    parser.add_argument("--temperature", type=temperature, default=1.0, metavar="T")
    parser.add_argument("--new-tokens", type=whole_number(2, MOST_NEW_TOKENS), default=128, metavar="N")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")


def run(asked: argparse.Namespace) -> int:
    from ..acceptance.case import LOOKUP, OWN_HEADS, Sampling, default_rule
    from ..acceptance.prompts import read_prompts
    from ..acceptance.texts import texts_of_prompts
    from ..decoding.confidence import confidences
    from ..decoding.loading import LoadedModel, check_folders, load_model
    from ..decoding.replay import DrafterPlan, check_drafter, text_scores
    from ..decoding.sampling import encode_prompts, sample_new_tokens
    from ..printable import printable
    from ..report.layout import aligned
    from ..speedup.costs import CostProfile
    from ..speedup.policy_table import HEADERS, NOTE, policy_table

    costs = CostProfile.load(asked.costs).with_target(asked.costs)
    prompts = read_prompts(asked.prompts, None)
    check_folders(asked.target, asked.draft)
    target = load_model(asked.target, asked.device, asked.dtype)
    drafter = asked.draft if asked.draft in (OWN_HEADS, LOOKUP) else load_model(asked.draft, asked.device, asked.dtype)
    depth = (1 if drafter == OWN_HEADS else 0) if asked.depth is None else asked.depth
    check_drafter(target, drafter, depth)
    ids, sampling = encode_prompts(target.tokenizer, prompts), Sampling(asked.temperature)
    new = sample_new_tokens(target, ids, new_tokens=asked.new_tokens, sampling=sampling, seed=asked.seed)
    texts = texts_of_prompts(prompts, ids, new)
    (scores,) = text_scores(target, [DrafterPlan(drafter, depth, asked.k)], texts, sampling)
    stops = isinstance(drafter, LoadedModel) and depth == 0
    sure = confidences(target, drafter, texts, k=asked.k, sampling=sampling) if stops else None
    field = scores.field(default_rule(asked.temperature))
    rows = policy_table(
        field, costs, most=asked.k, depth=depth, own_heads=drafter == OWN_HEADS, lookup=drafter == LOOKUP, confidences=sure
    )
    print("\n".join(aligned([HEADERS, *(tuple(map(printable, row.cells())) for row in rows)], left=(0,))))
    print(NOTE)
    if sure is None:
        print("a confidence stops draft models without MTP heads only: none is listed")
    return 0
