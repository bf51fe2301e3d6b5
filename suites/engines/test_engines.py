"""A real engine on the embedded pair: its counts beside what the models imply, and its texts beside the target.

`pytest --specdec-engine=transformers suites/engines/`; served engines with their `--specdec-url`. No baseline is needed.
The engine runs the models of `suites/models`, converted where it needs another format, with 3 draft tokens a round.
"""

import pytest

PAIR = {"target": "../models/text-target", "drafter": "../models/text-draft", "depth": 0, "new_tokens": 64}


@pytest.mark.specdec(k=3, temperature=0, **PAIR)
class TestGreedy:
    """Nothing is random: every round is compared."""

    def test_rounds_are_those_of_the_models(self, specdec_oracle):
        assert specdec_oracle.agrees, specdec_oracle.message

    def test_texts_are_the_targets(self, specdec_conformance):
        assert specdec_conformance.conforms, specdec_conformance.message

    def test_counts_are_a_measurement(self, specdec_run):
        assert specdec_run.acceptance_length > 1.5


@pytest.mark.specdec(k=3, temperature=1.0, **PAIR)
class TestSampling:
    """Counts are judged by their exact mean and variance given the texts."""

    def test_counts_are_those_of_the_models(self, specdec_oracle):
        assert specdec_oracle.agrees, specdec_oracle.message

    def test_texts_are_the_targets(self, specdec_conformance):
        assert specdec_conformance.conforms, specdec_conformance.message


@pytest.fixture
def in_transformers(specdec_case):
    if specdec_case.engine not in ("transformers", "decode"):
        pytest.skip(f"{specdec_case.engine} drafts here with a draft model only; use --specdec-engine=transformers")


@pytest.mark.usefixtures("in_transformers")
@pytest.mark.specdec(**(PAIR | {"drafter": "mtp", "depth": 3}), k=3)
class TestOwnHeads:
    """The target's own MTP heads."""

    @pytest.mark.specdec(temperature=0)
    def test_greedy(self, specdec_oracle, specdec_conformance):
        assert specdec_oracle.agrees, specdec_oracle.message
        assert specdec_conformance.conforms, specdec_conformance.message

    @pytest.mark.specdec(temperature=1.0)
    def test_sampling(self, specdec_oracle, specdec_conformance):
        assert specdec_oracle.agrees, specdec_oracle.message
        assert specdec_conformance.conforms, specdec_conformance.message


@pytest.mark.usefixtures("in_transformers")
@pytest.mark.specdec(**(PAIR | {"drafter": "prompt-lookup"}), k=3, temperature=0)
def test_prompt_lookup(specdec_oracle, specdec_conformance):
    assert specdec_oracle.agrees, specdec_oracle.message
    assert specdec_conformance.conforms, specdec_conformance.message
