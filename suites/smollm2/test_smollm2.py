"""A target that people use, SmolLM2-135M-Instruct, with a head that was trained for it.

`make smollm2` makes the checkpoints and gates them against `baselines/smollm2/`. There are 96 chat
prompts, of instructions, code, JSON, summary, dialogue, arithmetic, translation and rewriting in
turn, so `--specdec-prompts=24` takes three of each. Costs are of bfloat16.
"""

import pytest

TEXTS = {"prompts": "prompts.jsonl", "new_tokens": 64}
PAIR = {"target": "models/target", "costs": "costs.json", **TEXTS}
K = [1, 2, 3, 4, 6, 8]
EAGLE3 = {"drafter": "models/eagle3", "k": K, **PAIR}
"""One layer that reads the target's states, with a vocabulary of 16,384 tokens of 49,152."""
MTP = {"target": "models/mtp", "drafter": "mtp", "k": [1, 2, 3], "depth": 3, **TEXTS}
"""Three layers, fitted to the target's texts by least squares."""


@pytest.mark.specdec(temperature=0, **EAGLE3)
def test_eagle3_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(temperature=0.7, **EAGLE3)
def test_eagle3_at_temperature_0_7(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(temperature=1.0, **EAGLE3)
def test_eagle3(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="models/exit-20", k=[2, 4], temperature=1.0, **PAIR)
def test_early_exit(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="models/exit-20", k=[2, 4], temperature=0, **PAIR)
def test_early_exit_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(temperature=0, **MTP)
def test_mtp_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(temperature=1.0, **MTP)
def test_mtp(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="prompt-lookup", k=[2, 4, 8], temperature=0, **PAIR)
def test_prompt_lookup(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
