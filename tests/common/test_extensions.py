"""Engines, drafters and verification rules of other packages are found and refused in the same way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from helpers.packages import installed

from pytest_specdec.cases.drafter import DRAFTER_TYPES
from pytest_specdec.cases.rules import VERIFICATION_RULES
from pytest_specdec.common.errors import RequestError
from pytest_specdec.common.extensions import Registry
from pytest_specdec.config.engines import ENGINES

Install = Callable[..., None]


@pytest.fixture(
    params=[ENGINES, DRAFTER_TYPES, VERIFICATION_RULES], ids=lambda registry: registry.group
)
def registry(request: pytest.FixtureRequest) -> Registry:
    found: Registry = request.param
    return found


@pytest.fixture
def install(tmp_path: Path, registry: Registry) -> Iterator[Install]:
    """Installs a package of one module under the registry's group."""
    with ExitStack() as packages:

        def package(module: str, *points: str, source: str = "thing = 'thing'") -> None:
            entry: AbstractContextManager[None] = installed(
                tmp_path / module, module, source, {registry.group: "\n".join(points)}
            )
            packages.enter_context(entry)

        yield package


def refusal(registry: Registry, name: str) -> str:
    with pytest.raises(RequestError) as refused:
        registry.load(name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_registered_name_is_known_and_imported_when_it_is_loaded(
    registry: Registry, install: Install
) -> None:
    assert "added-1.x_y" not in registry
    install("added", "added-1.x_y = added:thing")
    assert "added-1.x_y" in registry
    assert list(registry) == [*registry.built_in, "added-1.x_y"]
    assert "added" not in sys.modules
    assert registry.load("added-1.x_y") == "thing"


@pytest.mark.parametrize("name", ["a/b", "Upper", "-first", "a" * 41, "two words"])
def test_an_unusable_name_is_refused_whatever_is_asked_for(
    registry: Registry, install: Install, name: str
) -> None:
    install("odd", f"{name} = odd:thing", "fine = odd:thing")
    expected = (
        f"odd 1.0 registers the {registry.noun} {name!r}, which is not a usable name; uninstall that "
        "package, or let it use at most 40 lower-case letters, digits, '.', '_' and '-'"
    )
    assert refusal(registry, "fine") == expected
    assert refusal(registry, next(iter(registry.built_in))) == expected
    with pytest.raises(RequestError):
        assert "unknown" in registry


def test_a_name_of_two_packages_is_refused_whatever_is_asked_for(
    registry: Registry, install: Install
) -> None:
    install("one", "same = one:thing", "fine = one:thing")
    install("two", "same = one:thing")
    expected = (
        f"the {registry.noun} 'same' is registered by one 1.0 and by two 1.0; uninstall one of "
        "them, or let it use another name"
    )
    assert [refusal(registry, name) for name in ("same", "fine")] == [expected] * 2


def test_a_name_that_one_package_registers_for_two_things_is_refused(
    registry: Registry, install: Install
) -> None:
    install("one", "same = one:thing", "same = one:other")
    assert "'same' is registered by one 1.0 and by one 1.0" in refusal(registry, "same")


def test_a_name_of_ours_is_refused_to_other_packages(registry: Registry, install: Install) -> None:
    ours = [*registry.built_in, *registry.reserved][-1]
    install("one", f"{ours} = one:thing", "fine = one:thing")
    expected = (
        f"the {registry.noun} {ours!r} is registered by pytest-specdec itself and by one 1.0; "
        "uninstall one of them, or let it use another name"
    )
    assert refusal(registry, "fine") == expected
    assert refusal(registry, next(iter(registry.built_in))) == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_"),
        ("other = 1", "AttributeError: module 'broken' has no attribute 'thing'"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    ],
)
def test_a_failed_import_names_the_package(
    registry: Registry, install: Install, source: str, reason: str
) -> None:
    install("broken", "bad = broken:thing", source=source)
    message = refusal(registry, "bad")
    assert message.startswith(
        f"the {registry.noun} 'bad' of broken 1.0 cannot be imported ({reason}"
    )
    assert message.endswith(
        "; repair that package, whose entry point is broken:thing, or uninstall it"
    )


def test_a_name_of_ours_is_known_without_a_look_at_other_packages(
    registry: Registry, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pytest_specdec.common.extensions.entry_points", lambda **_: pytest.fail("looked")
    )
    assert all(name in registry for name in registry.built_in)
