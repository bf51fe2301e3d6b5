"""What a real model shows: acceptance of drafters of SmolLM2-135M-Instruct by replay, and the
speed of `decode` beside plain decoding.

    python benchmarks/real_model.py acceptance > benchmarks/results/real-acceptance.json
    python benchmarks/real_model.py speed > benchmarks/results/real-speed.json
    python benchmarks/real_model.py page benchmarks/results/real-*.json > docs/real-model.md

The checkpoints are those of `make smollm2`. Speeds want a quiet machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from pytest_specdec import Counts, LoadedModel, Text, decode, load_model, replay
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import Prompt, read_prompts
from pytest_specdec.cases.texts import texts_of_prompts
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens

ROOT = Path(__file__).parent.parent
SUITE = ROOT / "suites" / "smollm2"
PAGE, MARK = (
    ROOT / "docs" / "real-model.md",
    "<!-- What follows is made by benchmarks/real_model.py. -->",
)
TARGET = SUITE / "models" / "target"
DRAFTERS = {
    "EAGLE-3": (str(SUITE / "models" / "eagle3"), 0),
    "early exit (20 of 30 layers)": (str(SUITE / "models" / "exit-20"), 0),
    "prompt lookup": ("prompt-lookup", 0),
}
DEEPEST = 8
TEMPERATURES = (0.0, 0.7, 1.0)
NEW_TOKENS = 64
LONG_PROMPTS, LONG_TOKENS, STRETCH = 24, 256, 64
"""Texts for acceptance by the length of the context, in stretches of so many tokens."""


def prompts_of(
    target: LoadedModel, count: int | None = None
) -> tuple[list[Prompt], list[list[int]]]:
    """The suite's prompts and their token ids."""
    read = list(read_prompts(SUITE / "prompts.jsonl", count))
    return read, encode_prompts(target.tokenizer, read)


def texts_of(
    target: LoadedModel, temperature: float, count: int | None = None, new_tokens: int = NEW_TOKENS
) -> tuple[Text, ...]:
    """What the target writes after the suite's prompts, as the suite samples it."""
    read, ids = prompts_of(target, count)
    new = sample_new_tokens(
        target,
        ids,
        new_tokens=new_tokens,
        sampling=Sampling(temperature),
        seed=0,
        keys=[prompt.key for prompt in read],
    )
    return texts_of_prompts(read, ids, new)


def conditional(counts: Counts) -> list[float]:
    """Acceptance of each draft position, of those whose earlier drafts are accepted."""
    accepted = counts.accepted.sum(0)
    before = [counts.drafted[:, 0].sum(), *accepted[:-1]]
    return [
        round(float(now / then), 4) if then > 0 else 0.0
        for now, then in zip(accepted, before, strict=True)
    ]


def acceptance() -> Iterator[dict[str, Any]]:
    """Rows of acceptance, one for each drafter and temperature, and for each stretch of context."""
    target = load_model(str(TARGET))
    for temperature in TEMPERATURES:
        texts = texts_of(target, temperature)
        for name, (drafter, depth) in DRAFTERS.items():
            row: dict[str, Any] = {"what": "positions", "drafter": name, "temperature": temperature}
            lengths, requests = {}, {}
            for k in range(1, DEEPEST + 1):
                counts = replay(
                    target, drafter, texts, k=k, depth=depth, temperature=temperature, end="whole"
                )
                lengths[k], requests[k] = counts.acceptance_length, counts.request_length
                if k == DEEPEST:
                    row["conditional"] = conditional(counts)
                    row["categories"] = {
                        category: conditional(part)
                        for category, part in counts.by_category().items()
                    }
            yield {**row, "lengths": lengths, "requests": requests}
    texts = texts_of(target, 0.0, LONG_PROMPTS, LONG_TOKENS)
    for name, (drafter, depth) in DRAFTERS.items():
        for begin in range(0, LONG_TOKENS, STRETCH):
            part = stretch(texts, begin)
            counts = replay(target, drafter, part, k=4, depth=depth, temperature=0)
            yield {
                "what": "stretch",
                "drafter": name,
                "begin": begin,
                "texts": len(part),
                "conditional": conditional(counts),
                "length": counts.acceptance_length,
            }


def stretch(texts: Sequence[Text], begin: int) -> list[Text]:
    """The new tokens from `begin` on, up to a stretch of them, of texts that are so long."""
    return [
        dataclasses.replace(
            text,
            ids=text.ids[: text.prompt_length + begin + STRETCH],
            prompt_length=text.prompt_length + begin,
        )
        for text in texts
        if len(text.ids) >= text.prompt_length + begin + STRETCH
    ]


def speed(dtype: str, ks: Sequence[int], prompts: int, turns: int) -> Iterator[dict[str, Any]]:
    """Tokens a second at batch 1 and temperature 0 of plain decoding, by our loop and by `generate`
    with a static cache, and of every drafter, in turn.
    """
    target = load_model(str(TARGET), dtype=dtype)
    _, ids = prompts_of(target, prompts)
    ways = {"plain": lambda: _ours(target, None, 0, 0, ids)}
    ways["generate"] = lambda: _generate(target, ids)
    for name, (drafter, depth) in DRAFTERS.items():
        for k in ks:
            ways[f"{name} k={k}"] = lambda drafter=drafter, depth=depth, k=k: _ours(
                target, drafter, depth, k, ids
            )
    rates: dict[str, list[float]] = {name: [] for name in ways}
    lengths: dict[str, float] = {}
    texts: dict[str, list[tuple[int, ...]]] = {}
    for turn in range(turns):
        for name, way in ways.items():
            begun = time.perf_counter()
            texts[name], rounds = way()
            seconds = time.perf_counter() - begun
            tokens = sum(len(text) for text in texts[name]) - sum(map(len, ids))
            rates[name].append(tokens / seconds)
            lengths[name] = tokens / rounds
            print(f"turn {turn}: {name} {tokens / seconds:.2f} tokens/s", file=sys.stderr)
    for name in ways:
        equal = sum(a == b for a, b in zip(texts[name], texts["plain"], strict=True))
        yield {
            "what": "speed",
            "way": name,
            "dtype": dtype,
            "threads": torch.get_num_threads(),
            "tokens_per_second": statistics.median(rates[name]),
            "turns": rates[name],
            "tokens_per_pass": lengths[name],
            "equal_texts": equal,
            "texts": len(ids),
        }


