"""The embedded EAGLE-3 head on engines that draft with such heads; the others skip these cases with
the reason.

A folder of its own, so that its cases do not share names with those of the folder above.
"""

import pytest

PAIR = {
    "target": "../../models/text-target",
    "drafter": "../../models/text-eagle3",
    "depth": 0,
    "new_tokens": 64,
    "prompts": "../prompts.jsonl",
}


class Engine:
    """What every case asks."""

    def test_counts_are_those_of_the_models(self, specdec_oracle):
        assert specdec_oracle.agrees, specdec_oracle.message

    def test_texts_are_the_targets(self, specdec_conformance):
        assert specdec_conformance.conforms, specdec_conformance.message


@pytest.mark.usefixtures("specdec_supported")
@pytest.mark.specdec(k=4, temperature=0, **PAIR)
class TestGreedy(Engine):
    """Wrong states of the target show from the first draft on, wrong states of the head's own from
    the second.
    """


@pytest.mark.usefixtures("specdec_supported")
@pytest.mark.specdec(k=2, temperature=0, **PAIR)
class TestFewDrafts(Engine):
    """More rounds, and so more rejected drafts whose keys must go."""


@pytest.mark.usefixtures("samples", "specdec_supported")
@pytest.mark.specdec(k=4, temperature=1.0, **PAIR)
class TestSampling(Engine):
    """The head's q is 0 for tokens that it cannot draft."""
