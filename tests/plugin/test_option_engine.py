"""--specdec-engine: decode measures and stores beside replay, with every rule and drafter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.support import add_noise

from pytest_specdec.common.errors import RequestError

DECODE = "--specdec-engine=decode"
CELLS = [f"letters/tiny-draft-k{k}-depth{depth}-t1" for k in (4, 8) for depth in (0, 2)]
DECODED = {f"{cell}-decode.json" for cell in CELLS}
REPLAYED = {"letters/texts/t1-n24-s0.json", *(f"{cell}.json" for cell in CELLS)}

GATE = """
import pytest

@pytest.mark.specdec(target={{target!r}}, drafter={drafter}, k=4, new_tokens=48{more})
def test_gate(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""


def gate(project, more: str = "", drafter: str = "{draft!r}") -> None:
    project.write_test(GATE.format(drafter=drafter, more=f", {more}" * bool(more)))


def test_decode_writes_baselines_of_its_own_and_no_texts(project) -> None:
    project.create(DECODE)
    assert set(project.baselines) == DECODED
    for text in project.baselines.values():
        stored = json.loads(text)
        assert stored["conditions"]["engine"] == "decode"
        # What was counted is whole, what replay expects hardly ever.
        assert all(
            isinstance(count, int)
            for row in stored["counts"].values()
            for count in (row["rounds"], *row["accepted"])
        )


def test_an_unchanged_decode_passes_and_writes_nothing(project) -> None:
    project.create(DECODE)
    before = project.baselines
    result = project.run(DECODE, ok=True)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["specdec: decode on auto*", "*pass"])
    result = project.run(DECODE, "--specdec-update=changed", ok=True)
    assert "wrote" not in result.stdout.str()
    assert project.baselines == before


def test_replay_and_decode_do_not_see_each_others_baselines(project) -> None:
    project.create(DECODE)
    result = project.run(ok=False)
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        ["*no baseline at *tiny-draft-k4-depth0-t1.json; create it with --specdec-update=new*"]
    )
    project.create()
    assert set(project.baselines) == DECODED | REPLAYED
    project.run(ok=True)
    project.run(DECODE, ok=True)


def test_a_worse_drafter_fails_under_decode(project, tmp_path: Path) -> None:
    """It emits texts of its own, so the gate tests a difference of samples."""
    gate(project, "temperature=0")
    project.create(DECODE)
    worse = add_noise(project.draft, tmp_path / "worse", 3.0)
    result = project.run(DECODE, f"--specdec-draft={worse}", ok=False)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*acceptance_length regressed: *", "*drafter weights*"])


def test_the_engine_may_be_set_in_the_ini_file_and_overridden(project) -> None:
    project.pytester.makeini("[pytest]\nspecdec_engine = decode\n")
    project.create()
    assert set(project.baselines) == DECODED
    project.run("--specdec-engine=replay", ok=False)


def test_the_report_names_the_engine(project) -> None:
    project.create(DECODE)
    rows = project.report(DECODE)
    assert [(row["id"], row["engine"], row["verdict"]) for row in rows] == [
        (f"{cell}-decode", "decode", "pass") for cell in CELLS
    ]
    assert all(row["acceptance_length"] == row["baseline"]["acceptance_length"] > 1 for row in rows)


@pytest.mark.usefixtures("warm_processes")
def test_decode_stores_the_same_in_one_process_and_in_two(project) -> None:
    project.create(DECODE)
    serial = project.baselines
    for name in serial:
        (project.pytester.path / "baselines" / name).unlink()
    project.create(DECODE, "-n2")
    assert project.baselines == serial


def test_times_are_known_where_something_was_decoded(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=2, new_tokens=24)
def test_times(specdec_run, specdec_case):
    assert (specdec_run.times is None) == (specdec_case.engine == "replay")
    if specdec_run.times is not None:
        assert specdec_run.times.verify_ms > 0
