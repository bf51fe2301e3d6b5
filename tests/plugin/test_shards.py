"""Shards measure shares of a session and judge nothing; `merge` judges what one process would have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.support import add_noise
from helpers.tiers import exhaustive

from pytest_specdec.common.errors import RequestError
from pytest_specdec.engines.part_files import ShardPart
from pytest_specdec.engines.shards import MergedParts, read_parts

TEST = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=[4, 8], depth=[0, 2], new_tokens=24,
                     temperature=0)
def test_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=[4, 8], depth=[0, 2], new_tokens=24)
def test_draft(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, depth=0, new_tokens=24)
def test_texts(specdec_conformance):
    assert specdec_conformance.conforms, specdec_conformance.message
"""
SHARDS = 4


@pytest.fixture
def project(project, monkeypatch: pytest.MonkeyPatch):
    """Batches of two texts, and so several for each shard."""
    monkeypatch.setattr("pytest_specdec.decoding.text_batches._LOGIT_BUDGET", {"cpu": 64 * 40 * 2})
    monkeypatch.setattr("pytest_specdec.lossless.texts.teacher_forcing._BUDGET", {"cpu": 64 * 120})
    monkeypatch.setattr("pytest_specdec.engines.own.replay_engine.SAMPLED_TOGETHER", 5)
    project.write_test(TEST)
    return project


def shard(project, *arguments: str, shards: int = SHARDS) -> list[Path]:
    """The parts of all shards."""
    parts = []
    for number in range(1, shards + 1):
        result = project.run(f"--specdec-shard={number}/{shards}", *arguments, ok=True)
        result.stdout.fnmatch_lines([f"*shard {number}/{shards}: * cases, * batches, written to*"])
        result.assert_outcomes()  # no test ran
        parts.append(project.pytester.path / ".specdec" / "shards" / f"{number}-of-{shards}.part")
    return parts


def merge(project, parts: Sequence[Path]) -> pytest.RunResult:
    """What `python -m pytest_specdec merge` does, in this process."""
    read = read_parts(parts)
    return project.pytester.runpytest(*read[0].header.arguments, plugins=[MergedParts(read)])


def reported(project) -> str:
    """All of the .json report but its date, as it is written."""
    report = json.loads((project.pytester.path / "out.json").read_text())
    del report["session"]["date"]
    return json.dumps(report)


def lines(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if " in " not in line or "passed" not in line]


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch):
    """Loading a model fails from the call on."""

    def forbid() -> None:
        def refused(*given: object) -> None:
            raise AssertionError("merge loads no model")

        monkeypatch.setattr("pytest_specdec.engines.models.ModelPool._load", refused)

    return forbid


@pytest.mark.parametrize("shards", [4, exhaustive(1), exhaustive(7)])
def test_merged_shards_judge_and_report_what_one_process_does(
    project, no_models, shards: int
) -> None:
    project.create()
    report = ["--specdec-report=out.json", "-v"]
    expected = project.run(*report, ok=True)
    whole = reported(project)
    parts = shard(project, *report, shards=shards)
    (project.pytester.path / "out.json").unlink()
    no_models()
    merged = merge(project, parts)
    assert merged.ret == 0, merged.stdout.str()
    assert reported(project) == whole
    assert lines(merged) == lines(expected)


TREES = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, tree="0 1 0.0 1.0", depth=0, new_tokens=24)
def test_static(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, tree="topk=2,depth=2,nodes=5", depth=0,
                     new_tokens=24, temperature=0)
