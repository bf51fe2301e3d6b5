"""A case beside a published profile."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from helpers.records import row
from helpers.report_rows import session_rows
from scipy.stats import norm

from pytest_specdec.__main__ import main
from pytest_specdec.common.errors import RequestError
from pytest_specdec.report import render
from pytest_specdec.report.profile_gate import PublishedProfile, judge_profile, read_profile

CASE = "text/draft-k4-depth0-t1"


def outcome(now: float, then: float, error: float | None, ours: float | None = 0.02) -> str:
    profile = {
        "schema_version": "1.0",
        "mean_accept_length": then,
        "num_speculative_tokens": 8,
        "standard_errors": {"mean_accept_length": error},
    }
    found = msgspec.convert(profile, PublishedProfile)
    case = row(k=8, acceptance_length=now, acceptance_length_error=ours)
    return judge_profile(case, found, margin=0.01, alpha=0.01).outcome


def test_the_bound_is_that_of_scipy() -> None:
    for now in np.linspace(2.8, 3.0, 41).tolist():
        drop = 1 - now / 3.0
        z = (now - 3.0) / math.hypot(0.03, 0.02)
        expected = "pass" if drop < 0.01 else "regressed" if norm.cdf(z) < 0.01 else "inconclusive"
        assert outcome(now, 3.0, 0.03) == expected


def test_without_a_standard_error_nobody_is_accused() -> None:
    assert outcome(2.0, 3.0, None) == "inconclusive"
    assert outcome(2.0, 3.0, 0.01, ours=None) == "inconclusive"
    assert outcome(3.0, 3.0, None) == "pass"


def test_equal_drafters_are_accused_as_rarely_as_stated() -> None:
    rng = np.random.default_rng(0)
    now, then = rng.normal(3.0, 0.03, (2, 3000)).tolist()
    false = sum(outcome(a, b, 0.03, 0.03) == "regressed" for a, b in zip(now, then, strict=True))
    assert false <= 3000 * 0.01 + 3 * math.sqrt(30)
    assert false > 0


def test_an_exported_profile_passes_against_itself_and_a_higher_one_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, published = tmp_path / "out.json", tmp_path / "speculation_profile.json"
    rows = [{**one, "acceptance_length_error": 0.02} for one in session_rows(8)]
    report.write_text(render(".json", rows))
    case = ["profile", str(report), f"--case={CASE}"]
    assert main([*case, "--method=draft_model", "-o", str(published)]) == 0
    assert main([*case, f"--against={published}"]) == 0
    profile = json.loads(published.read_text())
    published.write_text(
        json.dumps({**profile, "mean_accept_length": profile["mean_accept_length"] * 1.2})
    )
    assert main([*case, f"--against={published}"]) == 1
    assert f"regressed: {CASE}: acceptance length" in capsys.readouterr().out
    other = profile["measurement_conditions"] | {"temperature": 0.5}
    published.write_text(json.dumps({**profile, "measurement_conditions": other}))
    assert main([*case, f"--against={published}"]) == 2
    assert "measure at the profile's temperature" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": "2.0"}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RequestError, match="is no speculation profile"):
        read_profile(tmp_path / "x.json")
    with pytest.raises(RequestError, match="cannot be read"):
        read_profile(tmp_path / "none.json")


def test_a_length_at_another_k_comes_from_the_table(tmp_path: Path) -> None:
    profile = {
        "schema_version": "1.0",
        "mean_accept_length": 3.0,
        "num_speculative_tokens": 8,
        "accept_length_by_k": {"4": 2.0},
    }
    path = tmp_path / "p.json"
    path.write_text(json.dumps(profile))
    case = row(k=4, acceptance_length=2.0)
    assert judge_profile(case, read_profile(path), margin=0.01, alpha=0.01).outcome == "pass"
    with pytest.raises(RequestError, match="no length at k=5; measure k=8"):
        judge_profile(row(k=5), read_profile(path), margin=0.01, alpha=0.01)
