"""Is what the gate says of a changed target right? Coverage of its interval in the same contexts, and
how often it decides.

    python benchmarks/changed_target.py --prompts 5000 --draws 200

The truth is the change over all prompts of the corpus generator, on texts of the old target that are
sampled once. Each draw takes a sample of prompts as a suite would have it and judges the change by
it alone. Prints one JSON line for each change.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from weight_changes import CHANGES, changed

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import corpus
from helpers.embedded import Pair as ModelPair

from pytest_specdec.acceptance.contexts import ContextCounts, context_counts
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.scores import Scores
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text, texts_from_ids
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import sample_new_tokens
from pytest_specdec.gate.changed_target import decided
from pytest_specdec.gate.detectable import smallest_bounded_drop
from pytest_specdec.gate.facts import ComparisonFacts
from pytest_specdec.gate.paired import Pair

K, NEW_TOKENS, PROMPT = 8, 96, 24
ALPHA, GATES, MARGIN = 0.01, 32, 0.01
SAMPLES = (40, 120)
"""Prompts of a draw: the embedded suite's, and a larger one's."""
KINDS = (
    "noise 0.1 %",
    "noise 0.5 %",
    "noise 2 %",
    "noise 5 %",
    "bfloat16",
    "int8",
    "10 steps",
)


def prompts(count: int, pair: ModelPair) -> list[list[int]]:
    """Beginnings of documents that the models were not trained on in this form."""
    documents = [
        text for seed in (11, 12, 13) for text in corpus.documents(seed) if len(text) > 150
    ]
    random.Random(1).shuffle(documents)
    distinct = list(dict.fromkeys(documents))[:count]
    return [pair.target.tokenizer(text[:100])["input_ids"][:PROMPT] for text in distinct]


def sampled_texts(pair: ModelPair, count: int, temperature: float) -> tuple[Text, ...]:
    ids = prompts(count, pair)
    new = sample_new_tokens(
        pair.target,
        ids,
        new_tokens=NEW_TOKENS,
        sampling=Sampling(temperature),
        seed=0,
        keys=[str(row) for row in range(len(ids))],
    )
    return texts_from_ids(
        [[*prompt, *text] for prompt, text in zip(ids, new, strict=True)], [len(row) for row in ids]
    )


def measured(
    pair: ModelPair,
    texts: tuple[Text, ...],
    temperature: float,
    source: list[list[float]] | None = None,
) -> tuple[ContextCounts, list[list[float]]]:
    """The contexts' acceptance, and the log-probabilities of the texts' new tokens."""
    (scores,) = text_scores(
        pair.target,
        [DrafterPlan(pair.draft, 0, K)],
        texts,
        Sampling(temperature),
        overlaps=True,
        source=source,
    )
    limits = np.array([text.prompt_length + NEW_TOKENS for text in texts])
    rule = "greedy" if temperature == 0 else "rejection"
    counts = context_counts(scores, rule, K, limits)
    assert counts is not None
    return counts, logprobs_of(scores, texts)


def logprobs_of(scores: Scores, texts: tuple[Text, ...]) -> list[list[float]]:
    """The log-probabilities of the texts' new tokens, as they are stored."""
    return [
        np.round(scores.target[row, text.prompt_length : len(text.ids)].astype(float), 5).tolist()
        for row, text in enumerate(texts)
    ]


def draws(
    before: Counts, now: Counts, share: float, *, prompts: int, count: int, seed: int
) -> dict[str, object]:
    """What samples of prompts say of the change, beside that of all prompts."""
    whole = ComparisonFacts.of("acceptance_length", Pair.of(before, now), ())
    rng = np.random.default_rng(seed)
    covered, outcomes, detectable = 0, Counter[str](), []
    for _ in range(count):
        rows = rng.choice(len(before.prompts), prompts).tolist()
        pair = Pair(before.select(rows), now.select(rows))
        facts = ComparisonFacts.of("acceptance_length", pair, ())
        estimate = facts.estimate("in the same contexts")
        low, high = estimate.interval
        covered += low <= whole.drop <= high
        outcome, _, _ = decided(facts, estimate, MARGIN, ALPHA / GATES / 2)
        outcomes[outcome] += 1
        smallest = smallest_bounded_drop(facts, 0.0, ALPHA / GATES / 2)
        detectable.append(np.inf if smallest is None else smallest)
    return {
        "prompts": prompts,
        "draws": count,
        "truth": whole.drop,
        "error": whole.error,
        "coverage": covered / count,
        "outcomes": dict(outcomes),
        "detectable": float(np.median(detectable)),
        "effective": share,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=5000)
    parser.add_argument("--draws", type=int, default=300, help="of each change and sample size")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1, help="of noise, of each change")
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    given = parser.parse_args()
    pair = ModelPair.load()
    texts = sampled_texts(pair, given.prompts, given.temperature)
    old, logprobs = measured(pair, texts, given.temperature)
    source = None if given.temperature == 0 else logprobs
    for kind in given.kinds:
        for seed in range(given.seeds):
            began = time.perf_counter()
            with changed(pair.target, CHANGES[kind], seed):
                new, _ = measured(pair, texts, given.temperature, source)
            for size in SAMPLES:
                row = draws(
                    old.counts,
                    new.counts,
                    new.effective_share,
                    prompts=size,
                    count=given.draws,
                    seed=seed,
                )
                seconds = round(time.perf_counter() - began, 1)
                temperature = given.temperature
                row = {"change": kind, "seed": seed, "temperature": temperature, **row}
                print(json.dumps({**row, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
