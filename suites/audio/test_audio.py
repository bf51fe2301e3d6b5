"""The embedded audio pair, gated: acceptance of audio tokens, each 40 ms of speech, against
`baselines/audio/`.

The acceptance report of the published suite, from these models and in either language:

    pytest --specdec-k=4,8,12,16 suites/audio/ --specdec-prompts=1000 \\
        --specdec-report=audio.txt --specdec-report=audio.html

Its samples are one round from each prompt's own context; 64 prompts are the daily gate's.
"""

import pytest

from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.lossless import conformance
from suites.models.codec import speech_like

PAIR = {
    "target": "../models/audio-target",
    "drafter": "../models/audio-draft",
    "prompts": "prompts.jsonl",
    "prompt_limit": 64,
    "costs": "costs.json",
    "temperature": 1.0,
}
GRID = {"k": [4, 8, 12, 16], "depth": [3]}
AUDIO = "31:287:2"
"""Audio tokens are the ids 31 to 286; of two tokens the second is one."""


@pytest.mark.specdec(judged=AUDIO, **GRID, **PAIR)
class TestAudioTokens:
    """The audio tokens, given the text tokens."""

    def test_acceptance(self, specdec_run, specdec_baseline):
        assert specdec_run == specdec_baseline

    def test_speedup(self, specdec_run, specdec_baseline):
        assert specdec_run.speedup == specdec_baseline.speedup

    def test_the_target_speaks(self, utterance):
        """The .html report shows its utterance; --utterance=FILE.wav writes it."""
        assert speech_like(utterance.samples)


@pytest.mark.specdec(judged=AUDIO, k=[8], depth=[3], **PAIR)
def test_accelerated_speech_is_the_targets(specdec_case, specdec_target, specdec_decode):
    """Whole streams decoded speculatively, text tokens drafted, too, follow the target's
    distribution.
    """
    prompts = [prompt.text for prompt in read_prompts(specdec_case.texts.prompts, 8)]
    result = conformance(specdec_target, specdec_decode(prompts, new_tokens=64).texts, alpha=1e-3)
    assert result.conforms, result.message
