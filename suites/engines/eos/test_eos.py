"""Texts that end before the length limit: the target is the embedded one, and its EOS token is the
full stop.

A folder of its own, so that its cases do not share names with those of the folder above.
"""

import pytest

PAIR = {
    "target": "../../models/text-target-eos",
    "drafter": "../../models/text-draft",
    "depth": 0,
    "new_tokens": 64,
}
PROMPTS = {"prompts": "../prompts.jsonl"}


class Ending:
    """What every case asks."""

    def test_counts_are_those_of_the_models(self, specdec_oracle):
        assert specdec_oracle.agrees, specdec_oracle.message

    def test_texts_are_the_targets(self, specdec_conformance):
        assert specdec_conformance.conforms, specdec_conformance.message

    def test_texts_end_by_eos(self, specdec_conformance, specdec_case):
        limit = specdec_conformance.texts * specdec_case.texts.new_tokens
        assert specdec_conformance.tokens < 0.7 * limit, (
            "most texts run to the length limit: does the engine stop at EOS?"
        )

    def test_output_is_right(self, specdec_output):
        assert specdec_output.right, specdec_output.message


@pytest.mark.specdec(k=3, temperature=0, **PAIR, **PROMPTS)
class TestGreedy(Ending):
    """Drafts go past the text's end."""


@pytest.mark.usefixtures("samples", "specdec_supported")
@pytest.mark.specdec(k=3, temperature=1.0, **PAIR, **PROMPTS)
class TestSampling(Ending):
    """Which texts end, and where, is drawn."""
