"""Draw the map in ARCHITECTURE.md from the import contracts in pyproject.toml.

python benchmarks/architecture_map.py
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
PACKAGE = "pytest_specdec"
DRAWN = re.compile(r"(<!-- architecture_map.py -->\n```mermaid\n).*?(\n```)", re.DOTALL)


def contracts() -> list[dict[str, object]]:
    """The contracts of import-linter."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed: list[dict[str, object]] = settings["tool"]["importlinter"]["contracts"]
    return listed


def layers(container: str = PACKAGE) -> list[list[str]]:
    """Names of the rooms in a container, layer by layer, the uppermost first."""
    for contract in contracts():
        if contract["type"] != "layers":
            continue
        inside = contract.get("containers")
        named = [
            [name.strip() for name in layer.split("|")]
            for layer in contract["layers"]  # type: ignore[attr-defined]
        ]
        if inside == [container]:
            return named
        if inside is None and container == PACKAGE:
            return [[name.removeprefix(f"{PACKAGE}.") for name in names] for names in named]
    return []


def without(library: str) -> set[str]:
    """Rooms that a contract forbids to import a library."""
    return {
        room.removeprefix(f"{PACKAGE}.")
        for contract in contracts()
        if contract["type"] == "forbidden" and library in contract["forbidden_modules"]  # type: ignore[operator]
        for room in contract["source_modules"]  # type: ignore[attr-defined]
    }


def drawing() -> Iterator[str]:
    """Lines of Mermaid: a node for each layer, the rooms of a room beside it."""
    yield "flowchart TB"
    names = layers()
    plain = without("torch")
    for number, rooms in enumerate(names):
        yield f'    l{number}["{" &nbsp; ".join(rooms)}"]'
    for number in range(len(names) - 1):
        yield f"    l{number} --> l{number + 1}"
    for number, rooms in enumerate(names):
        for room in rooms:
            if inner := layers(f"{PACKAGE}.{room}"):
                yield from _inside(number, room, inner)
    yield "    classDef plain fill:#ddf4ff,stroke:#0550ae,color:#1f2328"
    listed = [f"l{number}" for number, rooms in enumerate(names) if plain.issuperset(rooms)]
    yield f"    class {','.join(listed)} plain"


def _inside(number: int, room: str, inner: list[list[str]]) -> Iterator[str]:
    yield f'    subgraph {room}_rooms["inside {room}"]'
    yield "        direction TB"
    for at, rooms in enumerate(inner):
        yield f'        {room}{at}["{" &nbsp; ".join(rooms)}"]'
    for at in range(len(inner) - 1):
        yield f"        {room}{at} --> {room}{at + 1}"
    yield "    end"
    yield f"    l{number} -.- {room}_rooms"


def drawn(page: str) -> str:
    """The page with the map drawn anew."""
    changed, count = DRAWN.subn(lambda found: found[1] + "\n".join(drawing()) + found[2], page)
    if count != 1:
        raise SystemExit(f"{PAGE}: expected one map, found {count}")
    return changed


def main() -> None:
    PAGE.write_text(drawn(PAGE.read_text()))


if __name__ == "__main__":
    main()
