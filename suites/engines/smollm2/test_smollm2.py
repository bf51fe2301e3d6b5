"""A real engine on SmolLM2-135M-Instruct, with its own first 20 of 30 layers, prompt lookup, the
trained EAGLE-3 head, or fitted MTP layers as the drafter.

`make engines-smollm2` makes the checkpoints and each engine's form of them, asks every engine, and
writes what it finds into docs/real-model.md. The prompts are the first three of each category.
"""

from pathlib import Path

import pytest

TARGET = {
    "target": "../../smollm2/models/target",
    "depth": 0,
    "new_tokens": 64,
    "prompts": "../../smollm2/prompts.jsonl",
    "prompt_limit": 24,
}
EARLY_EXIT = {"drafter": "../../smollm2/models/exit-20", "k": 3, **TARGET}
EAGLE3 = {"drafter": "../../smollm2/models/eagle3", "k": 3, **TARGET}
MTP = {**TARGET, "drafter": "mtp", "k": 3, "depth": 3, "target": "../../smollm2/models/mtp"}


class Engine:
    """What every case asks; the numbers go through pytest's JUnit file into the page."""

    def test_counts_are_those_of_the_models(self, specdec_run, specdec_oracle, record_property):
        found, counts = specdec_oracle, specdec_run.counts
        texts = specdec_run.measured.runs[0].text_fingerprints
        for name, value in {
            "version": specdec_run.measured.environment.engine,
            "drafter": Path(specdec_run.case.draft_model or specdec_run.case.drafter_name).name,
            "k": specdec_run.case.k,
            "temperature": specdec_run.case.temperature,
            "rounds": round(counts.total_rounds),
            "drafted": round(counts.drafted.sum()),
            "accepted": round(counts.accepted.sum()),
            "texts": " ".join(f"{key}:{text}" for key, text in sorted(texts.items())),
            "agrees": found.agrees,
            "exact": found.exact,
            "ties": found.ties,
            "z": f"{found.z:+.2f}",
        }.items():
            record_property(name, value)
        assert found.agrees, found.message

    def test_texts_are_the_targets(self, specdec_conformance, record_property):
        found = specdec_conformance
        for name, value in {
            "conforms": found.conforms,
            "tokens": found.tokens,
            "ties": found.ties,
            "z": f"{found.z:+.2f}",
        }.items():
            record_property(name, value)
        assert found.conforms, found.message


@pytest.mark.usefixtures("specdec_supported")
@pytest.mark.specdec(temperature=0, **EARLY_EXIT)
class TestGreedy(Engine):
    """Every round is compared, in 30 layers with tied embeddings and grouped heads."""


@pytest.mark.usefixtures("samples", "specdec_supported")
@pytest.mark.specdec(temperature=1.0, **EARLY_EXIT)
class TestSampling(Engine):
    """Draws from 49,152 tokens, most of them improbable."""


@pytest.mark.usefixtures("specdec_supported")
@pytest.mark.specdec(drafter="prompt-lookup", k=3, temperature=0, **TARGET)
class TestPromptLookup(Engine):
    """Drafts are copied from the prompt and the answer."""


@pytest.mark.usefixtures("specdec_supported")
@pytest.mark.specdec(temperature=0, **EAGLE3)
class TestEagle3Greedy(Engine):
    """The trained head, on engines that draft with such heads."""


@pytest.mark.usefixtures("samples", "specdec_supported")
@pytest.mark.specdec(temperature=1.0, **EAGLE3)
class TestEagle3Sampling(Engine):
    """Its q is 0 for two tokens of three."""


@pytest.mark.usefixtures("specdec_supported")
@pytest.mark.specdec(temperature=0, **MTP)
class TestMtpGreedy(Engine):
    """The fitted layers, on engines that draft with a target's own."""


@pytest.mark.usefixtures("samples", "specdec_supported")
@pytest.mark.specdec(temperature=1.0, **MTP)
class TestMtpSampling(Engine):
    """Each draft is drawn by another layer."""
