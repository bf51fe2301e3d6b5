"""Windows and macOS: no call that only POSIX has, texts in UTF-8 everywhere, and odd paths."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_specdec.baselines.store import load, load_baseline
from pytest_specdec.baselines.update import recover, update
from pytest_specdec.records.record import Record

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pytest_specdec"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
"""Of the standard library, for POSIX alone."""
CALLS = {
    "os": {"fork", "geteuid", "getuid", "getpgid", "killpg", "mkfifo", "nice", "setsid", "setuid", "uname", "wait", "chown", "getloadavg", "sched_getaffinity"},
    "signal": {"SIGALRM", "SIGKILL", "SIGHUP", "SIGUSR1", "alarm", "setitimer", "pause"},
    "time": {"tzset"},
    "socket": {"AF_UNIX"},
}  # fmt: skip


def problems(tree: ast.AST) -> Iterator[str]:
    """What Windows does not have; `hasattr` and `getattr` before a use are seen as its guard."""
    names = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("hasattr", "getattr")
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.partition(".")[0] in MODULES)
        if isinstance(node, ast.ImportFrom) and (node.module or "") in MODULES:
            yield str(node.module)
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.attr in CALLS.get(node.value.id, ())
            and node.attr not in names
        ):
            yield f"{node.value.id}.{node.attr}"
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith(("/tmp", "/dev/", "/proc/", "/etc/"))
        ):
            yield node.value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            words = {word.arg for word in node.keywords}
            if name == "write_text" and "encoding" not in words:
                yield "write_text without encoding"
            if name == "read_text" and isinstance(node.func, ast.Attribute) and not words:
                yield "read_text without encoding"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_needs_posix(path: Path) -> None:
    assert list(problems(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_the_search_sees_what_windows_lacks() -> None:
    code = (
        "import fcntl, os, signal\nos.fork()\nsignal.alarm(3)\np.write_text(x)\np.read_text()\n"
        "open('/dev/null')\nhasattr(os, 'getuid') and os.getuid()\n"
    )
    assert sorted(problems(ast.parse(code))) == [
        "/dev/null",
        "fcntl",
        "os.fork",
        "read_text without encoding",
        "signal.alarm",
        "write_text without encoding",
    ]


BLOCKED = """
import os, pkgutil, sys
for name in {modules!r}:
    sys.modules[name] = None
for name in {calls!r}:
    if hasattr(os, name):
        delattr(os, name)
import pytest_specdec.baselines.update, pytest_specdec.session.session, pytest_specdec.judging.runner
import pytest_specdec.commands.baseline, pytest_specdec.report, pytest_specdec.gate.judge
"""


@pytest.mark.slow
def test_the_torch_free_half_imports_without_posix() -> None:
    """In a process that has lost what POSIX alone has; other packages are loaded before."""
    code = (
        "import filelock, jinja2, msgspec, numpy, pytest, scipy.stats, tqdm, importlib.metadata\n"
    )
    code += BLOCKED.format(modules=sorted(MODULES - {"posix"}), calls=sorted(CALLS["os"]))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


ODD = (
    "with spaces  and 'quotes'",
    "ünïcödé-目録-🙂",
    "e\u0301 decomposed",
    "-leading-dash",
    "percent%20and#hash",
    "a" * 100 + "/" + "b" * 100,
    ".hidden",
)


@pytest.mark.parametrize("name", ODD)
def test_baselines_lie_in_odd_folders(tmp_path: Path, name: str) -> None:
    stored = next((ROOT / "baselines" / "text").glob("*.json"))
    folder = tmp_path / name / "baselines"
    text = stored.read_text(encoding="utf-8")
    update(folder, {folder / "text" / stored.name: text})
    assert load(folder / "text" / stored.name, Record) == load_baseline(stored)
    assert (folder / "text" / stored.name).read_bytes() == text.encode()
    assert recover(folder) == []
    update(folder, {folder / "text" / stored.name: None})
    assert not list(folder.rglob("*.json"))


def test_windows_line_ends_are_read_as_written_files_are(tmp_path: Path) -> None:
    """Whoever lets git change line ends reads the same baseline."""
    stored = next((ROOT / "baselines" / "text").glob("*.json"))
    (tmp_path / "a.json").write_bytes(stored.read_bytes().replace(b"\n", b"\r\n"))
    assert load(tmp_path / "a.json", Record) == load_baseline(stored)


@pytest.mark.parametrize("folder", ["baselines", "suites"])
def test_stored_names_are_names_on_windows(folder: str) -> None:
    reserved = {"con", "prn", "aux", "nul", *(f"{n}{i}" for n in ("com", "lpt") for i in range(10))}
    for path in (ROOT / folder).rglob("*"):
        relative = path.relative_to(ROOT)
        assert not set('<>:"|?*\\') & set(path.name), relative
        assert path.name.partition(".")[0].casefold() not in reserved, relative
        assert path.name == path.name.rstrip(". "), relative
        assert len(os.fsencode(str(relative))) < 180, relative
    names = [str(path).casefold() for path in (ROOT / folder).rglob("*")]
    assert len(names) == len(set(names))


def test_ci_runs_windows_and_macos() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "windows-latest" in workflow
    assert "macos-latest" in workflow
