"""A target that people use, SmolLM2-135M-Instruct, with drafters that need no training.

`build.py` makes the checkpoints. No baselines are stored with them: create yours by

    pytest suites/smollm2 --specdec-update=new

There are 96 chat prompts in eight interleaved categories (instructions, code, json, summary,
dialogue, arithmetic, translation, rewrite), so `--specdec-prompts=24` takes three of each.
"""

import pytest

PAIR = {"target": "models/target", "prompts": "prompts.jsonl", "new_tokens": 64}


@pytest.mark.specdec(drafter="models/int4", k=[4, 8], temperature=1.0, **PAIR)
def test_weights_of_four_bits(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="models/int4", k=[4, 8], temperature=0, **PAIR)
def test_weights_of_four_bits_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="models/exit-20", k=[2, 4], temperature=1.0, **PAIR)
def test_early_exit(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="models/exit-20", k=[2, 4], temperature=0, **PAIR)
def test_early_exit_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="prompt-lookup", k=[4], temperature=0, **PAIR)
def test_prompt_lookup(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
