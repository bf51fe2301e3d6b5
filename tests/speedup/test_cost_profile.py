"""Cost profiles: round trip, interpolation, and files that cannot be used."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.common.errors import CostError
from pytest_specdec.speedup.cost_profile import CostProfile
from pytest_specdec.speedup.profile_file import _Profile

STORED: dict[str, Any] = {
    "schema": 1,
    "verify": {"1": 10.0, "4": 16.0, "8": 18.0},
    "draft": {"0": {"1": 2.0, "8": 16.0}, "3": {"1": 2.0, "8": 6.0}},
    "own_heads": {"1": {"1": 0.5, "8": 4.0}},
    "target_ms": 9.0,
    "machine": "a laptop",
    "spread": 0.07,
}

milliseconds = st.floats(1e-3, 1e6)
by_k = st.dictionaries(st.integers(1, 64), milliseconds, min_size=1, max_size=5)
by_depth = st.dictionaries(st.integers(0, 8), by_k, max_size=3)
profiles = st.builds(
    CostProfile,
    verify=by_k,
    draft=by_depth,
    target_ms=st.none() | milliseconds,
    own_heads=st.dictionaries(st.integers(1, 8), by_k, max_size=3),
    drafters=st.dictionaries(st.sampled_from(["eagle3", "ngram-table"]), by_depth, max_size=2),
    machine=st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20),
    spread=st.floats(0, 10),
)


def stored(folder: Path, **changes: Any) -> Path:
    """A profile file; a change to None leaves the field out."""
    path = folder / "costs.json"
    data = {name: value for name, value in {**STORED, **changes}.items() if value is not None}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@given(profiles)
@PROPERTY
def test_what_was_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, profile: CostProfile
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip-costs.json"
    path.write_text(profile.to_json(), encoding="utf-8")
    assert CostProfile.load(path) == profile
    assert CostProfile.load(str(path)).to_json() == profile.to_json()


def test_fields_that_may_be_left_out(tmp_path: Path) -> None:
    profile = CostProfile.load(
        stored(tmp_path, own_heads=None, target_ms=None, machine=None, spread=None)
    )
    assert (profile.own_heads, profile.target_ms, profile.machine, profile.spread) == (
        {},
        None,
        "unknown",
        0.0,
    )


@pytest.mark.parametrize(
    ("k", "verify", "draft"),
    [(1, 10.0, 2.0), (2, 12.0, 4.0), (4, 16.0, 8.0), (6, 17.0, 12.0), (8, 18.0, 16.0)],
)
def test_times_between_two_measured_k_are_interpolated(
    tmp_path: Path, k: int, verify: float, draft: float
) -> None:
    profile = CostProfile.load(stored(tmp_path))
    assert profile.verify_ms(k) == pytest.approx(verify)
    assert profile.draft_ms(k) == pytest.approx(draft)
    assert profile.round_ms(k) == pytest.approx(verify + draft)


@given(by_k, st.integers(1, 64))
@PROPERTY
def test_an_interpolated_time_lies_between_its_neighbours(table: dict[int, float], k: int) -> None:
    profile = CostProfile(verify=table, draft={})
    if not min(table) <= k <= max(table):
        with pytest.raises(CostError, match="cover k ="):
            profile.verify_ms(k)
        return
    below, above = table[max(x for x in table if x <= k)], table[min(x for x in table if x >= k)]
    assert (
        min(below, above) * (1 - 1e-12) <= profile.verify_ms(k) <= max(below, above) * (1 + 1e-12)
    )


def test_depths_and_own_heads_have_times_of_their_own(tmp_path: Path) -> None:
    profile = CostProfile.load(stored(tmp_path))
    assert profile.draft_ms(8, 3) == 6.0
    assert profile.draft_ms(8, 1, drafter="mtp") == 4.0
    assert profile.round_ms(8, 1, drafter="mtp") == 22.0


def test_a_registered_drafter_has_no_times_but_its_own(tmp_path: Path) -> None:
    """Not those of the draft model, at whatever depth."""
    with pytest.raises(CostError, match="no eagle3 times for depth 0; measure one with"):
        CostProfile.load(stored(tmp_path)).draft_ms(4, drafter="eagle3")
    profile = CostProfile.load(stored(tmp_path, drafters={"eagle3": {"0": {"1": 3.0, "8": 17.0}}}))
    assert profile.draft_ms(8, drafter="eagle3") == 17.0
    assert profile.round_ms(4, drafter="eagle3") == 25.0
    assert profile.draft_ms(8) == 16.0
    with pytest.raises(CostError, match=r"eagle3 \(depth 0\) times cover k = 1, 8, not 9"):
        profile.draft_ms(9, drafter="eagle3")


@pytest.mark.parametrize(
    ("drafter", "known"),
    [("draft", True), ("mtp", True), ("prompt-lookup", False), ("eagle3", False)],
)
def test_a_profile_says_whose_times_it_has(tmp_path: Path, drafter: str, known: bool) -> None:
    assert CostProfile.load(stored(tmp_path)).knows(drafter) == known


@pytest.mark.parametrize("k", [0, 9])
def test_outside_the_measured_range_there_is_no_answer(tmp_path: Path, k: int) -> None:
    profile = CostProfile.load(stored(tmp_path))
    with pytest.raises(
        CostError, match=rf"verify times cover k = 1, 4, 8, not {k}; measure one with"
    ):
        profile.verify_ms(k)
    with pytest.raises(CostError, match=rf"draft \(depth 3\) times cover k = 1, 8, not {k}"):
        profile.draft_ms(k, 3)


@pytest.mark.parametrize(
    ("depth", "drafter", "name"),
    [(2, "draft", "draft"), (0, "mtp", "own_heads"), (0, "eagle3", "eagle3")],
)
def test_a_depth_without_times_is_named(
    tmp_path: Path, depth: int, drafter: str, name: str
) -> None:
    with pytest.raises(CostError, match=f"no {name} times for depth {depth}; measure one with"):
        CostProfile.load(stored(tmp_path)).draft_ms(4, depth, drafter=drafter)


@pytest.mark.parametrize("times", [{}, {1: 0.0}, {1: -2.0}, {1: float("nan")}])
def test_a_profile_needs_positive_verify_times(times: dict[int, float]) -> None:
    with pytest.raises(CostError, match=r"needs verify times.*; measure one with"):
        CostProfile(verify=times, draft={})


@pytest.mark.parametrize(
    "changes",
    [
        {"target_ms": -1.0},
        {"draft": {"0": {"1": -2.0}}},
        {"own_heads": {"1": {"1": 0}}},
        {"verify": {"4": -16.0}},
    ],
    ids=["target", "draft", "own_heads", "verify"],
)
def test_a_file_with_a_time_that_is_none_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(CostError, match=r"Expected `float` > 0.0 - at .*; measure one with"):
        CostProfile.load(stored(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schema": 2}, "not of schema 1"),
        ({"schema": None}, "not of schema 1"),
        ({"verify": None}, "missing required field `verify`"),
        ({"draft": None}, "missing required field `draft`"),
        ({"verify": [10, 16]}, "bad or missing field"),
        ({"verify": {"four": 16}}, "bad or missing field"),
        ({"draft": {"0": 16}}, "bad or missing field"),
        ({"draft": {"0": {"1": "slow"}}}, "bad or missing field"),
        ({"spread": "wide"}, "bad or missing field"),
    ],
)
def test_a_bad_field_is_refused_with_the_files_name(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CostError, match=rf"costs\.json .*{complaint}.*; measure one with"):
        CostProfile.load(stored(tmp_path, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"verify": {"4": 1e300}},
        {"verify": {"0": 1.0}},
        {"verify": {"513": 1.0}},
        {"verify": {"4": 1.0, " 4": 2.0}},
        {"verify": {"4": True}},
        {"draft": {"-1": {"4": 1.0}}},
        {"own_heads": {"0": {"4": 1.0}}},
        {"drafters": {"eagle3": {"0": {"0": 1.0}}}},
        {"drafters": {"eagle3": {"0": {"04": 1.0}}}},
        {"drafters": {"eagle3": {"-1": {"4": 1.0}}}},
        {"drafters": {"eagle3": {"4": 1.0}}},
        {"drafters": {"mtp": {"1": {"4": 1.0}}}},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"spread": -0.1},
        {"error": -0.1},
        {"samples": -1},
        {"extrapolated": [16]},
        {"machine": "a\x1b[31m"},
        {"target": 9.0},
    ],
)
def test_values_out_of_range_and_unknown_fields_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(
        CostError, match=r"costs\.json has a bad or missing field .*; measure one with"
    ):
        CostProfile.load(stored(tmp_path, **changes))


def test_the_stored_fields_are_the_profiles() -> None:
    assert set(_Profile.__struct_fields__) == {"schema", *CostProfile.__dataclass_fields__}


@pytest.mark.parametrize("content", ["", "{", "verify: 4", '{"schema": 1'])
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(content)
    with pytest.raises(CostError, match=r"costs\.json:1 is not JSON"):
        CostProfile.load(path)


@pytest.mark.parametrize("content", ["[]", '"costs"', "1"])
def test_json_of_another_shape_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(content)
    with pytest.raises(CostError, match=r"costs\.json is not of schema"):
        CostProfile.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CostError,
        match=r"absent\.json cannot be read \(No such file or directory\); measure one with",
    ):
        CostProfile.load(tmp_path / "absent.json")


@pytest.mark.parametrize("time", ["-1", "0", "Infinity", "NaN"])
def test_an_impossible_time_is_refused_by_file_name(tmp_path: Path, time: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(f'{{"schema": 1, "verify": {{"1": {time}}}, "draft": {{}}}}')
    with pytest.raises(CostError, match=r"costs\.json"):
        CostProfile.load(path)


PUBLISHED = CostProfile(
    target_ms=76, verify={1: 90, 2: 104, 3: 117}, draft={0: {1: 8, 2: 14, 3: 22}}
)


def test_k_beyond_the_measured_ones_lie_on_a_line_and_are_named() -> None:
    longer = PUBLISHED.extended([2, 4, 6])
    assert longer.extrapolated == (4, 6)
    assert longer.verify_ms(4) == pytest.approx(90 + 13.5 * 3 + 1 / 6)
    assert longer.draft_ms(4) == pytest.approx(22 - 1 / 3 + 7)
    assert [longer.verify_ms(k) for k in (1, 2, 3)] == [90, 104, 117], "what was measured stays"
    assert CostProfile.load(io_round_trip(longer)) == longer


def io_round_trip(profile: CostProfile) -> Path:
    path = Path(tempfile.mkdtemp()) / "costs.json"
    path.write_text(profile.to_json())
    return path


def test_k_between_measured_ones_are_no_extrapolation() -> None:
    sparse = CostProfile(verify={1: 10, 8: 24}, draft={0: {1: 1, 8: 8}})
    assert sparse.extended([4]).extrapolated == ()
    assert sparse.extended([4]).verify_ms(4) == pytest.approx(16)


def test_drafting_is_a_line_over_passes() -> None:
    """Three MTP layers yield four tokens a pass: k of 5 to 8 all take two."""
    heads = CostProfile(verify={4: 10, 16: 22}, draft={3: {4: 3, 16: 9}}).extended([5, 8, 20])
    assert heads.draft_ms(5, 3) == heads.draft_ms(8, 3) == pytest.approx(5)
    assert heads.draft_ms(20, 3) == pytest.approx(11)


def test_drafting_by_a_registered_drafter_is_a_line_over_tokens() -> None:
    times = {0: {1: 2, 3: 6}}
    head = CostProfile(verify={1: 10, 3: 14}, draft={}, drafters={"eagle3": times}).extended([6])
    assert head.draft_ms(6, drafter="eagle3") == pytest.approx(12)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (CostProfile(verify={4: 10}, draft={}), "verify times are too few to draw a line through"),
        (
            CostProfile(verify={1: 10, 2: 11}, draft={3: {1: 3, 2: 4}}),
            r"draft \(depth 3\) times are too few",
        ),
        (CostProfile(verify={1: 10, 2: 4}, draft={}), "not positive at k = 8"),
    ],
)
def test_a_line_that_cannot_be_drawn_is_refused(profile: CostProfile, message: str) -> None:
    with pytest.raises(CostError, match=message):
        profile.extended([8])


def test_the_error_of_a_median_shrinks_with_samples() -> None:
    profile = CostProfile(verify={1: 10}, draft={}, spread=0.2, samples=100)
    assert profile.relative_error == pytest.approx(0.2 / 1.349 * 1.253 / 10)
    assert CostProfile(verify={1: 10}, draft={}, spread=0.2).relative_error == 0
