"""--specdec-speech, specdec_speech and the reports that can be heard."""

from __future__ import annotations

import io
import json
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
    result.stdout.fnmatch_lines(
        ["ERROR: no test made an utterance for the .wav report; select one *"]
    )
    assert not (project.pytester.path / "out.wav").exists()
    assert len(project.baselines) == 5


def test_the_command_line_wins_over_the_marker(voice) -> None:
    voice.run("--specdec-speech=voice:mute", "-k", "sound", ok=False).stdout.fnmatch_lines(
        ["*return (rate, samples)*"]
    )
    result = voice.run("--specdec-speech=voice:nobody", "-k", "sound", ok=False)
    result.stdout.fnmatch_lines(
        ["*--specdec-speech=voice:nobody: * name module:function as Python imports it*"]
    )


def test_without_a_decoder_the_fixture_says_how_to_name_one(project) -> None:
    project.write_test(TEST.replace(', speech="voice:speak"', ""))
    project.run("-k", "sound", ok=False).stdout.fnmatch_lines(
        ["*names no speech decoder; set speech='module:function'*"]
    )


def test_the_ini_file_may_name_the_decoder(project) -> None:
    project.write_test(TEST.replace(', speech="voice:speak"', ""))
    project.pytester.makepyfile(voice=VOICE)
    project.pytester.makeini("[pytest]\nspecdec_speech = voice:speak\n")
    project.run("-k", "sound", ok=True)


def test_the_utterance_is_the_first_text_whole_and_made_once(voice) -> None:
    heard = """
calls = []

def speak(ids):
    calls.append(tuple(ids))
    assert len(calls) == 1
    return 8000, [token / 64 for token in ids]
"""
    voice.pytester.makepyfile(voice=heard)
    voice.create("-k", "acceptance")
    text = json.loads(voice.baselines["letters/texts/t1-n24-s0.json"])["texts"]
    voice.write_test(TEST.replace("len(specdec_speech.ids) * 10", "len(specdec_speech.ids)"))
    voice.run("--specdec-report=out.wav", "--specdec-report=out.html", ok=True)
    _, samples = wavfile.read(io.BytesIO((voice.pytester.path / "out.wav").read_bytes()))
    ids = [round(sample / 32767 * 64) for sample in samples]
    assert ids[0] == 0  # <s>
    assert tuple(ids[-24:]) in {tuple(new) for new in text.values()}
    assert len(ids) == 1 + len("apple") + 24


def test_two_decoders_of_one_case_are_both_heard(voice) -> None:
    second = """

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, depth=0, new_tokens=24, speech="voice:whisper")
def test_whisper(specdec_speech):
    assert specdec_speech.rate == 4000
"""
    voice.write_test(TEST + second)
    voice.pytester.makepyfile(voice=VOICE + "\n\ndef whisper(ids):\n    return 4000, [0.0] * 99\n")
    voice.run("-k", "sound or whisper", ok=True).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--specdec-k=40",), "no text is long enough"),
        (("--specdec-judged=0:32:2",), "the texts are no steps of 2 tokens"),
    ],
)
def test_a_case_that_is_heard_and_cannot_be_measured_is_an_error_in_the_report(
    voice, arguments: tuple[str, ...], reason: str
) -> None:
    result = voice.run(
        "-k", "sound", "--specdec-report=out.wav", "--specdec-report=out.json", *arguments
    )
    result.assert_outcomes(passed=1, deselected=1)
    assert (voice.pytester.path / "out.wav").read_bytes()[:4] == b"RIFF"
    (row,) = json.loads((voice.pytester.path / "out.json").read_text())["cases"]
    assert row["verdict"] == "error"
    assert reason in row["reason"]


def test_sound_that_nobody_judges_is_not_judged(voice) -> None:
    (row,) = voice.report("-k", "sound")
    assert (row["verdict"], row["samples"]["count"]) == ("not judged", 12)
    assert "utterance" not in row


def test_a_decoders_own_error_is_shown_where_it_happened(voice) -> None:
    voice.pytester.makepyfile(voice="def speak(ids):\n    return codebook[ids]\n")
    voice.run("-k", "sound", ok=False).stdout.fnmatch_lines(
        ["*return codebook*", "*NameError*codebook*"]
    )


@pytest.mark.parametrize("value", ["voice", "voice.py", "voice:", ":speak", "voice:speak()"])
def test_what_names_no_function_is_refused(project, value: str) -> None:
    result = project.run(f"--specdec-speech={value}", ok=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "does not name a function; write module:function" in result.stderr.str()


def test_a_bad_decoder_in_a_marker_is_named_with_its_test(project) -> None:
    project.write_test(TEST.replace("voice:speak", "voice"))
    project.run(ok=False).stderr.fnmatch_lines(
        ["*test_letters.py::TestVoice::*: speech='voice': *does not name a function*"]
    )
