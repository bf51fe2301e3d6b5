"""Trees of drafts: several continuations that the target verifies in one pass.

A static tree is a list of nodes, each the child of a node before it or of the root, the last
emitted token. A dynamic tree grows by the drafter's own probabilities (EAGLE-2, arXiv 2406.16858).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, get_args

from ..common.errors import RequestError

Children = Literal["top-k", "sampled", "replacement"]
"""How the children of a node are drafted.

`top-k`: the drafter's likeliest tokens in their order, nothing is random. `sampled`: drawn one
after the other, never the same token twice. `replacement`: drawn independently.
"""
CHILDREN: tuple[Children, ...] = get_args(Children)
ROOT = -1
"""The parent of the nodes that follow the last emitted token."""
MOST_NODES = 1024
MOST_WIDTH = 64
"""Most children of a node."""


@dataclasses.dataclass(frozen=True)
class StaticTree:
    """A tree of a fixed shape. Raises RequestError for parents that come after their children.

    Examples
    --------
    The likeliest two tokens, and the likeliest one after the first:

    >>> tree = StaticTree.of_paths([[0], [1], [0, 0]])
    >>> tree.parents, tree.depths, tree.places
    ((-1, -1, 0), (1, 1, 2), (0, 1, 0))
    """

    parents: tuple[int, ...]
    """(nodes,): each node's parent, a node before it, or `ROOT`."""
    children: Children = "top-k"

    def __post_init__(self) -> None:
        if not self.parents or len(self.parents) > MOST_NODES:
            raise RequestError(f"a tree has {len(self.parents)} nodes; give it 1 to {MOST_NODES}")
        if any(not ROOT <= parent < node for node, parent in enumerate(self.parents)):
            raise RequestError(
                f"the tree's parents are {list(self.parents)}; each must be the number of a node "
                f"before its child, or {ROOT} for the root"
            )
        if max(self.places) >= MOST_WIDTH:
            raise RequestError(f"a node of the tree has more than {MOST_WIDTH} children; cut them")
        check_children(self.children)

    @classmethod
    def of_paths(cls, paths: Iterable[Sequence[int]], children: Children = "top-k") -> StaticTree:
        """A tree of paths of places: `[0, 1]` is the second child of the first child of the root,
        as Medusa writes its trees. Raises RequestError for a path whose parent or elder sibling is
        missing.
        """
        ordered = sorted({tuple(path) for path in paths}, key=lambda path: (len(path), path))
        numbers = {path: node for node, path in enumerate(ordered)}
        numbers[()] = ROOT
        for path in ordered:
            if not path or min(path) < 0:
                raise RequestError(
                    f"the tree's path {_short(path)} names no node; write places from 0, as in "
                    "[0, 1]"
                )
            needed = [path[:-1], *([(*path[:-1], path[-1] - 1)] * (path[-1] > 0))]
            if missing := [other for other in needed if other not in numbers]:
                raise RequestError(
                    f"the tree has the path {_short(path)} and not {_short(missing[0])}; add it"
                )
        return cls(tuple(numbers[path[:-1]] for path in ordered), children)

    @classmethod
    def chain(cls, k: int, children: Children = "top-k") -> StaticTree:
        """One path of k drafts."""
        return cls(tuple(range(-1, k - 1)), children)

    @property
    def nodes(self) -> int:
        return len(self.parents)

    @functools.cached_property
    def depths(self) -> tuple[int, ...]:
        """(nodes,): 1 for the root's children."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent == ROOT else depths[parent] + 1)
        return tuple(depths)

    @property
    def depth(self) -> int:
        """Most drafts that a round can accept."""
        return max(self.depths)

    @functools.cached_property
    def places(self) -> tuple[int, ...]:
        """(nodes,): how many siblings come before each node."""
        seen: dict[int, int] = {}
        places = []
        for parent in self.parents:
            places.append(seen.get(parent, 0))
            seen[parent] = places[-1] + 1
        return tuple(places)

    @property
    def width(self) -> int:
        """Most children of a node."""
        return max(self.places) + 1

    @property
    def widths(self) -> tuple[int, ...]:
        """(depth,): nodes by depth."""
        return tuple(self.depths.count(depth) for depth in range(1, self.depth + 1))

    @property
    def parents_read(self) -> int:
        """Nodes with children: the drafter reads them to go on."""
        return len(set(self.parents) - {ROOT})

    @functools.cached_property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """(nodes,): each node's path of places."""
        paths: list[tuple[int, ...]] = []
        for parent, place in zip(self.parents, self.places, strict=True):
            paths.append((*(() if parent == ROOT else paths[parent]), place))
        return tuple(paths)

    def children_of(self, node: int) -> tuple[int, ...]:
        """The numbers of a node's children, in their order."""
        return tuple(child for child, parent in enumerate(self.parents) if parent == node)

    def cut(self, depth: int) -> StaticTree | None:
        """The tree without its nodes below a depth; None where none is left."""
        if depth >= self.depth:
            return self
        if depth < 1:
            return None
        paths = [path for path in self.paths if len(path) <= depth]
        return StaticTree.of_paths(paths, self.children)

    @property
    def name(self) -> str:
        """For file names: `tree16x5-1f0c3a`, 16 nodes, 5 deep, and a hash of the shape."""
        shape = hashlib.sha256(repr(sorted(self.paths)).encode()).hexdigest()[:6]
        how = f"-{self.children}" * (self.children != "top-k")
        return f"tree{self.nodes}x{self.depth}-{shape}{how}"

    def __str__(self) -> str:
        paths = " ".join(".".join(map(str, path)) for path in self.paths)
        return f"{paths} {self.children}" if self.children != "top-k" else paths


