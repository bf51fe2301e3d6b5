"""Documented names of 0.1 still import."""

from __future__ import annotations

import importlib
import sys

import pytest

from pytest_specdec.common.moved import MOVED


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MOVED:
        monkeypatch.delitem(sys.modules, f"pytest_specdec.{name}", raising=False)


@pytest.mark.parametrize("old", MOVED)
def test_an_old_module_still_imports_and_names_its_new_place(old: str) -> None:
    new = importlib.import_module(f"pytest_specdec.{MOVED[old].module}")
    with pytest.warns(
        DeprecationWarning, match=f"pytest_specdec.{old} is deprecated; import {new.__name__}"
    ):
        module = importlib.import_module(f"pytest_specdec.{old}")
    for name in MOVED[old].names:
        assert getattr(module, name) is getattr(new, MOVED[old].names[name])
    public = next(name for name in vars(new) if name[0].isupper())
    assert getattr(module, public) is getattr(new, public)
    with pytest.raises(AttributeError):
        module.nothing  # noqa: B018


def test_the_exact_distribution_has_its_old_name_too() -> None:
    from pytest_specdec import lossless

    with pytest.warns(DeprecationWarning, match="use output_distribution"):
        assert lossless.output_law is lossless.output_distribution


def test_a_public_function_can_be_called_though_its_old_module_was_imported() -> None:
    from pytest_specdec.common.errors import RequestError

    with pytest.warns(DeprecationWarning, match="lossless.conformance is deprecated"):
        importlib.import_module("pytest_specdec.lossless.conformance")
    from pytest_specdec.lossless import conformance

    with pytest.raises(RequestError, match="not valid sampling settings"):
        conformance("nowhere", [], temperature=-1)


def test_other_modules_are_missing_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("pytest_specdec.acceptance.nothing")
