"""The public names of the lossless package: all there, and their docstrings' examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest
from helpers.support import ROOT

from pytest_specdec import lossless

FUNCTIONS = (
    "assert_lossless",
    "assert_lossless_generation",
    "assert_q_contract",
    "conformance",
    "flat_batch",
    "output_distribution",
    "q_contract",
)


@pytest.mark.parametrize("name", lossless.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(lossless, name) is not None


def test_the_old_names_lead_to_the_new_ones() -> None:
    with pytest.warns(DeprecationWarning, match="use LosslessResult"):
        assert lossless.Checked is lossless.LosslessResult


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_docstring_names_every_parameter_and_its_example_runs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(f"{lossless.__name__}.{lossless._HOMES[name]}")
    function = getattr(module, name)
    described = (function.__doc__ or "").split("Parameters\n", 1)[1].split("Returns\n", 1)[0]
    assert [
        parameter
        for parameter in inspect.signature(function).parameters
        if parameter not in described
    ] == []
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, module=module)
    result = doctest.DocTestRunner(verbose=False).run(example)
    assert result.attempted >= 3
    assert result.failed == 0
