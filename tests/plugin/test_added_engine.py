"""An engine of another package, as docs/add-an-engine.md adds it: found by its entry point, gated and
judged like ours; what is broken is one message.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from helpers.support import ROOT

from pytest_specdec.config.engines import ADAPTERS, ENGINES, engine_name

PAGE = (ROOT / "docs" / "add-an-engine.md").read_text()
ADAPTER, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(PROJECT,) = map(tomllib.loads, re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
COMMAND = re.findall(r"^pytest (\S+ \S+)", PAGE, re.MULTILINE)[-1].split()


class Site:
    """A folder of installed packages."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch
        folder.mkdir()
        monkeypatch.syspath_prepend(folder)

    def install(self, package: str, entry_points: dict[str, str], **modules: str) -> None:
        info = self._folder / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
        (info / "entry_points.txt").write_text(f"[pytest_specdec.engines]\n{lines}")
        for module, source in modules.items():
            self._monkeypatch.delitem(sys.modules, module, raising=False)
            (self._folder / f"{module}.py").write_text(source)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path / "site", monkeypatch)


@pytest.fixture
def my_engine(site: Site) -> None:
    project = PROJECT["project"]
    points = project["entry-points"]["pytest_specdec.engines"]
    site.install(project["name"], points, my_engine_specdec=ADAPTER)


@pytest.mark.usefixtures("my_engine")
def test_the_page_adds_an_engine_that_is_gated(project) -> None:
    test = TEST.replace('"models/target"', "{target!r}").replace('"models/draft"', "{draft!r}")
    project.write_test(test)
    project.create(*COMMAND)
    (path,) = project.baselines
    assert path.endswith("-my-engine.json")
    project.run(*COMMAND, ok=True).assert_outcomes(passed=1)
    refused = project.run(COMMAND[0], "--specdec-temperature=1", ok=False)
    refused.stdout.fnmatch_lines(["*my-engine decodes greedily here; use --specdec-temperature=0*"])


@pytest.mark.usefixtures("my_engine")
def test_an_unknown_name_is_answered_with_all_known_ones(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("--specdec-engine=mine")
    result.stderr.fnmatch_lines(
        ["*'mine' is not one of replay, decode, *trace, my-engine (of my-engine-specdec 1.0);*"]
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_engine", "cannot be imported (ModuleNotFoundError: *no_such_engine*)"),
        ("other = None", "cannot be imported (AttributeError: *"),
        ("def made(setup): raise ValueError('no GPU')", "cannot be created (ValueError: no GPU)"),
        (
            "class made:\n    def __init__(self, setup): ...\n    def run(self, request): ...",
            "has no capabilities, version, close, so it is not an Adapter",
        ),
    ],
)
def test_a_broken_entry_point_is_one_message(
    project, site: Site, source: str, message: str
) -> None:
    site.install("broken", {"broken": "broken_engine:made"}, broken_engine=source)
    output = project.run("--specdec-engine=broken", ok=False).stdout
    output.fnmatch_lines(
        [
            f"*the engine 'broken' of broken 1.0 {message.replace('[', '[[]')}*; repair that "
            "package, whose entry point is broken_engine:made, or uninstall it*"
        ]
    )
    assert "Traceback" not in output.str()


def test_an_engine_that_crashes_is_named_by_its_error_in_reports(project, site: Site) -> None:
    crashing = ADAPTER.replace(
        "target = self", "raise AttributeError('no get')\n        target = self"
    )
    points = PROJECT["project"]["entry-points"]["pytest_specdec.engines"]
    site.install("my-engine-specdec", points, my_engine_specdec=crashing)
    project.write_test(
        TEST.replace('"models/target"', "{target!r}").replace('"models/draft"', "{draft!r}")
    )
    result = project.run(*COMMAND, "--specdec-report=out.json", ok=False)
    (row,) = json.loads((project.pytester.path / "out.json").read_text())["cases"]
    assert (row["verdict"], row["reason"]) == ("error", "AttributeError: no get")
    result.stdout.fnmatch_lines(["*raise AttributeError('no get')*"])


@pytest.mark.parametrize(
    ("packages", "name", "message"),
    [
        (["one"], "trace", "pytest-specdec itself and by one 1.0"),
        (["one", "two"], "mine", "one 1.0 and by two 1.0"),
    ],
)
def test_one_name_for_two_engines_is_refused(
    project, site: Site, packages: list[str], name: str, message: str
) -> None:
    for package in packages:
        site.install(package, {name: "my_engine_specdec:MyEngineAdapter"})
    result = project.run(f"--specdec-engine={name}", ok=False)
    output = result.stdout.str() + result.stderr.str()
    assert f"the engine {name!r} is registered by {message}; uninstall one of them" in output


@pytest.mark.parametrize("name", ["my/engine", "fine.2", "unknown"])
def test_a_name_that_no_file_can_carry_is_refused_whatever_is_asked_for(
    pytester: pytest.Pytester, site: Site, name: str
) -> None:
    site.install("odd", {"my/engine": "odd:made", "fine.2": "odd:made"})
    result = pytester.runpytest(f"--specdec-engine={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*odd 1.0 registers the engine 'my/engine', which is not a usable name; uninstall that*"]
    )


def test_names_of_ours_need_no_look_at_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENGINES, "added", lambda: pytest.fail("looked"))
    assert [engine_name(name) for name in ("replay", *ADAPTERS)] == ["replay", *ADAPTERS]