""")
    project.run(ok=True)
    project.run(DECODE, ok=True)


@pytest.mark.parametrize("update", [(), ("--specdec-update=new",)])
def test_a_lossy_rule_is_refused_by_replay_with_one_message(
    project, update: tuple[str, ...]
) -> None:
    gate(project, "rule='typical'")
    result = project.run(*update)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    printed = result.stdout.str() + result.stderr.str()
    assert (
        printed.count(
            "rule 'typical' is lossy: its texts cannot be replayed with the target; use "
            "--specdec-engine=decode"
        )
        == 1
    )
    assert "Traceback" not in printed
    assert project.baselines == {}


def test_a_lossy_rule_is_decoded_under_a_name_that_says_so(project) -> None:
    gate(project, "rule='typical'")
    project.create(DECODE)
    assert set(project.baselines) == {"letters/tiny-draft-k4-depth0-t1-typical-lossy-decode.json"}
    (row,) = project.report(DECODE)
    assert row["id"] == "letters/tiny-draft-k4-depth0-t1-typical-lossy-decode"
    assert (row["rule"], row["verdict"]) == ("typical", "pass")


def test_lossless_rules_have_baselines_under_both_engines(project) -> None:
    project.write_test(
        "".join(
            GATE.format(drafter="{draft!r}", more=f", rule={rule!r}, temperature=0.5").replace(
                "test_gate", f"test_{number}"
            )
            for number, rule in enumerate(("sample-match", "block"))
        )
    )
    project.create()
    project.create(DECODE)
    stems = [f"letters/tiny-draft-k4-depth0-t0.5-{rule}" for rule in ("sample-match", "block")]
    names = {f"{stem}{engine}.json" for stem in stems for engine in ("", "-decode")}
    assert set(project.baselines) == names | {"letters/texts/t0.5-n48-s0.json"}
    for arguments in ((), (DECODE,)):
        project.run(*arguments, ok=True).assert_outcomes(passed=2)


@pytest.mark.usefixtures("untrained_heads")
def test_drafters_without_a_model_are_gated_under_both_engines(project) -> None:
    project.write_test(
        "".join(
            GATE.format(drafter=repr(drafter), more=f", depth={depth}, temperature=0.4").replace(
                "test_gate", f"test_{depth}"
            )
            for drafter, depth in (("prompt-lookup", 0), ("mtp", 2))
        )
    )
    project.create()
    project.create(DECODE)
    stems = ["letters/prompt-lookup-k4-depth0-t0.4", "letters/mtp-k4-depth2-t0.4"]
    names = {f"{stem}{engine}.json" for stem in stems for engine in ("", "-decode")}
    assert set(project.baselines) == names | {"letters/texts/t0.4-n48-s0.json"}
    for arguments in ((), (DECODE,)):
        rows = project.report(*arguments)
        assert {row["drafter"]: row["verdict"] for row in rows} == {
            "prompt-lookup": "pass",
            "mtp": "pass",
        }
        assert all(row["acceptance_length"] > 1 for row in rows)


def test_prompt_lookup_skips_other_depths_with_the_reason(project) -> None:
    gate(project, "temperature=0.4", drafter="'prompt-lookup'")
    project.run("--specdec-depth=0,2", "--specdec-update=new", ok=True).assert_outcomes(passed=1)
    result = project.run("--specdec-depth=2", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*prompt lookup and EAGLE-3 heads have none: use --specdec-depth=0*"]
    )


def test_prompt_lookup_has_no_drafter_to_hand_out(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter="prompt-lookup", k=2, new_tokens=24)
def test_drafter(specdec_drafter): pass
""")
    result = project.run(DECODE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*prompt lookup has no model; leave specdec_drafter out of this test*"]
    )


@pytest.mark.parametrize("engine", ["replay", "decode"])
def test_a_test_may_generate_text_with_the_cases_pair(project, engine: str) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=3, depth=2, new_tokens=24)
def test_generation(specdec_decode, specdec_case, specdec_target):
    own = specdec_decode(["apple", "fig"])
    assert own.k == 3
    assert [len(text.ids) - text.prompt_length for text in own.texts] == [24, 24]
    assert list(own.texts[1].ids[:4]) == specdec_target.tokenizer("fig")["input_ids"]
    assert own.counts.total_rounds > 0
    longer = specdec_decode(["apple"], new_tokens=40, k=5, temperature=0)
    assert (longer.k, len(longer.texts[0].ids)) == (5, 6 + 40)
    assert longer.texts == specdec_decode(["apple"], new_tokens=40, depth=0, temperature=0).texts
""")
    project.run(f"--specdec-engine={engine}", ok=True)
    assert project.baselines == {}


def test_an_engine_that_cannot_be_made_is_tried_once(
    project, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def unreachable(name: str, *plan: object, **options: object) -> None:
        tried.append(name)
        raise RequestError("nobody is at home; see that the server runs")

    monkeypatch.setattr("pytest_specdec.engines.factory.make_engine", unreachable)
    project.run(ok=False).assert_outcomes(errors=4)
    assert tried == ["replay"]
