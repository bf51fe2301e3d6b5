"""Run by test_memory.py in a process of its own: prints the peak memory of replay from hidden states
above the models in MiB, and the MiB of states in the folder.

    python benchmarks/states_memory.py SCRATCH STORED REPLAYED

STORED texts of 256 tokens lie in the folder, and the first REPLAYED of them are replayed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from memory import model, watched
from safetensors.torch import save_file

from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.drafter import PromptLookupSpec
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.decoding.loading import load_outer_parts
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.stored_states import StoredStates
from pytest_specdec.decoding.target_passes import StoredPasses

VOCABULARY, LENGTH, PROMPT, WIDTH, LAYERS = 8_000, 256, 64, 512, 4


def write(folder: Path, count: int) -> list[list[int]]:
    """Random texts and states, in files of vLLM's extraction."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    texts = []
    for number in range(count):
        ids = torch.randint(0, VOCABULARY, (LENGTH,), generator=generator)
        states = torch.randn(LENGTH, LAYERS, WIDTH, generator=generator).bfloat16()
        save_file({"token_ids": ids, "hidden_states": states}, folder / f"hs_{number}.safetensors")
        texts.append(ids.tolist())
    return texts


def replay(model: str, folder: Path, chosen: Sequence[Sequence[int]]) -> None:
    states = StoredStates(folder)
    states.texts_after([ids[:PROMPT] for ids in chosen])
    outer = load_outer_parts(model, "cpu")
    (scores,) = text_scores(
        outer,
        [DrafterPlan(PromptLookupSpec(), 0, 4)],
        texts_from_ids(chosen, [PROMPT] * len(chosen)),
        Sampling(1.0),
        passes=StoredPasses(outer, states),
    )
    expected_counts(scores.field("rejection"), 4)


def main() -> None:
    scratch, stored, replayed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    target = model(
        scratch / "target", 0, vocabulary=VOCABULARY, width=WIDTH, heads=4, length=LENGTH
    )
    ids = write(scratch / "states", stored)
    replay(target, scratch / "states", ids[:2])  # what torch keeps from its first pass on
    with watched() as peak:
        replay(target, scratch / "states", ids[:replayed])
    print(peak[0] / 2**20, stored * LENGTH * LAYERS * WIDTH * 2 / 2**20)


if __name__ == "__main__":
    main()
