"""The fixture specdec_conformance: an engine's texts against its target, case by case."""

from __future__ import annotations

import pytest

TEST = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=48)
def test_texts(specdec_conformance):
    assert specdec_conformance.conforms, specdec_conformance.message
"""
RULED = TEST.replace("new_tokens=48", "new_tokens=48, {more}")


@pytest.mark.parametrize("engine", ["replay", "decode"])
@pytest.mark.parametrize("more", ["temperature=1.0", "temperature=0", "top_k=3", "rule='block'"])
def test_our_engines_conform_and_need_no_baseline(project, engine: str, more: str) -> None:
    project.write_test(RULED.replace("{more}", more))
    project.run(f"--specdec-engine={engine}", ok=True).assert_outcomes(passed=1)
    assert not project.stored


def test_texts_at_another_temperature_do_not(project) -> None:
    project.write_test("import pytest\n" + HOTTER)
    result = project.run(ok=False)
    result.stdout.fnmatch_lines(
        ["*the texts are not draws from the target: *check that the engine's temperature, *"]
    )


HOTTER = """
@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=96)
def test_hotter(specdec_case, specdec_target, specdec_decode):
    from pytest_specdec.lossless.texts.conformance import conformance

    texts = specdec_decode(["apple", "banana", "cherry", "elder"] * 8, temperature=3.0, new_tokens=96).texts
    found = conformance(specdec_target, texts)
    assert found.conforms, found.message
"""


def test_a_lossy_rule_is_refused(project) -> None:
    project.write_test(RULED.replace("{more}", "rule='typical'"))
    result = project.run("--specdec-engine=decode", ok=False)
    result.stdout.fnmatch_lines(
        ["*rule 'typical' is lossy by design*leave specdec_conformance out*"]
    )


def test_measuring_and_judging_share_one_decode(project, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_specdec.engines.own.decode_engine import DecodeEngine

    calls = []
    whole = DecodeEngine._decode_texts
    monkeypatch.setattr(
        DecodeEngine, "_decode_texts", lambda self, case: (calls.append(case), whole(self, case))[1]
    )
    project.write_test(TEST.replace("specdec_conformance)", "specdec_conformance, specdec_run)"))
    project.run("--specdec-engine=decode", ok=True)
    assert len(calls) == 1


def test_reports_hold_what_was_found_and_measure_nothing_for_it(project) -> None:
    project.write_test(TEST)
    (row,) = project.report("--specdec-engine=decode")
    (check,) = row["checks"]
    assert (check["name"], check["passes"]) == ("conformance", True)
    assert "conform to the target" in check["message"]
    assert (row["verdict"], row["rounds"]) == ("not judged", None)
