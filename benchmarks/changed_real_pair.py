"""Verdicts on changed weights of a real pretrained pair: SmolLM2-135M-Instruct with a drafter made of
it (`python suites/smollm2/build.py` makes both).

    python benchmarks/changed_real_pair.py exit-20 --prompts 24 --seeds 10

Texts are sampled once by the unchanged target. A session is k = 4 at temperatures 0 and 1: two gates,
margin 1 %, alpha 1 %. Prints one JSON line for each change of the drafter, and of the target in the
same contexts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
from weight_changes import CHANGES, changed

from pytest_specdec.acceptance.contexts import context_counts
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text, texts_of_prompts
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens
from pytest_specdec.gate.changed_drafter import bounded
from pytest_specdec.gate.changed_target import decided
from pytest_specdec.gate.facts import ComparisonFacts
from pytest_specdec.gate.paired import Pair

SUITE = Path(__file__).parent.parent / "suites" / "smollm2"
K, NEW_TOKENS, MARGIN, LEVEL = 4, 32, 0.01, 0.005
CHANGES_MEASURED = ("noise 0.2 %", "noise 0.5 %", "bfloat16", "int8", "noise 4.3 %")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """One pair on given texts."""

    exact: Counts
    judged: Counts
    """Smoothed at temperature 0."""
    contexts: Counts | None
    """None where they were not asked for."""
    logprobs: list[list[float]]


class RealPair:
    """The pair, and texts of its unchanged target."""

    def __init__(self, drafter: str, prompts: int) -> None:
        self.target = load_model(str(SUITE / "models" / "target"), "cpu")
        self.draft = load_model(str(SUITE / "models" / drafter), "cpu")
        read = read_prompts(SUITE / "prompts.jsonl", prompts)
        ids = encode_prompts(self.target.tokenizer, read)
        self.texts: dict[int, tuple[Text, ...]] = {}
        for temperature in (0, 1):
            new = sample_new_tokens(
                self.target,
                ids,
                new_tokens=NEW_TOKENS,
                sampling=Sampling(temperature),
                seed=0,
                keys=[prompt.key for prompt in read],
            )
            self.texts[temperature] = texts_of_prompts(read, ids, new)

    def measure(
        self, temperature: int, *, contexts: bool, source: list[list[float]] | None = None
    ) -> Measured:
        """The pair as it is now; `source` holds the old target's log-probabilities."""
        texts = self.texts[temperature]
        (scores,) = text_scores(
            self.target,
            [DrafterPlan(self.draft, 0, K)],
            texts,
            Sampling(temperature),
            overlaps=contexts,
            source=source if temperature else None,
        )
        rule = "rejection" if temperature else "greedy"
        own = dataclasses.replace(
            scores, target=np.where(np.isfinite(scores.target), scores.target, 0)
        )
        exact = expected_counts(own.field(rule), K)
        limits = np.array([text.prompt_length + NEW_TOKENS for text in texts])
        found = context_counts(scores, rule, K, limits) if contexts else None
        return Measured(
            exact=exact,
            judged=exact if temperature else expected_counts(scores.smoothed_field(), K),
            contexts=None if found is None else found.counts,
            logprobs=[
                np.round(scores.target[row, text.prompt_length : len(text.ids)], 5).tolist()
                for row, text in enumerate(texts)
            ],
        )


def facts(before: Counts, now: Counts) -> ComparisonFacts:
    return ComparisonFacts.of("acceptance_length", Pair.of(before, now), ())


def outcomes(
    pair: RealPair, role: str, before: dict[int, Measured]
) -> tuple[dict[int, str], dict[int, float]]:
    """The verdict and the judged drop at each temperature."""
    words, drops = {}, {}
    for temperature, old in before.items():
        if role == "target":
            now = pair.measure(temperature, contexts=True, source=old.logprobs)
            assert old.contexts is not None
            assert now.contexts is not None
            compared = facts(old.contexts, now.contexts)
            words[temperature], _, _ = decided(compared, compared.estimate(""), MARGIN, LEVEL / 2)
        else:
            compared = facts(old.judged, pair.measure(temperature, contexts=False).judged)
            words[temperature], _ = bounded(compared, MARGIN, LEVEL)
        drops[temperature] = compared.drop
    return words, drops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("drafter", choices=["exit-10", "exit-20", "int8", "int4"])
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--kinds", nargs="*", default=CHANGES_MEASURED, choices=CHANGES)
    parser.add_argument("--roles", nargs="*", default=["drafter", "target"])
    given = parser.parse_args()
    pair = RealPair(given.drafter, given.prompts)
    before = {temperature: pair.measure(temperature, contexts=True) for temperature in (0, 1)}
    for role in given.roles:
        model: LoadedModel = pair.draft if role == "drafter" else pair.target
        for kind in given.kinds:
            began = time.perf_counter()
            seeds = given.seeds if kind.startswith("noise") else 1
            sessions, drops = [], []
            for seed in range(seeds):
                with changed(model, CHANGES[kind], seed):
                    words, lost = outcomes(pair, role, before)
                sessions.append(words)
                drops.append(lost)
            row = {
                "pair": f"SmolLM2 with {given.drafter}",
                "role": role,
                "change": kind,
                "sessions": seeds,
                "prompts": given.prompts,
                "lengths": {t: old.exact.acceptance_length for t, old in before.items()},
                "drops": {t: float(np.mean([lost[t] for lost in drops])) for t in before},
                "spread": {t: float(np.std([lost[t] for lost in drops])) for t in before},
                "outcomes": {t: dict(Counter(words[t] for words in sessions)) for t in before},
                "failed": sum("regressed" in words.values() for words in sessions) / seeds,
                "improved": sum("improved" in words.values() for words in sessions) / seeds,
                "seconds": round(time.perf_counter() - began, 1),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
