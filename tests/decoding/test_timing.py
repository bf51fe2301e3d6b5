"""Cost profiles measured on a tiny pair: their structure, not their size, which belongs to the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_specdec.__main__ import main
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.timing import measure_costs
from pytest_specdec.errors import CostError
from pytest_specdec.speedup.costs import CostProfile

KS = (1, 2, 4, 8)
DEPTHS = (0, 1, 2)
ROUNDING = 2e-3
"""Times are stored to four decimals; a draft sums at most eight of them."""


@pytest.fixture(scope="module")
def target(tiny_target: Path) -> LoadedModel:
    return load_model(str(tiny_target), "cpu")


@pytest.fixture(scope="module")
def drafter(tiny_draft: Path) -> LoadedModel:
    return load_model(str(tiny_draft), "cpu")


@pytest.fixture(scope="module")
def profile(target: LoadedModel, drafter: LoadedModel) -> CostProfile:
    return measure_costs(target, drafter, ks=KS, depths=DEPTHS, context=32, repeats=5)


def test_every_time_is_positive_and_named_by_k_and_depth(profile: CostProfile) -> None:
    assert set(profile.verify) == set(KS)
    assert set(profile.draft) == set(DEPTHS)
    assert set(profile.own_heads) == {1, 2}
    rows = [profile.verify, *profile.draft.values(), *profile.own_heads.values()]
    assert all(set(row) == set(KS) and min(row.values()) > 0 for row in rows)
    assert profile.target_ms is not None
    assert profile.target_ms > 0
    assert profile.spread >= 0
    assert "batch 1, context 32" in profile.machine
    assert "float32" in profile.machine


def test_a_plain_draft_takes_one_model_step_a_token(profile: CostProfile) -> None:
    step = profile.draft_ms(1)
    assert [profile.draft_ms(k) for k in KS] == pytest.approx([k * step for k in KS], abs=ROUNDING)


def test_mtp_layers_take_ceil_k_over_1_plus_depth_model_steps_and_a_head_step_for_each_other_token(profile: CostProfile) -> None:
    step = profile.draft_ms(1)
    head = profile.draft_ms(2, 1) - step
    assert head > 0
    for depth, passes in {0: (1, 2, 4, 8), 1: (1, 1, 2, 4), 2: (1, 1, 2, 3)}.items():
        expected = [count * step + (k - count) * head for k, count in zip(KS, passes, strict=True)]
        assert [profile.draft_ms(k, depth) for k in KS] == pytest.approx(expected, abs=ROUNDING)


def test_own_heads_take_one_layer_a_token_at_any_depth(profile: CostProfile) -> None:
    step = profile.draft_ms(1, 1, own_heads=True)
    for depth in (1, 2):
        times = [profile.draft_ms(k, depth, own_heads=True) for k in KS]
        assert times == pytest.approx([k * step for k in KS], abs=ROUNDING)


def test_drafting_more_tokens_takes_longer(profile: CostProfile) -> None:
    for depth in DEPTHS:
        times = [profile.draft_ms(k, depth) for k in KS]
        assert times == sorted(set(times))


def test_without_a_draft_model_only_own_heads_are_timed(target: LoadedModel) -> None:
    profile = measure_costs(target, None, ks=[2], depths=[1], context=8, repeats=2)
    assert profile.draft == {}
    assert set(profile.own_heads) == {1}


def test_depth_zero_times_no_heads_of_the_draft(target: LoadedModel, drafter: LoadedModel) -> None:
    profile = measure_costs(target, drafter, ks=[2], depths=[0], context=8, repeats=2)
    assert set(profile.draft) == {0}
    assert profile.own_heads == {}


def test_a_profile_loads_back_from_its_file(profile: CostProfile, tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_text(profile.to_json())
    assert CostProfile.load(path) == profile


def test_command_writes_a_loadable_file(
    tiny_target: Path, tiny_draft: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "costs.json"
    pair = ["--target", str(tiny_target), "--draft", str(tiny_draft)]
    size = ["--k", "1,2", "--depth", "0,1", "--context", "8", "--repeats", "2", "--device", "cpu"]
    assert main(["costs", *pair, *size, "-o", str(path)]) == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    profile = CostProfile.load(path)
    assert set(profile.verify) == {1, 2}
    assert set(profile.draft) == {0, 1}


def test_command_prints_a_loadable_profile(tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--k", "1", "--depth", "1", "--context", "8", "--repeats", "2", "--device", "cpu"]
    assert main(["costs", "--target", str(tiny_target), *size]) == 0
    path = tmp_path / "costs.json"
    path.write_text(capsys.readouterr().out)
    assert set(CostProfile.load(path).own_heads) == {1}


def test_command_refuses_a_bad_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["costs", "--target", str(tmp_path / "nowhere"), "-o", str(tmp_path / "costs.json")]) == 2
    assert f"error: no checkpoint folder at {tmp_path / 'nowhere'}; check the path" in capsys.readouterr().err
    assert not (tmp_path / "costs.json").exists()


def test_command_refuses_a_depth_without_layers(tiny_target: Path, tiny_draft: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ["--target", str(tiny_target), "--draft", str(tiny_draft)]
    assert main(["costs", *pair, "--depth", "3", "--device", "cpu"]) == 2
    assert "depth 3 needs 3 MTP layers" in capsys.readouterr().err


def test_profile_says_nothing_outside_what_was_measured(profile: CostProfile) -> None:
    with pytest.raises(CostError, match="not 16"):
        profile.draft_ms(16)
    with pytest.raises(CostError, match="depth 3"):
        profile.draft_ms(4, 3)
