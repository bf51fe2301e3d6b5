"""Trees of drafts: do replay and decode agree, and are the rules lossless?

    python benchmarks/trees.py agreement --rounds 5000     # one JSON line for each case
    python benchmarks/trees.py rules --examples 1000       # one line for each rule
    python benchmarks/trees.py best --pair embedded        # the best tree beside the best chain
    python benchmarks/trees.py page                        # writes the tables of docs/trees.md

Results are kept in benchmarks/results/trees-*.jsonl, a line for each case; a run replaces its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_specdec import Decoded, best_tree, decode, decode_tree, load_model, replay_tree
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.tree import CHILDREN, StaticTree, tree_of
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.sampling import encode_prompts
from pytest_specdec.lossless import assert_lossless_tree
from pytest_specdec.lossless.samplers.verifiers import of_tree_rule
from pytest_specdec.speedup.tree_costs import TreeCosts

ROOT = Path(__file__).parent.parent
MODELS, RESULTS = ROOT / "suites/models", ROOT / "benchmarks/results"
STATIC = "0 1 2 0.0 0.1 1.0 0.0.0 0.0.1 0.0.0.0"
DYNAMIC = "topk=3,depth=4,nodes=12"
SMALL = "0 1 0.0 0.1 1.0 0.0.0"
CASES = (
    ("text-draft", 0, 1.0, f"{SMALL} sampled", ("rejection", "sample-match")),
    (
        "text-draft",
        0,
        1.0,
        f"{STATIC} replacement",
        ("rejection", "specinfer", "traversal", "sample-match"),
    ),
    ("text-draft", 0, 1.0, STATIC, ("rejection",)),
    ("text-draft", 0, 1.0, DYNAMIC, ("rejection",)),
    ("text-draft", 0, 0.0, STATIC, ("greedy",)),
    ("text-draft", 0, 0.0, DYNAMIC, ("greedy",)),
    ("mtp", 3, 1.0, f"{STATIC} replacement", ("rejection",)),
    ("mtp", 3, 0.0, DYNAMIC, ("greedy",)),
    ("text-eagle3", 0, 1.0, f"{STATIC} replacement", ("traversal",)),
    ("text-eagle3", 0, 0.0, DYNAMIC, ("greedy",)),
)
"""Drafter, depth, temperature, tree and rules."""
NEW_TOKENS, TEXTS = 128, 10


def prompts(turn: int) -> list[str]:
    """The prompts of a turn: those of the embedded suite, and then the same with a number, since at
    temperature 0 a prompt has one text.
    """
    lines = (ROOT / "suites/text/prompts.jsonl").read_text(encoding="utf-8").splitlines()
    known = [json.loads(line)["prompt"] for line in lines]
    asked = range(TEXTS * turn, TEXTS * (turn + 1))
    again = [(known[at % len(known)], at // len(known)) for at in asked]
    return [f"{prompt} {number}" if number else prompt for prompt, number in again]


def agreement(rounds: int, only: str) -> None:
    """Decode until so many rounds are counted, and replay the texts; kept after each turn."""
    target = load_model(str(MODELS / "text-target"))
    for drafter, depth, temperature, tree, rules in CASES:
        for rule in rules:
            name = f"{drafter} {temperature:g} {tree} {rule}"
            line = next((line for line in _lines("agreement") if line["name"] == name), None)
            while only in name and (line is None or line["rounds"] < rounds):
                line = _turn(line, target, drafter, depth, temperature, tree, rule)
                _keep("agreement", name, line)


def _turn(
    before: dict[str, Any] | None,
    target: LoadedModel,
    drafter: str,
    depth: int,
    temperature: float,
    tree: str,
    rule: str,
) -> dict[str, Any]:
    """A case after one more turn."""
    source = drafter if drafter == "mtp" else str(MODELS / drafter)
    options: dict[str, Any] = {
        "tree": tree,
        "depth": depth,
        "rule": rule,
        "temperature": temperature,
    }
    zero = dict.fromkeys(("turns", "rounds", "accepted", "replayed", "expected", "squares"), 0.0)
    sums = zero | {"equal": True} | (before or {})
    turn = int(sums["turns"])
    decoded = decode_tree(
        target, source, prompts(turn), new_tokens=NEW_TOKENS, seed=turn, **options
    )
    counts = decoded.counts
    theirs = replay_tree(target, source, decoded.texts, **options)
    residuals = counts.accepted.sum(1) - theirs.accepted.sum(1)
    residuals -= theirs.expected_accepted * (counts.rounds - theirs.rounds)
    accepted = sums["accepted"] + float(counts.accepted.sum())
    expected = sums["expected"] + float(theirs.accepted.sum())
    rounds = sums["rounds"] + counts.total_rounds
    replayed = sums["replayed"] + theirs.total_rounds
    squares = sums["squares"] + float((residuals**2).sum())
    error = float(np.sqrt(squares)) / rounds
    difference = accepted / rounds - expected / replayed
    return {
        "drafter": drafter,
        "temperature": temperature,
        "tree": tree,
        "rule": rule,
        "turns": turn + 1,
        "rounds": int(rounds),
        "accepted": int(accepted),
        "replayed": round(replayed, 6),
        "expected": round(expected, 6),
        "squares": round(squares, 6),
        "decode": round(1 + accepted / rounds, 4),
        "replay": round(1 + expected / replayed, 4),
        "z": 0.0 if error == 0 else round(difference / error, 2),
        "equal": bool(sums["equal"]) and np.array_equal(counts.accepted, theirs.accepted),
    }


RULES = (
    *(("rejection", children, "drawn") for children in CHILDREN),
    *(("specinfer", children, "drawn") for children in CHILDREN),
    *(("traversal", children, "drawn") for children in CHILDREN),
    *(("sample-match", children, "drawn") for children in CHILDREN),
    *(("naive", children, "drawn") for children in CHILDREN),
    ("rejection", "top-k", "model"),
    ("rejection", "sampled", "model"),
)


def rules(examples: int) -> None:
    """Judge every rule by exact enumeration."""
    for rule, children, probs in RULES:
        begun = time.perf_counter()
        try:
            assert_lossless_tree(
                of_tree_rule(rule), children=children, draft_probs=probs, max_examples=examples
            )
            found = ""
        except AssertionError as failure:
            found = str(failure).partition("(exact): ")[2].partition("\n")[0]
        _keep(
            "rules",
            f"{rule} {children} {probs}",
            {
                "rule": rule,
                "children": children,
                "q": probs,
                "examples": examples,
                "found": found,
                "seconds": round(time.perf_counter() - begun),
            },
        )


PAIRS = {
    "embedded draft model": (MODELS / "text-target", str(MODELS / "text-draft"), "text"),
    "embedded EAGLE-3": (MODELS / "text-target", str(MODELS / "text-eagle3"), "text"),
    "SmolLM2 exit-20": (ROOT / "suites/smollm2/models/target", "exit-20", "smollm2"),
    "SmolLM2 EAGLE-3": (ROOT / "suites/smollm2/models/target", "eagle3", "smollm2"),
}
TIMED = (
    "0",
    "0 0.0",
    "0 0.0 0.0.0 0.0.0.0",
    "0 1 2 3",
    "0 1 2 3 4 5 6 7 8 9 10 11",
    "0 1 2 3 " + (" ".join(f"{first}.{second}" for first in range(4) for second in range(3))),
    "0 1 0.0 0.1 1.0 1.1 0.0.0 0.1.0 1.0.0 1.1.0 0.0.0.0 1.0.0.0",
)
"""Trees whose rounds are timed: chains, stars, and wide ones."""
BUDGET = 16


def best(name: str, count: int, new_tokens: int) -> None:
    """The best tree and the best chain of a pair at temperature 0, predicted and measured."""
    folder, source, suite = PAIRS[name]
    source = source if Path(source).is_absolute() else str(folder.parent / source)
    target = load_model(str(folder))
    known = read_prompts(ROOT / f"suites/{suite}/prompts.jsonl", None)
    ids = encode_prompts(target.tokenizer, known)
    asked = [list(ids[at * len(ids) // count]) for at in range(count)]
    plain = decode(target, None, asked, k=0, temperature=0, new_tokens=new_tokens, batch_size=1)
    costs = _timed(target, source, asked[:: max(len(asked) // 4, 1)])
    options: dict[str, Any] = {"costs": costs, "nodes": BUDGET, "temperature": 0}
    begun = time.perf_counter()
    found = best_tree(target, source, plain.texts, **options)
    seconds = time.perf_counter() - begun
    whole = max(
        (choice for choice in found.of_each_depth if choice.tree.nodes == BUDGET),
        key=lambda choice: choice.speedup,
    )
    choices = {"best chain": found.chain, f"best {BUDGET} nodes": whole, "best tree": found.tree}
    ran = {what: [0.0, 0, 0] for what in ("plain", *choices)}
    for prompt in asked:  # in turn, so that a busy machine slows all alike
        alone = decode(target, None, [prompt], k=0, temperature=0, new_tokens=new_tokens)
        _add(ran["plain"], alone)
        for what, choice in choices.items():
            _add(
                ran[what],
                decode_tree(
                    target,
                    source,
                    [prompt],
                    tree=choice.tree,
                    temperature=0,
                    new_tokens=new_tokens,
                ),
            )
    plain_ms = ran["plain"][0] / ran["plain"][1]
    for what, choice in choices.items():
        ms, tokens, rounds = ran[what]
        _keep(
            "best",
            f"{name} {what}",
            {
                "pair": name,
                "what": what,
                "tree": str(choice.tree),
                "nodes": choice.tree.nodes,
                "depth": choice.tree.depth,
                "length": round(choice.length, 3),
                "measured_length": round(tokens / rounds, 3),
                "speedup": round(choice.speedup, 3),
                "measured_speedup": round(plain_ms / (ms / tokens), 3),
                "ms": round(ms / rounds, 2),
                "search_seconds": round(seconds, 1),
                "rounds": rounds,
            },
        )


def _add(ran: list[Any], decoded: Decoded) -> None:
    ran[0] += sum(decoded.draft_ms) + sum(decoded.verify_ms)
    ran[1] += sum(len(text.ids) - text.prompt_length - 1 for text in decoded.texts)
    ran[2] += len(decoded.draft_ms)


def _timed(target: LoadedModel, source: str, asked: list[list[int]]) -> TreeCosts:
    """Costs of rounds, fitted by least squares to the median times of some trees; all in turn, so
    that a busy machine slows all alike.
    """
    trees = [tree for tree in map(tree_of, TIMED) if isinstance(tree, StaticTree)]
    plain_ms, times = list[float](), [([], []) for _ in trees]  # type: ignore[var-annotated]
    for prompt in asked:
        options: dict[str, Any] = {"temperature": 0, "new_tokens": 24}
        plain_ms += decode(target, None, [prompt], k=0, **options).verify_ms
        for tree, (draft_ms, verify_ms) in zip(trees, times, strict=True):
            decoded = decode_tree(target, source, [prompt], tree=tree, **options)
            draft_ms += decoded.draft_ms
            verify_ms += decoded.verify_ms
    draft = [
        (
            tree.depth,
            max(tree.parents_read - (tree.depth - 1), 0),
            statistics.median(draft_ms),
        )
        for tree, (draft_ms, _) in zip(trees, times, strict=True)
    ]
    verify = [
        (1.0, tree.nodes, statistics.median(verify_ms))
        for tree, (_, verify_ms) in zip(trees, times, strict=True)
    ]
    target_ms = statistics.median(plain_ms)
    (base, node), (level, grown) = (
        np.linalg.lstsq(rows[:, :2], rows[:, 2], rcond=None)[0].tolist()
        for rows in (np.array(verify), np.array(draft))
    )
    return TreeCosts(
        target_ms=target_ms,
        verify_ms=base,
        node_ms=max(node, 0.0),
        level_ms=level,
        grown_ms=max(grown, 0.0),
    )


def _path(kind: str) -> Path:
    return RESULTS / f"trees-{kind}.jsonl"


def _lines(kind: str) -> Iterator[dict[str, Any]]:
    if _path(kind).exists():
        yield from map(json.loads, _path(kind).read_text(encoding="utf-8").splitlines())


def _keep(kind: str, name: str, result: dict[str, Any]) -> None:
    kept = [line for line in _lines(kind) if line["name"] != name]
    kept.append({**result, "name": name})
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in kept)
    _path(kind).write_text(text, encoding="utf-8")
    print(json.dumps(kept[-1]), flush=True)


def page() -> None:
    """Write the tables of docs/trees.md."""
    path = ROOT / "docs/trees.md"
    text = path.read_text(encoding="utf-8")
    for kind, table in (
        ("rules", _rules_table),
        ("agreement", _agreement_table),
        ("best", _best_table),
    ):
        begin = f"<!-- trees.py: {kind} -->\n"
        before, _, rest = text.partition(begin)
        after = rest.partition("<!-- trees.py: end -->")[2]
        rows = "".join(f"| {' | '.join(row)} |\n" for row in table())
        text = f"{before}{begin}{rows}<!-- trees.py: end -->{after}"
    path.write_text(text, encoding="utf-8")


def _rules_table() -> Iterator[tuple[str, ...]]:
    yield "rule", "children", "q", "trees", "verdict"
    yield ("---",) * 5
    for line in _lines("rules"):
        verdict = f"biased: {line['found']}" if line["found"] else "lossless"
        yield line["rule"], line["children"], line["q"], f"{line['examples']:,}", verdict


def _agreement_table() -> Iterator[tuple[str, ...]]:
    yield "drafter", "T", "tree", "rule", "rounds", "decode", "replay", "difference"
    yield ("---",) * 8
    for line in _lines("agreement"):
        difference = "none, text for text" if line["equal"] else f"z {line['z']:+.2f}"
        yield (
            line["drafter"],
            f"{line['temperature']:g}",
            f"`{line['tree']}`",
            line["rule"],
            f"{line['rounds']:,}",
            f"{line['decode']:.4f}",
            f"{line['replay']:.4f}",
            difference,
        )


def _best_table() -> Iterator[tuple[str, ...]]:
    yield "pair", "what", "tree", "length", "measured", "speed-up", "measured"
    yield ("---",) * 7
    for line in _lines("best"):
        yield (
            line["pair"],
            line["what"],
            f"`{line['tree']}`",
            f"{line['length']:.3f}",
            f"{line['measured_length']:.3f}",
            f"{line['speedup']:.3f}x",
            f"{line['measured_speedup']:.3f}x",
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("agreement", "rules", "best", "page"))
    parser.add_argument("--rounds", type=int, default=5000)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--pair", default="", help="pairs whose names hold this")
    parser.add_argument("--texts", type=int, default=12)
    parser.add_argument("--new-tokens", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if given.what == "agreement":
            agreement(given.rounds, given.only)
        elif given.what == "page":
            page()
        elif given.what == "best":
            for name in PAIRS:
                if given.pair in name:
                    best(name, given.texts, given.new_tokens)
        else:
            rules(given.examples)
    except RequestError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
