"""--specdec-speech, specdec_speech and the reports that can be heard."""

from __future__ import annotations

import io
from typing import Any

import pytest
from scipy.io import wavfile

TEST = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, depth=0, new_tokens=24, speech="voice:speak")
class TestVoice:
    def test_acceptance(self, specdec_run, specdec_baseline):
        assert specdec_run == specdec_baseline

    def test_sound(self, specdec_speech):
        assert specdec_speech.rate == 8000
        assert len(specdec_speech.samples) == len(specdec_speech.ids) * 10
        assert specdec_speech.text.startswith("<s>")
"""
VOICE = """
def speak(ids):
    return 8000, [(token / 64) for token in ids for _ in range(10)]

def mute(ids):
    return 8000, []
"""


@pytest.fixture
def voice(project) -> Any:
    project.write_test(TEST)
    project.pytester.makepyfile(voice=VOICE)
    return project


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_an_utterance_reaches_the_reports(voice, workers: str) -> None:
    voice.create(workers, "--specdec-report=out.wav", "--specdec-report=out.html")
    rate, samples = wavfile.read(io.BytesIO((voice.pytester.path / "out.wav").read_bytes()))
    assert rate == 8000
    assert len(samples) % 10 == 0
    assert "data:audio/wav;base64," in (voice.pytester.path / "out.html").read_text()


def test_a_wav_report_without_an_utterance_is_a_message_and_costs_no_baseline(project) -> None:
    result = project.run("--specdec-update=new", "--specdec-report=out.wav", ok=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["ERROR: no test made an utterance for the .wav report; select one *"])
    assert not (project.pytester.path / "out.wav").exists()
    assert len(project.baselines) == 5


def test_the_command_line_wins_over_the_marker(voice) -> None:
    voice.run("--specdec-speech=voice:mute", "-k", "sound", ok=False).stdout.fnmatch_lines(["*return (rate, samples)*"])
    result = voice.run("--specdec-speech=voice:nobody", "-k", "sound", ok=False)
    result.stdout.fnmatch_lines(["*--specdec-speech=voice:nobody: * name module:function as Python imports it*"])


def test_without_a_decoder_the_fixture_says_how_to_name_one(project) -> None:
    project.write_test(TEST.replace(', speech="voice:speak"', ""))
    project.run("-k", "sound", ok=False).stdout.fnmatch_lines(["*names no speech decoder; set speech='module:function'*"])
