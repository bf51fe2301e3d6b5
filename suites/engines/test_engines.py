"""A real engine on the embedded pair: its counts beside what the models imply, and its texts beside
the target.

`pytest --specdec-engine=transformers suites/engines/`; served engines with their `--specdec-url`.
No baseline is needed. Every case is here because some defect of a real engine shows in it and in no
other (docs/conformance.md). A case that the engine cannot run is skipped with its reason.
`--specdec-temperature=0` leaves the greedy cases.
"""

import pytest

PAIR = {
    "target": "../models/text-target",
    "drafter": "../models/text-draft",
    "depth": 0,
    "new_tokens": 64,
}
HEADS = PAIR | {"drafter": "mtp", "depth": 3}
MANY = {"prompts": "../text/prompts.jsonl"}  # 80 prompts


class Engine:
    """What every case asks."""

    def test_counts_are_those_of_the_models(self, specdec_oracle):
        assert specdec_oracle.agrees, specdec_oracle.message

    def test_texts_are_the_targets(self, specdec_conformance):
        assert specdec_conformance.conforms, specdec_conformance.message


@pytest.mark.specdec(k=3, temperature=0, **PAIR)
class TestGreedy(Engine):
    """Nothing is random: every round is compared."""

    def test_counts_are_a_measurement(self, specdec_run):
        assert specdec_run.acceptance_length > 1.5


@pytest.mark.specdec(k=12, temperature=0, **PAIR)
class TestManyDrafts(Engine):
    """Buffers that hold a few drafts only end here."""


@pytest.mark.usefixtures("samples", "specdec_supported")
@pytest.mark.specdec(k=3, temperature=1.0, **PAIR)
class TestSampling(Engine):
    """Counts are judged by their exact distribution given the texts."""


@pytest.mark.usefixtures("samples", "specdec_supported")
@pytest.mark.specdec(k=3, temperature=1.6, top_k=20, **PAIR, **MANY)
class TestTopK(Engine):
    """A q from before temperature and filters shows here; a q that is a tenth off shows in 80
    prompts, not in 20.
    """


@pytest.mark.usefixtures("samples", "specdec_supported")
@pytest.mark.specdec(k=3, temperature=0.8, top_p=0.9, **PAIR)
class TestTopP(Engine):
    """An unfiltered token is outside the nucleus, and a drafter that ignores the settings is worse
    than it could be.
    """


@pytest.mark.usefixtures("specdec_supported")
@pytest.mark.specdec(k=3, temperature=0, **HEADS)
class TestOwnHeads(Engine):
    """The target's own MTP heads."""


@pytest.mark.usefixtures("specdec_supported")
@pytest.mark.specdec(k=8, temperature=0, **(HEADS | {"depth": 1}))
class TestReusedHeads(Engine):
    """More drafts than heads: the last one is used again, on its own states."""


@pytest.mark.usefixtures("samples", "specdec_supported")
@pytest.mark.specdec(k=3, temperature=1.0, **HEADS)
class TestOwnHeadsSampling(Engine):
    """The same heads, drawn from."""


@pytest.mark.usefixtures("specdec_supported")
@pytest.mark.specdec(k=3, temperature=0, **(PAIR | {"drafter": "prompt-lookup"}))
class TestPromptLookup(Engine):
    """Drafts are copied from the text itself."""
