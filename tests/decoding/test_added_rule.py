"""A verification rule from another package, written as docs/add-a-verification-rule.md says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.packages import example, installed
from helpers.support import LETTERS, add_noise

import pytest_specdec
from pytest_specdec.cases.rules import (
    LOSSY_RULES,
    RULES,
    VERIFICATION_RULES,
    checked_rule,
    is_lossy,
    known_rule,
)
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.verification import rule_named
from pytest_specdec.lossless import assert_lossless
from pytest_specdec.lossless.samplers.verifiers import of_rule

SOURCE = example("add-a-verification-rule.md")
PROMPTS = [[0, 2, 3, 4], [0, 5, 6], [0, 7, 8, 9, 10], [0, 11]]


@pytest.fixture
def half(tmp_path: Path) -> Iterator[None]:
    with installed(
        tmp_path / "site", "half", SOURCE, {VERIFICATION_RULES.group: "half = half:RULE"}
    ):
        yield


def variant(tmp_path: Path, before: str, after: str):
    """The example with one change."""
    assert before in SOURCE
    source = SOURCE.replace(before, after)
    return installed(
        tmp_path / "site", "half", source, {VERIFICATION_RULES.group: "half = half:RULE"}
    )


@pytest.mark.usefixtures("half")
def test_it_is_found_by_its_name() -> None:
    assert rule_named("half").lossless
    assert checked_rule("half", 1.0) == "half"
    assert not is_lossy("half")


@pytest.mark.usefixtures("half")
def test_it_is_lossless() -> None:
    assert_lossless(of_rule("half"), vocab_size=3, k=2, method="exact", max_examples=20)


@pytest.mark.usefixtures("half")
def test_replay_expects_what_decode_counts(tiny_target: Path, tiny_draft: Path) -> None:
    target, draft = str(tiny_target), str(tiny_draft)
    decoded = decode(target, draft, PROMPTS * 50, k=3, new_tokens=40, batch_size=200, rule="half")
    counts = pytest_specdec.replay(target, draft, decoded.texts, k=3, rule="half")
    standard = pytest_specdec.replay(target, draft, decoded.texts, k=3)
    difference = decoded.counts.acceptance_length - counts.acceptance_length
    assert abs(difference) < 3 * decoded.counts.standard_error
    first = counts.conditional[0] / standard.conditional[0]
    assert 0.4 < first < 0.6


def test_without_a_formula_replay_refuses_it(
    tmp_path: Path, tiny_target: Path, tiny_draft: Path
) -> None:
    target, draft = str(tiny_target), str(tiny_draft)
    with variant(tmp_path, ", accepted=accepted)", ")"):
        texts = decode(target, draft, PROMPTS, k=3, new_tokens=20, rule="half").texts
        with pytest.raises(RequestError, match="does not say with what probability"):
            pytest_specdec.replay(target, draft, texts, k=3, rule="half")


def test_a_formula_that_gives_no_probability_is_refused(
    tmp_path: Path, tiny_target: Path, tiny_draft: Path
) -> None:
    target, draft = str(tiny_target), str(tiny_draft)
    with variant(tmp_path, "/ 2\n\n\nRULE", "* 2\n\n\nRULE"):
        texts = decode(target, draft, PROMPTS, k=3, new_tokens=20, rule="half").texts
        with pytest.raises(MeasurementError, match="probability outside 0 to 1"):
            pytest_specdec.replay(target, draft, texts, k=3, rule="half")


def test_a_lossy_one_is_labelled_and_not_replayed(
    tmp_path: Path, tiny_target: Path, tiny_draft: Path
) -> None:
    with variant(tmp_path, "lossless=True", "lossless=False"):
        assert is_lossy("half")
        texts = pytest_specdec.texts_from_ids([[0, *range(2, 20)]], [3])
        with pytest.raises(RequestError, match="rule 'half' is lossy"):
            pytest_specdec.replay(str(tiny_target), str(tiny_draft), texts, k=3, rule="half")


def test_an_entry_point_that_is_no_rule_is_refused(tmp_path: Path) -> None:
    with (
        installed(
            tmp_path / "site", "half", SOURCE, {VERIFICATION_RULES.group: "other = half:RULE"}
        ),
        pytest.raises(RequestError, match="is not a Rule named 'other'"),
    ):
        rule_named("other")


def test_an_unknown_rule_is_refused_with_the_added_ones_listed(half: None) -> None:
    with pytest.raises(RequestError, match=r"choose among rejection, .*, typical, half"):
        rule_named("best")


def test_nothing_is_read_for_a_rule_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VERIFICATION_RULES, "added", lambda: pytest.fail("read"))
    assert [known_rule(rule) for rule in RULES] == list(RULES)
    assert [rule for rule in RULES if is_lossy(rule)] == list(LOSSY_RULES)


SUITE = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=[3], new_tokens=24, rule="half")
def test_rule(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""


@pytest.mark.parametrize(
    ("change", "engine", "name"),
    [
        ((), "replay", "draft-k3-depth0-t1-half.json"),
        ((", accepted=accepted)", ")"), "decode", "draft-k3-depth0-t1-half-decode.json"),
        (("lossless=True", "lossless=False"), "decode", "draft-*-half-lossy-decode.json"),
    ],
)
def test_a_session_measures_it(
    pytester: pytest.Pytester,
    tmp_path: Path,
    tiny_target: Path,
    change: tuple[str, str],
    engine: str,
    name: str,
) -> None:
    folder = pytester.mkdir("suite")
    lines = [f'{{"category": "letters", "prompt": "{letter}"}}' for letter in LETTERS[:12]]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    draft = add_noise(tiny_target, tmp_path / "draft", 0.05)
    text = SUITE.format(target=str(tiny_target), draft=str(draft))
    (folder / "test_suite.py").write_text(text)
    with variant(tmp_path, *(change or (SOURCE, SOURCE))):
        result = pytester.runpytest("--specdec-update=new", f"--specdec-engine={engine}")
        result.assert_outcomes(passed=1)
        assert len(list(pytester.path.glob(f"baselines/**/{name}"))) == 1
        if engine == "decode":
            refused = pytester.runpytest()
            assert refused.ret == pytest.ExitCode.USAGE_ERROR
            refused.stderr.fnmatch_lines(["*use --specdec-engine=decode*"])


def test_the_example_accepts_half_as_often(half: None) -> None:
    accepted = rule_named("half").accepted
    assert accepted is not None
    log_q, log_p = np.log([0.2, 0.8]), np.log([0.4, 0.4])
    assert accepted(log_q, log_p) == pytest.approx([0.25, 0.5])
