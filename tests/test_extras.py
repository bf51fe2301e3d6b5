"""Without the extra `models`: one message that names it, wherever torch would have been
imported.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.support import ROOT
from helpers.tiers import exhaustive

from pytest_specdec.common.errors import EXTRAS, MissingExtraError, RequestError, naming_extras

WITHOUT = """
import sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Gone())
"""
"""Python code after which no package of an extra can be imported."""
MESSAGE = "torch is not installed; pip install 'pytest-specdec[models]'"
TARGET, DRAFT = (str(ROOT / "suites" / "models" / f"text-{role}") for role in ("target", "draft"))


PROMPTS = "suites/text/prompts.jsonl"


def without(code: str, extra: str = "models") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(packages=EXTRAS[extra]) + code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["costs", "--target", TARGET],
        [
            "policies",
            "--target",
            TARGET,
            "--draft",
            DRAFT,
            "--prompts",
            PROMPTS,
            "--costs",
            "suites/text/costs.json",
        ],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_name_the_extra_in_one_line(arguments: list[str]) -> None:
    done = without(f"from pytest_specdec.__main__ import main\nsys.exit(main({arguments!r}))")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {MESSAGE}\n")


def test_imports_name_the_extra_and_are_import_errors() -> None:
    done = without(
        "from pytest_specdec import advise, load_baseline, speedup_table\n"
        "for name in ('decode', 'replay'):\n"
        "    try:\n"
        "        exec(f'from pytest_specdec import {name}')\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    assert done.stdout.splitlines() == [MESSAGE] * 2, done.stderr
    uncaught = without("from pytest_specdec import decode").stderr.splitlines()
    assert uncaught[-1].endswith(MESSAGE)
    assert len(uncaught) <= 12


@pytest.mark.parametrize(
    ("engine", "status", "message"),
    [
        ("replay", 4, f"ERROR: {MESSAGE}"),
        (
            "transformers",
            1,
            f"--specdec-engine=transformers: {MESSAGE}, or record a trace elsewhere",
        ),
    ],
    ids=["replay", "transformers"],
)
def test_a_gate_names_the_extra_in_place_of_a_traceback(
    engine: str, status: int, message: str, tmp_path: Path
) -> None:
    test = (
        "import pytest\n"
        f"@pytest.mark.specdec(target={TARGET!r}, drafter={DRAFT!r}, k=[4], temperature=0)\n"
        "def test_draft(specdec_run, specdec_baseline):\n"
        "    assert specdec_run == specdec_baseline\n"
    )
    (tmp_path / "test_it.py").write_text(test)
    (tmp_path / "prompts.jsonl").write_text('{"category": "all", "prompt": "a"}\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [
        "-p",
        "no:cacheprovider",
        "-q",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
        f"--specdec-engine={engine}",
    ]
    done = without(f"import pytest\nsys.exit(pytest.main({command!r}))")
    assert done.returncode == status
    lines = (done.stdout + done.stderr).splitlines()
    assert lines.count(message) == 1, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "ModuleNotFoundError" not in done.stdout + done.stderr


@pytest.mark.parametrize("engine", [exhaustive("vllm"), "logprobs"])
def test_engines_at_a_server_name_the_extra(engine: str, tmp_path: Path) -> None:
    test = (
        "import pytest\n"
        f"@pytest.mark.specdec(target={TARGET!r}, drafter={DRAFT!r}, k=[4], temperature=0)\n"
        "def test_draft(specdec_run): ...\n"
    )
    (tmp_path / "test_it.py").write_text(test)
    (tmp_path / "prompts.jsonl").write_text('{"category": "all", "prompt": "a"}\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [
        *("-p", "no:cacheprovider", "-q", "--rootdir", str(tmp_path), str(tmp_path)),
        f"--specdec-engine={engine}",
        "--specdec-url=http://127.0.0.1:9",
        "--specdec-draft-url=http://127.0.0.1:9",
    ]
    done = without(f"import pytest\nsys.exit(pytest.main({command!r}))", "servers")
    assert done.returncode == 1
    assert "urllib3 is not installed; pip install 'pytest-specdec[servers]'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


SKIPPED = """
import pytest
PAIR = dict(target={target!r}, drafter={draft!r}, k=[4, 8], temperature=0)

@pytest.mark.skipif(True, reason="there is no torch here")
@pytest.mark.specdec(**PAIR)
def test_skipped(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline

@pytest.mark.specdec(**PAIR)
def test_of_the_case_alone(specdec_case):
    assert specdec_case.k
"""


def test_tests_that_need_no_engine_run_without_the_extra(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SKIPPED.format(target=TARGET, draft=DRAFT))
    (tmp_path / "prompts.jsonl").write_text('{"category": "all", "prompt": "a"}\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = without(
        f"import pytest\nsys.exit(pytest.main({['-p', 'no:cacheprovider', '--rootdir', *[str(tmp_path)] * 2]!r}))"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed, 2 skipped" in done.stdout


def test_a_package_that_is_too_old_is_not_called_missing() -> None:
    message = r"transformers here is too old .*; pip install -U 'pytest-specdec\[models\]'"
    with pytest.raises(MissingExtraError, match=message), naming_extras():
        raise ImportError("cannot import name 'MtpModel' from 'transformers'", name="transformers")


def test_what_no_extra_brings_is_left_alone() -> None:
    for name in ("vllm", None):
        with pytest.raises(ImportError) as caught, naming_extras():
            raise ModuleNotFoundError("No module named 'vllm'", name=name)
        assert not isinstance(caught.value, RequestError)
