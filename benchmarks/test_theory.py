"""Theoretical speed-up beside the wall clock of decode: length * T_target / (T_verify + T_draft) against tokens per second.

    pytest benchmarks/test_theory.py

Costs are medians of the decoder's own rounds in a steady state; the length is replayed on the texts that decode
emitted; the wall clock is that of whole calls of `decode` at batch size 1, prompt passes and cut-off last rounds
included, over plain decoding with the same loop. All take turns, so that a slow moment of the machine meets them all.
"""

from __future__ import annotations

import collections
import itertools
import statistics
import time

import pytest
from embedded import Pair

from pytest_specdec import CostProfile, decode, replay, theoretical_speedup
from pytest_specdec.acceptance.case import OWN_HEADS
from pytest_specdec.acceptance.texts import Text
from pytest_specdec.decoding.timing import Setting, measure_costs

KS, DEPTHS = (2, 4, 8), (0, 3)
NEW, PROMPTS = 256, 20
AGREES = 0.10
PLAIN = ("plain", 0, 0)
CELLS = [*itertools.product(["draft"], DEPTHS, KS), *((OWN_HEADS, 3, k) for k in KS)]


def test_predicted_and_measured_speedups_agree(pair: Pair, benchmark, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = iter(pair.prompts[:: len(pair.prompts) // PROMPTS])
    drafters = {"plain": None, "draft": pair.draft, OWN_HEADS: OWN_HEADS}
    seconds = collections.Counter[tuple[str, int, int]]()
    texts = collections.defaultdict[tuple[str, int, int], list[Text]](list)
    costs: list[CostProfile] = []

    def turn() -> None:
        costs.append(measure_costs(pair.target, pair.draft, ks=KS, depths=DEPTHS, setting=Setting(context=128), repeats=8))
        prompt = next(prompts)
        for cell in (PLAIN, *CELLS):
            name, depth, k = cell
            begun = time.perf_counter()
            decoded = decode(pair.target, drafters[name], [prompt], k=k, depth=depth, new_tokens=NEW)
            seconds[cell] += time.perf_counter() - begun
            texts[cell] += decoded.texts

    benchmark.pedantic(turn, rounds=PROMPTS, warmup_rounds=0)
    target_ms = statistics.mean(one.target_ms or 0 for one in costs)
    apart = {}
    with capsys.disabled():
        print("\n| drafter | depth | k | length | predicted | measured | apart |\n|---|---|---|---|---|---|---|")
        for cell in CELLS:
            name, depth, k = cell
            length = replay(pair.target, drafters[name], texts[cell], k=k, depth=depth).acceptance_length
            verify_ms = statistics.mean(one.verify_ms(k) for one in costs)
            draft_ms = statistics.mean(one.draft_ms(k, depth, own_heads=name == OWN_HEADS) for one in costs)
            predicted = theoretical_speedup(length, target_ms=target_ms, verify_ms=verify_ms, draft_ms=draft_ms)
            measured = seconds[PLAIN] / seconds[cell]
            apart[cell] = measured / predicted - 1
            print(f"| {name} | {depth} | {k} | {length:.3f} | {predicted:.3f} | {measured:.3f} | {apart[cell]:+.1%} |")
    benchmark.extra_info["apart"] = {" ".join(map(str, cell)): round(value, 3) for cell, value in apart.items()}
    assert all(abs(value) <= AGREES for value in apart.values())
