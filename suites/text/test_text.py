"""The embedded text pair, gated: acceptance and theoretical speed-up against `baselines/text/`.

Point it at another pair with `--specdec-target=... --specdec-draft=...`; choose cells with
`--specdec-k` and `--specdec-depth`, or with `-m "k8 and depth3"`.
"""

import pytest

PAIR = {"target": "../models/text-target", "prompts": "prompts.jsonl", "costs": "costs.json"}
HEAD = {
    "target": PAIR["target"],
    "prompts": PAIR["prompts"],
    "k": [1, 2, 3, 4, 5, 6, 7, 8],
    "depth": [0],
}
"""An EAGLE-3 head, without the costs of the draft model."""
GRID = {"k": [4, 8, 12, 16], "depth": [0, 1, 2, 3]}


@pytest.mark.specdec(drafter="../models/text-draft", temperature=1.0, **GRID, **PAIR)
class TestDraftModel:
    """The draft model alone (depth 0) and with its own MTP heads, sampling."""

    def test_acceptance(self, specdec_run, specdec_baseline):
        assert specdec_run == specdec_baseline

    def test_speedup(self, specdec_run, specdec_baseline):
        assert specdec_run.speedup == specdec_baseline.speedup


@pytest.mark.specdec(drafter="../models/text-draft", temperature=0, **GRID, **PAIR)
def test_draft_model_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="mtp", temperature=1.0, k=[1, 2, 3, 4, 8, 12, 16], depth=[3], **PAIR)
def test_own_heads(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="../models/text-eagle3", temperature=1.0, **HEAD)
def test_eagle3_head(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="../models/text-eagle3", temperature=0, **HEAD)
def test_eagle3_head_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(
    drafter="../models/text-draft", temperature=1.0, k=GRID["k"], depth=[0], **PAIR
)
def test_texts_are_the_targets(specdec_conformance):
    """What the engine emits, judged from the text alone: replay's texts, or with
    --specdec-engine=decode speculative ones.
    """
    assert specdec_conformance.conforms, specdec_conformance.message


@pytest.mark.specdec(drafter="../models/text-draft", temperature=0, k=GRID["k"], depth=[0], **PAIR)
def test_greedy_texts_are_the_targets(specdec_conformance):
    assert specdec_conformance.conforms, specdec_conformance.message
