"""What a JUnit file says of a case."""

from __future__ import annotations

from helpers.records import CONTEXTS, row
from helpers.report_rows import DIAGNOSIS

from pytest_specdec.report.junit import output, properties


def test_properties_are_what_is_known() -> None:
    found = dict(properties(row(regime="drafter changed")))
    assert found == {
        "specdec_case": "text/draft-k8-depth0-t1",
        "specdec_verdict": "regressed",
        "specdec_regime": "drafter changed",
        "specdec_acceptance_length": 5.0,
        "specdec_acceptance_rate": 0.5,
        "specdec_speedup": 2.5,
        "specdec_smallest_detectable_drop": 0.01,
        "specdec_baseline_acceptance_length": 5.1,
        "specdec_drop": 0.0196,
        "specdec_reason": "fell",
    }


def test_the_drop_is_the_one_that_decided() -> None:
    assert dict(properties(row(**CONTEXTS)))["specdec_drop"] == 0.01
    assert "change -1.00 %" in output(row(**CONTEXTS))


def test_a_failure_has_its_numbers_and_its_diagnosis() -> None:
    assert output(row(diagnosis=DIAGNOSIS)).splitlines() == [
        "text/draft-k8-depth0-t1: regressed",
        "acceptance length 5.0000, baseline 5.1000, change -1.96 %",
        "acceptance rate 50.00 %",
        "theoretical speed-up 2.500x",
        *DIAGNOSIS,
    ]


def test_what_was_not_measured_is_left_out() -> None:
    bare = row(
        acceptance_length=None,
        acceptance_rate=None,
        speedup=None,
        baseline={},
        drop=None,
        verdict="error",
        reason="no target",
        checks=[{"name": "oracle", "passes": False, "message": "it counts too many"}],
    )
    assert output(bare).splitlines() == [
        "text/draft-k8-depth0-t1: error",
        "no target",
        "oracle is violated: it counts too many",
    ]
    assert None not in dict(properties(bare)).values()