@dataclasses.dataclass(frozen=True)
class DynamicTree:
    """A tree that the drafter's own probabilities shape in every round, as EAGLE-2 grows it
    (arXiv 2406.16858), and SGLang.

    Each of `depth` levels grows from the `topk` most probable nodes of the level before, `topk`
    children each; of all nodes the `nodes` most probable ones are verified. A node's probability is
    the product of the drafter's along its path. Nothing is random.
    """

    topk: int
    depth: int
    nodes: int

    def __post_init__(self) -> None:
        most = self.topk + (self.depth - 1) * self.topk**2
        if not (1 <= self.topk <= MOST_WIDTH and self.depth >= 1 and self.nodes >= 1):
            raise RequestError(
                f"the tree is {self}; topk must be 1 to {MOST_WIDTH}, depth and nodes at least 1"
            )
        if self.nodes > min(most, MOST_NODES):
            raise RequestError(
                f"the tree is {self}, which drafts {most} tokens; ask for at most "
                f"{min(most, MOST_NODES)} nodes"
            )

    @property
    def children(self) -> Children:
        return "top-k"

    @property
    def width(self) -> int:
        return self.topk

    @property
    def parents_read(self) -> int:
        """Nodes that the drafter reads to go on."""
        return self.topk * (self.depth - 1)

    @property
    def name(self) -> str:
        """For file names: `tree-top4-depth5-n16`."""
        return f"tree-top{self.topk}-depth{self.depth}-n{self.nodes}"

    def __str__(self) -> str:
        return f"topk={self.topk},depth={self.depth},nodes={self.nodes}"


Tree: TypeAlias = StaticTree | DynamicTree


def check_children(children: str) -> None:
    """Raises RequestError for an unknown way to draft children."""
    if children not in CHILDREN:
        raise RequestError(
            f"a tree's children are {repr(children)[:60]}; choose among {', '.join(CHILDREN)}"
        )


def tree_of(value: object) -> Tree:
    """The tree of an option or a marker's argument.

    As text `topk=4,depth=5,nodes=16`, or paths of places such as `0 1 0.0 0.1`, after them perhaps
    `sampled` or `replacement`; in Python a mapping of the same names, with `paths` and `children`
    for a static tree, or a list of paths. Raises RequestError for anything else.
    """
    if isinstance(value, StaticTree | DynamicTree):
        return value
    if isinstance(value, str):
        return _dynamic(_pairs(value)) if "=" in value else _static(value.split())
    if isinstance(value, dict):
        if "paths" in value and set(value) <= {"paths", "children"}:
            return StaticTree.of_paths(_paths(value["paths"]), value.get("children", "top-k"))
        return _dynamic(value)
    if isinstance(value, list | tuple):
        return StaticTree.of_paths(_paths(value))
    raise _unreadable(value)


def _dynamic(given: dict[str, object]) -> DynamicTree:
    numbers = {
        name: number
        for name, number in given.items()
        if isinstance(number, int) and not isinstance(number, bool)
    }
    if set(given) != {"topk", "depth", "nodes"} or len(numbers) < len(given):
        raise _unreadable(given)
    return DynamicTree(**numbers)


def _static(words: Sequence[str]) -> StaticTree:
    children: Children = "top-k"
    if words and words[-1] in CHILDREN:
        children, words = next(name for name in CHILDREN if name == words[-1]), words[:-1]
    try:
        paths = [[int(place) for place in word.split(".")] for word in words]
    except ValueError:
        raise _unreadable(" ".join(words)) from None
    return StaticTree.of_paths(paths, children)


def _pairs(text: str) -> dict[str, object]:
    pairs = [part.split("=", 1) for part in text.split(",")]
    if any(len(pair) != 2 or not pair[1].strip().isdecimal() for pair in pairs):
        raise _unreadable(text)
    names = [name.strip() for name, _ in pairs]
    if len(set(names)) < len(names):
        raise RequestError(f"the tree {text[:80]!r} names a setting twice; keep one of them")
    return {name.strip(): int(number) for name, number in pairs}


def _paths(given: object) -> list[list[int]]:
    if not isinstance(given, list | tuple):
        raise _unreadable(given)
    for path in given:
        if not isinstance(path, list | tuple) or not all(
            isinstance(place, int) and not isinstance(place, bool) for place in path
        ):
            raise _unreadable(path)
    return [list(path) for path in given]


def _short(path: Sequence[int]) -> str:
    return str(list(path))[:60]


def _unreadable(value: object) -> RequestError:
    return RequestError(
        f"{repr(value)[:60]} is no tree of drafts; write topk=4,depth=5,nodes=16, or paths of "
        "places such as 0 1 0.0, and after them sampled or replacement where children are drawn"
    )
