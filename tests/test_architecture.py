"""ARCHITECTURE.md fits the code: the map, the rooms, and each hop of a case's path."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import architecture_map
import pytest
from helpers.support import ROOT

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
PACKAGE = ROOT / "pytest_specdec"
SINGLE_CALLS = {"judging/report_rows.py: empty_row"}
"""Functions of one call with many keyword arguments."""
HOPS = re.findall(r"`([\w/]+\.py): (\w+)(?:\.(\w+))?`", PAGE)


def test_the_map_is_drawn_from_the_import_contracts() -> None:
    assert architecture_map.drawn(PAGE) == PAGE, "run python benchmarks/architecture_map.py"


def test_the_map_knows_layers_and_rooms_without_torch() -> None:
    assert architecture_map.layers()[1:3] == [
        ["session", "commands"],
        ["judging", "doctor", "output"],
    ]
    assert ["adapters"] in architecture_map.layers("pytest_specdec.engines")
    assert "gate" in architecture_map.without("torch")
    assert "decoding" not in architecture_map.without("torch")


def test_the_table_names_every_room_in_the_order_of_the_layers() -> None:
    rooms = [room for layer in architecture_map.layers() for room in layer]
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == rooms


@pytest.mark.parametrize("hop", HOPS, ids=lambda hop: f"{hop[0]}:{hop[1]}.{hop[2]}".rstrip("."))
def test_every_hop_exists(hop: tuple[str, str, str]) -> None:
    file, name, member = hop
    body = ast.parse((PACKAGE / file).read_text()).body
    defined = _defined(body)
    assert name in defined
    if member:
        owner = defined[name]
        assert isinstance(owner, ast.ClassDef)
        assert member in _defined(owner.body)


def test_the_path_has_a_hop_in_every_room_that_a_replayed_case_crosses() -> None:
    rooms = {Path(file).parts[0] for file, _, _ in HOPS}
    assert rooms >= {"config", "session", "judging", "engines", "decoding", "acceptance", "gate"}


def test_files_that_must_not_be_touched_exist() -> None:
    section = PAGE.partition("## What must not be touched")[2]
    for folder, listed in re.findall(r"^- `(\w+(?:/\w+)*)/`: ([^\n]*)", section, re.M):
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", listed):
            assert (PACKAGE / folder / name).exists(), f"{folder}/{name}"


def _defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Definitions of a module or class by name, assignments included."""
    names: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = node
        elif isinstance(node, ast.Assign):
            names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return names


def _modules() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in _modules()}
    assert {path.name: length for path, length in lengths.items() if length > 400} == {}


def test_no_function_is_longer_than_50_lines() -> None:
    long = {
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path, module in _modules().items()
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef) and _lines_of(node) > 50
    }
    assert long <= SINGLE_CALLS


def test_no_class_name_is_used_twice() -> None:
    names = Counter(
        node.name
        for module in _modules().values()
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, times in names.items() if times > 1] == []


def _lines_of(function: ast.FunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    first, *others = function.body
    if others and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        first = others[0]
    return (function.end_lineno or 0) - first.lineno + 1
