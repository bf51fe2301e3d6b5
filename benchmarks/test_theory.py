"""Theoretical speed-up beside the wall clock of decode: length * T_target / (T_verify + T_draft)
against tokens per second.

    pytest benchmarks/test_theory.py

The length is replayed on the texts that decode emitted. Costs come twice: the cost profile's
(medians of rounds in a steady state, measured between the decodes), and the means of the very
rounds that the wall clock saw, which a busy machine moves along with it. The wall clock is that of
whole calls of `decode` at batch size 1, prompt passes and cut-off last rounds included, over plain
decoding with the same loop. All take turns.
"""

from __future__ import annotations

import collections
import itertools
import statistics
import time

import pytest
from helpers.embedded import Pair

from pytest_specdec import CostProfile, decode, replay, theoretical_speedup
from pytest_specdec.cases.case import OWN_HEADS
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.timing import Setting, measure_costs

KS, DEPTHS = (2, 4, 8), (0, 3)
NEW, PROMPTS = 256, 20
SAME_ROUNDS, STEADY = 0.10, 0.25
"""How far the wall clock may lie from the formula with the costs of the same rounds, and with the
profile's.
"""
PLAIN = ("plain", 0, 0)
CELLS = [*itertools.product(["draft"], DEPTHS, KS), *((OWN_HEADS, 3, k) for k in KS)]


def test_predicted_and_measured_speedups_agree(
    pair: Pair, benchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = iter(pair.prompts[:: len(pair.prompts) // PROMPTS])
    drafters = {"plain": None, "draft": pair.draft, OWN_HEADS: OWN_HEADS}
    seconds = collections.Counter[tuple[str, int, int]]()
    draft_ms = collections.defaultdict[tuple[str, int, int], list[float]](list)
    verify_ms = collections.defaultdict[tuple[str, int, int], list[float]](list)
    texts = collections.defaultdict[tuple[str, int, int], list[Text]](list)
    costs: list[CostProfile] = []

    def turn() -> None:
        costs.append(
            measure_costs(
                pair.target,
                pair.draft,
                ks=KS,
                depths=DEPTHS,
                setting=Setting(context=128),
                repeats=8,
            )
        )
        prompt = next(prompts)
        for cell in (PLAIN, *CELLS):
            name, depth, k = cell
            begun = time.perf_counter()
            decoded = decode(
                pair.target, drafters[name], [prompt], k=k, depth=depth, new_tokens=NEW
            )
            seconds[cell] += time.perf_counter() - begun
            texts[cell] += decoded.texts
            draft_ms[cell] += decoded.draft_ms
            verify_ms[cell] += decoded.verify_ms

    benchmark.pedantic(turn, rounds=PROMPTS, warmup_rounds=0)
    apart: dict[str, tuple[float, float]] = {}
    with capsys.disabled():
        print(
            "\n| drafter | depth | k | length | profile | same rounds | wall clock | apart | apart "
            "|\n|" + "---|" * 9
        )
        for cell in CELLS:
            name, depth, k = cell
            length = replay(
                pair.target, drafters[name], texts[cell], k=k, depth=depth
            ).acceptance_length
            steady = statistics.mean(
                theoretical_speedup(
                    length,
                    target_ms=one.target_ms or 0,
                    verify_ms=one.verify_ms(k),
                    draft_ms=one.draft_ms(k, depth, drafter=name),
                )
                for one in costs
            )
            same = theoretical_speedup(
                length,
                target_ms=statistics.mean(verify_ms[PLAIN]),
                verify_ms=statistics.mean(verify_ms[cell]),
                draft_ms=statistics.mean(draft_ms[cell]),
            )
            wall = seconds[PLAIN] / seconds[cell]
            apart[" ".join(map(str, cell))] = wall / steady - 1, wall / same - 1
            print(
                f"| {name} | {depth} | {k} | {length:.3f} | {steady:.3f} | {same:.3f} | {wall:.3f} "
                f"| {wall / steady - 1:+.1%} | {wall / same - 1:+.1%} |"
            )
    benchmark.extra_info["apart"] = apart
    assert all(abs(own) <= STEADY and abs(rounds) <= SAME_ROUNDS for own, rounds in apart.values())