def _ours(
    target: LoadedModel, drafter: str | None, depth: int, k: int, ids: Sequence[Sequence[int]]
) -> tuple[list[tuple[int, ...]], int]:
    decoded = decode(
        target,
        drafter,
        ids,
        k=k,
        depth=depth,
        temperature=0,
        new_tokens=NEW_TOKENS,
        batch_size=1,
    )
    passes = sum(len(rounds) + 1 for rounds in decoded.rounds)
    return [text.ids for text in decoded.texts], passes


@torch.inference_mode()
def _generate(
    target: LoadedModel, ids: Sequence[Sequence[int]]
) -> tuple[list[tuple[int, ...]], int]:
    texts, passes = [], 0
    config = GenerationConfig(
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=target.model.generation_config.eos_token_id,
        pad_token_id=0,
        cache_implementation="static",
        disable_compile=True,
    )
    for prompt in ids:
        out = target.model.generate(torch.tensor([prompt]), generation_config=config)
        texts.append(tuple(out[0].tolist()))
        passes += len(texts[-1]) - len(prompt)
    return texts, passes


def page(paths: Sequence[Path]) -> str:
    """docs/real-model.md from the rows of the other commands."""
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return PAGE.read_text().split(MARK)[0] + MARK + "\n" + "\n".join(_sections(rows))


def _sections(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    positions = [row for row in rows if row["what"] == "positions"]
    yield "\n## Acceptance by position\n"
    yield "Conditional acceptance: of the drafts whose earlier drafts were accepted.\n"
    yield _table(
        ["drafter", "T", *map(str, range(1, DEEPEST + 1))],
        (
            [row["drafter"], f"{row['temperature']:g}", *(f"{a:.2f}" for a in row["conditional"])]
            for row in positions
        ),
    )
    yield "\n## Length by k\n"
    yield "Tokens per pass of the target, over whole texts.\n"
    yield _table(
        ["drafter", "T", *(f"k = {k}" for k in range(1, DEEPEST + 1))],
        (
            [
                row["drafter"],
                f"{row['temperature']:g}",
                *(f"{v:.2f}" for v in row["requests"].values()),
            ]
            for row in positions
        ),
    )
    yield "\n## Categories\n"
    yield "Conditional acceptance of the first, second and third draft at temperature 0.\n"
    greedy = {row["drafter"]: row["categories"] for row in positions if row["temperature"] == 0}
    yield _table(
        ["category", *(f"{name}, position {n}" for name in greedy for n in (1, 2, 3))],
        (
            [category, *(f"{greedy[name][category][n]:.2f}" for name in greedy for n in range(3))]
            for category in next(iter(greedy.values()), {})
        ),
    )
    yield "\n## Length of the context\n"
    yield (
        f"The same by the part of the answer, {LONG_PROMPTS} answers of up to {LONG_TOKENS} tokens, "
        "k = 4, temperature 0.\n"
    )
    yield _table(
        ["drafter", "tokens", "texts", "1", "2", "3", "4", "length"],
        (
            [
                row["drafter"],
                f"{row['begin'] + 1} to {row['begin'] + STRETCH}",
                str(row["texts"]),
                *(f"{a:.2f}" for a in row["conditional"]),
                f"{row['length']:.2f}",
            ]
            for row in rows
            if row["what"] == "stretch"
        ),
    )
    yield from _speeds([row for row in rows if row["what"] == "speed"])


def _speeds(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    rates = {row["way"]: row["tokens_per_second"] for row in rows}
    best = max(rates["plain"], rates["generate"])
    first = rows[0]
    yield "\n## The wall clock\n"
    yield (
        f"`decode` at batch 1 and temperature 0 over {first['texts']} prompts, {first['dtype']}, "
        f"{first['threads']} threads; plain decoding is the faster of our loop and transformers' "
        "`generate` with a static cache.\n"
    )
    yield _table(
        ["way", "tokens/s", "of plain", "tokens per pass", "equal texts"],
        (
            [
                row["way"],
                f"{row['tokens_per_second']:.1f}",
                f"{row['tokens_per_second'] / best:.2f}",
                f"{row['tokens_per_pass']:.2f}",
                f"{row['equal_texts']} of {row['texts']}",
            ]
            for row in rows
        ),
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("acceptance")
    timed = kinds.add_parser("speed")
    timed.add_argument("--dtype", default="bfloat16")
    timed.add_argument(
        "--k", type=lambda given: [int(k) for k in given.split(",")], default=[1, 2, 3, 4, 6]
    )
    timed.add_argument("--prompts", type=int, default=96)
    timed.add_argument("--turns", type=int, default=1)
    shown = kinds.add_parser("page")
    shown.add_argument("results", type=Path, nargs="+")
    options = parser.parse_args()
    if options.kind == "page":
        print(page(options.results))
        return
    rows = (
        acceptance()
        if options.kind == "acceptance"
        else speed(options.dtype, options.k, options.prompts, options.turns)
    )
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
