"""Cost profiles measured on a tiny pair: their structure, not their size, which belongs to the
machine.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pytest
from helpers.eagle3 import write_head
from helpers.packages import installed

from pytest_specdec.__main__ import main
from pytest_specdec.cases.drafter import DRAFTER_TYPES, RegisteredSpec
from pytest_specdec.common.errors import CostError, RequestError
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.timed_turns import SEGMENT
from pytest_specdec.decoding.timing import Setting, emitted_starts, measure_costs, steady_rounds
from pytest_specdec.speedup.cost_profile import CostProfile

KS = (1, 2, 4, 8)
DEPTHS = (0, 1, 2)
SMALL = Setting(context=8)


@pytest.fixture(scope="module")
def target(tiny_target: Path) -> LoadedModel:
    return load_model(str(tiny_target), "cpu")


@pytest.fixture(scope="module")
def drafter(tiny_draft: Path) -> LoadedModel:
    return load_model(str(tiny_draft), "cpu")


@pytest.fixture(scope="module")
def head(tiny_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_head(tmp_path_factory.mktemp("heads") / "head", tiny_target, ids=(0, 1))


@pytest.fixture(scope="module")
def profile(target: LoadedModel, drafter: LoadedModel) -> CostProfile:
    return measure_costs(
        target, drafter, ks=KS, depths=DEPTHS, setting=Setting(context=32), repeats=16
    )


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


def test_drafting_more_tokens_takes_longer(profile: CostProfile) -> None:
    for row in (profile.draft[0], profile.own_heads[1]):
        assert row[8] > row[1]


def test_prompt_lookup_is_timed_where_it_is_asked_for(
    profile: CostProfile, target: LoadedModel
) -> None:
    assert profile.lookup == {}
    timed = measure_costs(
        target, None, ks=[1, 4], depths=[1], setting=SMALL, repeats=8, lookup=True
    )
    assert set(timed.lookup) == {1, 4}
    assert timed.draft_ms(4, drafter="prompt-lookup") < timed.verify_ms(4)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_head_is_timed_beside_the_others(
    target: LoadedModel, drafter: LoadedModel, head: Path, batch_size: int
) -> None:
    timed = measure_costs(
        target,
        drafter,
        ks=[1, 4],
        depths=[0, 1],
        setting=dataclasses.replace(SMALL, batch_size=batch_size),
        repeats=16,
        registered=[RegisteredSpec("eagle3", head)],
    )
    assert set(timed.drafters) == {"eagle3"}
    assert set(timed.drafters["eagle3"]) == {0}
    row = timed.drafters["eagle3"][0]
    assert set(row) == {1, 4}
    assert row[4] > row[1] > 0
    assert timed.batch_size == batch_size
    assert (set(timed.draft), set(timed.own_heads)) == ({0, 1}, {1})


def test_a_batch_is_timed_as_a_whole(target: LoadedModel, drafter: LoadedModel) -> None:
    timed = measure_costs(
        target,
        drafter,
        ks=[2],
        depths=[1],
        setting=dataclasses.replace(SMALL, batch_size=3),
        repeats=8,
    )
    assert timed.batch_size == 3
    assert "batch 3" in timed.machine


def test_starts_are_texts_of_the_target_as_long_as_asked_for(target: LoadedModel) -> None:
    setting = Setting(batch_size=2, context=12)
    starts = emitted_starts(target, setting)
    assert [len(start) for start in starts] == [12, 12]
    assert starts == emitted_starts(target, setting)


def test_rounds_are_endless_and_timed_part_by_part(
    target: LoadedModel, drafter: LoadedModel
) -> None:
    starts = emitted_starts(target, SMALL)
    rounds = steady_rounds(target, drafter, 2, 1, SMALL, starts)
    for _ in range(2 * SEGMENT + 3):
        rounds.ready_to_draft()
        rounds.draft()
    for _ in range(SEGMENT + 3):
        rounds.ready_to_verify()
        rounds.verify()
    laps = rounds.segment()
    assert len(laps) == SEGMENT
    assert all(lap.draft_ms > 0 and lap.verify_ms > 0 for lap in laps)


@pytest.mark.parametrize(
    ("name", "k", "part", "expected"),
    [
        ("draft", 2, "draft", {"part": "draft", "k": 2, "depth": 1}),
        ("draft", 2, "verify", {"part": "verify", "k": 2, "depth": 0}),
        ("mtp", 2, "draft", {"part": "mtp", "k": 2, "depth": 1}),
        ("eagle3", 2, "draft", {"part": "eagle3", "k": 2}),
        (None, 0, "verify", {"part": "target", "k": 0, "depth": 0}),
    ],
)
def test_rounds_say_what_they_time(
    target: LoadedModel,
    drafter: LoadedModel,
    name: str | None,
    k: int,
    part: Literal["draft", "verify"],
    expected: dict[str, object],
) -> None:
    depth = 1 if k else 0
    named = {"draft": drafter, "eagle3": RegisteredSpec("eagle3", Path("/heads/one"))}
    rounds = steady_rounds(target, named.get(str(name), name), k, depth, SMALL, [[1]])
    described = rounds.describe(part)
    assert {name: described[name] for name in expected} == expected
    assert described["machine"] == SMALL.machine(target)


def test_without_a_draft_model_only_own_heads_are_timed(target: LoadedModel) -> None:
    profile = measure_costs(target, None, ks=[2], depths=[1], setting=SMALL, repeats=8)
    assert profile.draft == {}
    assert set(profile.own_heads) == {1}


def test_depth_zero_times_no_heads_of_the_draft(target: LoadedModel, drafter: LoadedModel) -> None:
    profile = measure_costs(target, drafter, ks=[2], depths=[0], setting=SMALL, repeats=8)
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
    shown = capsys.readouterr()
    assert shown.out == f"wrote {path}\n"
    assert shown.err.startswith("timing 16 rounds of each of 5 parts: about ")
    profile = CostProfile.load(path)
    assert set(profile.verify) == {1, 2}
    assert set(profile.draft) == {0, 1}
    assert (profile.own_heads, profile.lookup) == ({}, {})


@pytest.mark.parametrize(
    ("drafters", "timed"),
    [
        ([], {"mtp", "lookup"}),
        (["mtp"], {"mtp"}),
        (["prompt-lookup"], {"lookup"}),
        (["PATH", "mtp"], {"draft", "mtp"}),
        (["HEAD"], {"head"}),
        (["PATH", "HEAD"], {"draft", "head"}),
    ],
)
def test_command_times_the_drafters_that_are_named(
    tiny_target: Path,
    tiny_draft: Path,
    head: Path,
    capsys: pytest.CaptureFixture[str],
    drafters: list[str],
    timed: set[str],
    tmp_path: Path,
) -> None:
    paths = {"PATH": str(tiny_draft), "HEAD": str(head)}
    named = [f"--draft={paths.get(name, name)}" for name in drafters]
    size = ["--k", "1", "--depth", "0,1", "--context", "8", "--repeats", "2", "--device", "cpu"]
    assert main(["costs", "--target", str(tiny_target), *named, *size]) == 0
    path = tmp_path / "costs.json"
    path.write_text(capsys.readouterr().out)
    profile = CostProfile.load(path)
    tables = {"draft": profile.draft, "mtp": profile.own_heads, "lookup": profile.lookup}
    tables["head"] = profile.drafters.get("eagle3", {})
    assert {name for name, table in tables.items() if table} == timed


def test_command_refuses_two_draft_models(
    tiny_target: Path, tiny_draft: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["costs", "--target", str(tiny_target), f"--draft={tiny_draft}", "--draft=other"]) == 2
    )
    assert (
        "a profile holds the times of one draft model, and 2 are named; measure each in its own run"
        in capsys.readouterr().err
    )


def test_command_refuses_heads_that_it_cannot_time(
    tiny_target: Path, head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_head(tmp_path / "other", tiny_target, ids=(0, 1), seed=1)
    misfit = write_head(tmp_path / "misfit", tiny_target, ids=(0, 9))
    for options, message in (
        (
            [f"--draft={head}", f"--draft={other}"],
            "a profile holds the times of one EAGLE-3 head, and 2 are named; measure each in its "
            "own run",
        ),
        (
            [f"--draft={head}", "--depth=1"],
            "an EAGLE-3 head has no MTP layers and is timed at depth 0, which --depth leaves out; "
            "add 0 to it",
        ),
        ([f"--draft={misfit}"], "names the layers [0, 9]"),
        (["--draft=eagle3"], "eagle3 drafts with a head's files; name its folder: eagle3:FOLDER"),
    ):
        assert main(["costs", "--target", str(tiny_target), *options, "--device=cpu"]) == 2
        assert message in capsys.readouterr().err


def test_command_refuses_types_of_other_packages(
    tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {DRAFTER_TYPES.group: "ngram-table = ngram_table"}
    with installed(tmp_path / "site", "ngram_table", "", points):
        assert main(["costs", "--target", str(tiny_target), "--draft=ngram-table:/tables"]) == 2
    assert (
        "costs does not time 'ngram-table'; write its times into the field drafters of the file"
        in capsys.readouterr().err
    )


def test_command_prints_a_loadable_profile(
    tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--k", "1", "--depth", "1", "--context", "8", "--repeats", "2", "--device", "cpu"]
    assert main(["costs", "--target", str(tiny_target), *size]) == 0
    path = tmp_path / "costs.json"
    path.write_text(capsys.readouterr().out)
    assert set(CostProfile.load(path).own_heads) == {1}


def test_command_refuses_a_bad_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["costs", "--target", str(tmp_path / "nowhere"), "-o", str(tmp_path / "costs.json")])
        == 2
    )
    assert (
        f"error: no checkpoint folder at {tmp_path / 'nowhere'}; check the path"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "costs.json").exists()


def test_what_does_not_fit_into_the_time_is_refused(
    target: LoadedModel, drafter: LoadedModel
) -> None:
    with pytest.raises(
        RequestError,
        match=r"took all of the .*; ask for fewer k and depths, .*, or at least --max-seconds=\d+$",
    ):
        measure_costs(target, drafter, ks=KS, depths=DEPTHS, setting=SMALL, max_seconds=1e-9)


def test_command_refuses_before_it_measures(
    tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder as the file, and a context that the model does not have: one line, exit status 2,
    nothing timed.
    """
    model = ["costs", "--target", str(tiny_target), "--depth", "1", "--device", "cpu"]
    for options, message in (
        (
            ["-o", str(tmp_path)],
            f"error: {tmp_path} cannot be written; name a file in a folder that can\n",
        ),
        (
            ["--context", "128"],
            f"error: --context=128 fills the context of {tiny_target} (128 tokens); ask for a "
            "smaller one\n",
        ),
    ):
        assert main([*model, *options]) == 2
        assert capsys.readouterr().err == message


