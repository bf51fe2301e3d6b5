"""The CI files that quickstart writes, and ours: they fit their schemas, and their steps run in a
shell, where only pip and gh are stand-ins.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.support import EMBEDDED, ROOT

from pytest_specdec.__main__ import main
from pytest_specdec.commands.quickstart import ci_file

SOURCES = ROOT / "pytest_specdec" / "commands" / "quickstart_files"
WORKFLOWS = [*sorted(SOURCES.glob("github*.yml")), *sorted((ROOT / ".github/workflows").glob("*"))]
CHECKED = [
    *((path, "vendor.github-workflows") for path in WORKFLOWS),
    (SOURCES / "gitlab.yml", "vendor.gitlab-ci"),
]
DRAFT = EMBEDDED / "text-draft"
CONTEXT = {
    "github.ref": "refs/pull/7/merge",
    "github.event.pull_request.number": "7",
    "github.token": "token",
    "github.repository": "org/repo",
    "inputs.which": "changed",
    "matrix.python": "3.11",
}


@pytest.mark.parametrize(("path", "schema"), CHECKED, ids=lambda value: Path(value).name)
def test_ci_files_fit_their_schema(path: Path, schema: str) -> None:
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("needs check-jsonschema: pip install -c constraints.txt '.[dev]'")
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_name_only_what_exists(path: Path) -> None:
    """Expressions of known contexts, actions with a version, and no untrusted text in a shell."""
    text = path.read_text()
    for expression in re.findall(r"\$\{\{(.*?)\}\}", text):
        for name in re.findall(r"[a-z]+(?:\.[\w-]+)+", re.sub(r"'[^']*'", "", expression)):
            assert name.partition(".")[0] in {"github", "matrix", "runner", "inputs", "steps"}, name
    for job in yaml.safe_load(text)["jobs"].values():
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert "${{" not in step.get("run", "")
            assert re.search(r"@(v\d+|release/v\d+)$", step.get("uses", "x@v1"))


def test_the_page_shows_the_files_as_they_are() -> None:
    page = (ROOT / "docs" / "ci.md").read_text()
    assert [path.name for path in SOURCES.glob("[!p]*") if path.read_text() not in page] == []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, _warm_python: Path) -> Path:
    """A project that quickstart made, with few prompts and stored baselines."""
    folder = tmp_path_factory.mktemp("made")
    pair = [f"--target={EMBEDDED / 'text-target'}", f"--draft={DRAFT}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "executable", str(_warm_python))
        assert main(["quickstart", *pair, "--k=4", "--new-tokens=48"]) == 0
        prompts = folder / "suites" / "chat" / "prompts.jsonl"
        prompts.write_text("".join(prompts.read_text().splitlines(keepends=True)[::3]))
        shell(folder, "pytest suites --specdec-update=new")
    return folder


@pytest.fixture
def project(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_processes: None
) -> Path:
    """A copy of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(folder: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A step, with this environment's commands and stand-ins for pip and gh that write down what
    they are asked.
    """
    tools = folder / ".tools"
    tools.mkdir(exist_ok=True)
    for name, body in (
        ("pip", 'echo "pip $*" >> "$RECORD"'),
        ("gh", 'echo "gh $*" >> "$RECORD"'),
        ("srun", 'exec "$@"'),
        ("pytest", f'exec "{sys.executable}" -m pytest -p no:cacheprovider "$@"'),
        ("python", f'exec "{sys.executable}" "$@"'),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", command],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "RECORD": str(folder / "record"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            "RUNNER_TEMP": str(tools),
            "GIT_CONFIG_GLOBAL": os.devnull,
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def steps(folder: Path, name: str) -> dict[str, int]:
    """Exit status of each `run` step of a workflow; later steps run although one failed."""
    (job,) = yaml.safe_load(ci_file(name))["jobs"].values()
    found = {}
    for step in job["steps"]:
        if "run" in step:
            given = {
                key: CONTEXT[value.strip("${} ")] for key, value in step.get("env", {}).items()
            }
            found[step["name"]] = shell(folder, step["run"], **given).returncode
    return found


@pytest.mark.slow
def test_the_steps_on_github_gate_summarise_and_comment(project: Path) -> None:
    assert set(steps(project, "github.yml").values()) == {0}
    assert "| pass" in (project / "summary.md").read_text()
    record = (project / "record").read_text()
    assert "pip install pytest-specdec[models,plots]" in record
    assert "gh pr comment 7 --edit-last --create-if-none --body-file specdec.md" in record
    assert {path.name for path in project.glob("specdec.*")} == {
        "specdec.html",
        "specdec.json",
        "specdec.md",
        "specdec.xml",
    }


@pytest.mark.slow
def test_a_worse_draft_fails_the_gate_alone_and_its_diagnosis_is_shown(project: Path) -> None:
    subprocess.run(
        [sys.executable, ROOT / "benchmarks/add_noise.py", DRAFT, project / "worse"],
        check=True,
        capture_output=True,
    )
    done = steps_with(project, f"--specdec-draft={project / 'worse'}")
    assert done == {"Install": 0, "Gate": 1, "Summary": 0, "Comment": 0}
    assert "conditional acceptance fell" in (project / "summary.md").read_text()


def steps_with(folder: Path, option: str) -> dict[str, int]:
    """The steps of the gate where the ini file adds an option."""
    (folder / "pytest.ini").write_text(f"[pytest]\ntestpaths = suites\naddopts = {option}\n")
    return steps(folder, "github.yml")


@pytest.mark.slow
def test_the_steps_of_an_update_commit_what_changed(project: Path) -> None:
    remote = project.parent / f"{project.name}.git"
    setup = (
        f"git init -q --bare {remote} && git init -q -b main && git config user.name a && "
        f"git config user.email a@b && git remote add origin {remote} && git add suites baselines "
        "&& git commit -qm first && git push -qu origin main"
    )
    assert shell(project, setup).returncode == 0
    subprocess.run(
        [sys.executable, ROOT / "benchmarks/add_noise.py", DRAFT, project / "worse"],
        check=True,
        capture_output=True,
    )
    (project / "pytest.ini").write_text(f"[pytest]\naddopts = --specdec-draft={project}/worse\n")
    done = steps(project, "github-update.yml")
    assert set(done.values()) == {0}, done
    log = shell(project, "git log --oneline origin/main").stdout
    assert "Update baselines of speculative decoding" in log
    assert "drafter: " in (project / "summary.md").read_text()


@pytest.mark.slow
def test_the_scripts_of_gitlab_jenkins_and_slurm_run(project: Path) -> None:
    (job,) = [
        value for value in yaml.safe_load(ci_file("gitlab.yml")).values() if "script" in value
    ]
    for line in job["script"]:
        assert shell(project, line).returncode == 0
    for line in re.findall(r"sh '(.*)'", ci_file("Jenkinsfile")):
        command = line.replace(".venv/bin/", "")
        if "venv" not in command:
            assert shell(project, command).returncode == 0
    batch = shell(project, ci_file("specdec.sbatch"), SLURM_SUBMIT_DIR=str(project))
    assert "2 passed" in batch.stdout or "1 passed" in batch.stdout, batch.stdout
