"""A project that merely has the plugin installed does not notice it."""

from __future__ import annotations

import sys

import pytest

HEAVY = ("torch", "transformers", "numpy", "scipy", "msgspec", "tokenizers", "tqdm")


def test_collecting_imports_nothing_heavy_through_us(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("def test_one(): pass")
    pytester.makeconftest(f"""
import sys

def pytest_unconfigure():
    print("loaded:", sorted(set({HEAVY!r}) & set(sys.modules)))
""")
    for arguments in (["--collect-only"], []):
        result = pytester.runpytest_subprocess("-p", "pytest_specdec.plugin", *arguments)
        result.stdout.fnmatch_lines(["loaded: []"])
        assert "specdec" not in result.stdout.str().replace("plugins: specdec", "")


def test_the_plugin_module_alone_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    code = f"import sys, pytest_specdec.plugin; assert not set({HEAVY!r}) & set(sys.modules)"
    assert pytester.run(sys.executable, "-c", code).ret == 0