def test_dynamic(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""


def test_merged_shards_of_trees_report_and_store_what_one_process_does(
    project, no_models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_specdec.decoding.trees.replay._LOGITS", 64 * 40 * 2)
    project.write_test(TREES)
    project.create()
    report = "--specdec-report=out.json"
    project.run(report, ok=True)
    stored, whole = project.stored, reported(project)
    parts = shard(project, report, shards=2)
    for part in parts:
        divided = [work for name, work in ShardPart.read(part).work.items() if "tree " in name]
        assert [0 < len(work.results) < work.units for work in divided] == [True, True]
    assert merge(project, parts).ret == 0
    assert reported(project) == whole
    for folder in ("baselines", ".specdec"):
        shutil.rmtree(project.pytester.path / folder)
    merge(project, shard(project, "--specdec-update=new", shards=2))  # samples the texts
    parts = shard(project, "--specdec-update=new", shards=2)
    no_models()
    assert merge(project, parts).ret == 0
    assert project.stored == stored


def test_a_regression_fails_the_merge_alone_with_the_same_diagnosis(
    project, tmp_path: Path, no_models
) -> None:
    project.create()
    worse = add_noise(project.draft, tmp_path / "worse", 0.1)
    report = [f"--specdec-draft={worse}", "--specdec-depth=0", "--specdec-report=out.json"]
    expected = project.run(*report, ok=False)
    whole = reported(project)
    parts = shard(project, *report)
    no_models()
    merged = merge(project, parts)
    assert merged.ret == expected.ret == 1
    assert reported(project) == whole
    assert any("acceptance fell most at" in line for line in merged.outlines)
    assert [line for line in merged.outlines if line.startswith("E ")] == [
        line for line in expected.outlines if line.startswith("E ")
    ]


def test_new_texts_are_sampled_in_shares_then_measured_in_shares(project, no_models) -> None:
    project.create()
    expected = project.stored
    for folder in ("baselines", ".specdec"):
        shutil.rmtree(project.pytester.path / folder)
    sampled = merge(project, shard(project, "--specdec-update=new"))
    assert sampled.ret == 1
    sampled.stdout.fnmatch_lines(
        ["*newly sampled texts of letters/t1-n24-s0, which are kept now; run all shards once more*"]
    )
    assert not project.stored
    parts = shard(project, "--specdec-update=new")
    no_models()
    assert merge(project, parts).ret == 0
    assert project.stored == expected


def test_a_changed_target_is_judged_in_the_old_contexts(project, tmp_path: Path) -> None:
    project.create()
    other = add_noise(project.target, tmp_path / "other", 0.01)
    options = [f"--specdec-target={other}", "--specdec-report=out.json"]
    project.run(*options)
    whole = reported(project)
    merged = merge(project, shard(project, *options))
    merged.stdout.no_fnmatch_line("*the parts lack*")
    assert reported(project) == whole


def test_parts_must_be_all_once_and_of_one_session(project) -> None:
    project.create()
    parts = shard(project)
    with pytest.raises(RequestError, match=r"shard 2/4, 4/4 is missing; run it"):
        read_parts([parts[0], parts[2]])
    twin = parts[0].with_name("again.part")
    twin.write_bytes(parts[0].read_bytes())
    with pytest.raises(RequestError, match=r"shard 1/4 is there 2 times \(.*again.part\); name"):
        read_parts([*parts, twin])
    other = shard(project, "--specdec-k=4")
    with pytest.raises(RequestError, match=r"not of the same session .*: arguments .*k=4.*; run"):
        read_parts([parts[0], twin, *other[1:]])


@pytest.mark.parametrize(("field", "value"), [("commit", "0" * 40), ("version", "0.0.9")])
def test_a_part_of_another_commit_is_foreign(project, field: str, value: str) -> None:
    project.create()
    parts = shard(project)
    rewritten(parts[1], **{field: value})
    with pytest.raises(RequestError, match=rf"not of the same session .*: {field} {value}"):
        read_parts(parts)


def rewritten(path: Path, **header: object) -> None:
    """The same part with another header."""
    import msgspec

    part = ShardPart.read(path)
    part.header = msgspec.structs.replace(part.header, **header)
    part.write(path)


def test_a_part_of_other_models_is_foreign(project, tmp_path: Path) -> None:
    """The same folder's name, other weights: as on a machine whose checkpoint is stale."""
    project.create()
    parts = shard(project)
    add_noise(project.draft, tmp_path / "other", 0.01)
    kept = tmp_path / "kept"
    shutil.copytree(project.draft, kept)
    try:
        shutil.copytree(tmp_path / "other", project.draft, dirs_exist_ok=True)
        project.run(f"--specdec-shard=2/{SHARDS}", ok=True)
    finally:
        shutil.copytree(kept, project.draft, dirs_exist_ok=True)
    with pytest.raises(RequestError, match="its models, tokenizer or environment are others"):
        read_parts(parts)


def test_prompts_that_changed_since_are_not_judged(project) -> None:
    project.create()
    parts = shard(project)
    project.write_prompts([("all", word) for word in ("other", "words", "here", "now", "again")])
    merged = merge(project, parts)
    assert merged.ret == 1
    merged.stdout.fnmatch_lines(["*the parts lack work on letters/*; run all shards again*"])


def test_a_damaged_part_is_refused(project, tmp_path: Path) -> None:
    project.create()
    (part, *_) = shard(project)
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(RequestError, match=r"is damaged; run its shard again"):
        ShardPart.read(part)
    other = tmp_path / "x.part"
    other.write_text("{}")
    with pytest.raises(RequestError, match="is no part of a session"):
        ShardPart.read(other)
    with pytest.raises(RequestError, match="cannot be read"):
        ShardPart.read(tmp_path / "none.part")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--specdec-shard=0/4"], "*'0/4' is not one of so many shards*write for example 2/4*"),
        (["--specdec-shard=5/4"], "*is not one of so many shards*"),
        (["--specdec-shard=1/2", "--specdec-engine=decode"], "*'decode' cannot be divided;*"),
        (["--specdec-shard=1/2", "--specdec-costs=measure"], "*name a file of costs*"),
        (["--specdec-shard=1/2", "--specdec-keep=hashes"], "*shards measure on texts that are*"),
    ],
)
def test_what_cannot_be_divided_is_refused(project, options: list[str], message: str) -> None:
    result = project.run(*options, ok=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize("way", ["--specdec-shard", "--specdec-ray", "merge"])
def test_workers_of_a_divided_session_are_refused(
    project, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """They would know no parts, and measure again."""
    project.create()
    parts = shard(project, shards=2) if way == "merge" else []
    monkeypatch.setenv("PYTEST_ADDOPTS", "-n1")
    values = {"--specdec-shard": "1/2", "--specdec-ray": "local"}
    result = merge(project, parts) if parts else project.run(f"{way}={values[way]}", ok=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{way} divides the session already; run it without -n, in*"])


def test_merge_within_a_shard_is_refused(project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.create()
    parts = shard(project, shards=2)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--specdec-shard=1/2")
    result = merge(project, parts)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*specdec-shard=1/2 and merge each divide the session; leave*"])
