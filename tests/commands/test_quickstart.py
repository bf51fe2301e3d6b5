"""`python -m pytest_specdec quickstart`: files for a pair of models, none overwritten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.support import EMBEDDED

from pytest_specdec.__main__ import main
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.commands import quickstart

TARGET, DRAFT = (EMBEDDED / f"text-{role}" for role in ("target", "draft"))
PAIR = ["--target", str(TARGET), "--draft", str(DRAFT)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".safetensors" and "models" not in path.parts
    }


def test_a_pair_gets_a_suite_prompts_and_a_ci_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quickstart", *PAIR]) == 0
    written = files(folder)
    assert sorted(written) == [
        ".github/workflows/specdec.yml",
        "pytest.ini",
        "suites/chat/prompts.jsonl",
        "suites/chat/test_acceptance.py",
    ]
    compile(written["suites/chat/test_acceptance.py"], "test", "exec")
    prompts = read_prompts(folder / "suites" / "chat" / "prompts.jsonl")
    assert len(prompts) == 32
    assert len({prompt.category for prompt in prompts}) == 4
    said = capsys.readouterr().out
    assert all(f"written: {name}\n" in said for name in written)
    assert "  pytest suites --specdec-update=new\n" in said


@pytest.mark.parametrize("system", quickstart.CI_FILES)
def test_each_system_gets_its_file(folder: Path, system: str) -> None:
    assert main(["quickstart", *PAIR, f"--ci={system}"]) == 0
    places = quickstart.CI_FILES[system]
    assert {files(folder)[place] for place in places.values()} == set(
        map(quickstart.ci_file, places)
    )


def test_nothing_is_overwritten_and_nothing_half_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = folder / ".github" / "workflows" / "specdec.yml"
    ours.parent.mkdir(parents=True)
    ours.write_text("ours")
    assert main(["quickstart", *PAIR]) == 2
    assert files(folder) == {".github/workflows/specdec.yml": "ours"}
    assert "is there already, and quickstart overwrites nothing" in capsys.readouterr().err
    assert main(["quickstart", *PAIR, "--ci=none"]) == 0
    before = files(folder)
    assert main(["quickstart", *PAIR, "--ci=none"]) == 2
    assert files(folder) == before


def test_files_of_a_failed_write_are_taken_back(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(quickstart.RequestError, match="cannot be written"):
        quickstart.write_new({folder / "a": "1", folder / "file" / "b": "2"})
    assert files(folder) == {"file": ""}


def test_models_in_the_project_are_named_from_the_suite(folder: Path) -> None:
    for model in (TARGET, DRAFT):
        shutil.copytree(model, folder / "models" / model.name)
    (folder / "pyproject.toml").write_text("")
    pair = ["--target=models/text-target", "--draft=models/text-draft", "--k=2,3"]
    assert main(["quickstart", *pair, "--suite=text", "--ci=none"]) == 0
    written = files(folder)
    assert "pytest.ini" not in written
    test = written["suites/text/test_acceptance.py"]
    assert 'target="../../models/text-target"' in test
    assert 'drafter="../../models/text-draft"' in test
    assert "k=[2, 3]" in test


def test_a_chat_template_makes_messages(folder: Path) -> None:
    shutil.copytree(TARGET, folder / "chat")
    (folder / "chat" / "chat_template.jinja").write_text("{{ messages }}")
    assert main(["quickstart", "--target=chat", f"--draft={DRAFT}", "--ci=none"]) == 0
    first = json.loads((folder / "suites/chat/prompts.jsonl").read_text().splitlines()[0])
    assert first["messages"][0]["role"] == "user"


def test_own_heads_draft_with_all_layers_and_hub_ids_stay(folder: Path) -> None:
    assert main(["quickstart", f"--target={TARGET}", "--draft=mtp", "--ci=none"]) == 0
    assert "depth=[3]" in (folder / "suites/chat/test_acceptance.py").read_text()
    hub = ["--target=org/target-8b", "--draft=org/draft-1b", "--suite=hub", "--ci=none"]
    assert main(["quickstart", *hub]) == 0
    assert 'target="org/target-8b"' in (folder / "suites/hub/test_acceptance.py").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no target is named; pass --target=PATH"),
        (["--target=org/t"], "no draft is named; pass --draft=PATH"),
        (["--target=./none", "--draft=mtp"], "--target=./none is no folder and no hub id"),
        (["--target=org/t", "--draft=a b/c"], "--draft=a b/c is no folder and no hub id"),
        (["--target=org/t", "--draft=mtp", "--k=0"], "--k or --new-tokens: '0' is not a whole"),
        (["--target=org/t", "--draft=mtp", "--suite=../x"], "--suite=../x is no name"),
        (["--target=.", "--draft=mtp"], "config.json"),
    ],
)
def test_bad_requests_are_named_and_write_nothing(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quickstart", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert files(folder) == {}


def test_it_asks_where_somebody_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([str(TARGET), str(DRAFT), "gitlab"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert main(["quickstart"]) == 0
    assert ".gitlab-ci.yml" in files(folder)