@pytest.mark.parametrize(("error", "warned"), [(0.42, True), (0.09, False)])
def test_command_warns_of_uncertain_times(
    error: float,
    warned: bool,
    tiny_target: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    profile: CostProfile,
) -> None:
    noisy = dataclasses.replace(profile, error=error)
    monkeypatch.setattr(
        "pytest_specdec.decoding.timing.measure_costs", lambda *models, **named: noisy
    )
    options = ["-o", str(tmp_path / "costs.json"), "--context", "8", "--device", "cpu"]
    assert main(["costs", "--target", str(tiny_target), *options]) == 0
    assert ("warning: the times have a standard error of 42%" in capsys.readouterr().err) == warned
    assert CostProfile.load(tmp_path / "costs.json").error == error


def test_command_refuses_a_depth_without_layers(
    tiny_target: Path, tiny_draft: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ["--target", str(tiny_target), "--draft", str(tiny_draft)]
    assert main(["costs", *pair, "--depth", "3", "--device", "cpu"]) == 2
    assert "depth 3 needs 3 MTP layers" in capsys.readouterr().err


def test_profile_says_nothing_outside_what_was_measured(profile: CostProfile) -> None:
    with pytest.raises(CostError, match="not 16"):
        profile.draft_ms(16)
    with pytest.raises(CostError, match="depth 3"):
        profile.draft_ms(4, 3)
