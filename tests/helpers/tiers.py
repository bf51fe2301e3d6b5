"""Repetitions of a proof that `make test-exhaustive` runs, and `make test` does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def exhaustive(*values: Any) -> Any:
    """A set of parameters whose test repeats what the other sets prove."""
    return pytest.param(*values, marks=pytest.mark.exhaustive)


def some(
    values: Iterable[Any], every: int, keep: Callable[[Any], bool] = lambda value: False
) -> list[Any]:
    """Every so many-th of the values, and those to keep, for `make test`; the others are exhaustive. A tuple is a
    set of parameters.
    """
    return [
        value
        if index % every == 0 or keep(value)
        else exhaustive(*(value if isinstance(value, tuple) else (value,)))
        for index, value in enumerate(values)
    ]


def crossed(
    *, ids: Callable[[Any], str | None] | None = None, **axes: Iterable[Any]
) -> pytest.MarkDecorator:
    """Parametrise over all combinations of the axes' values. `make test` runs as many of them as the longest
    axis has values, so that each value of each axis occurs; the others are exhaustive.
    """
    values = [tuple(axis) for axis in axes.values()]
    longest = max(map(len, values))
    kept = {tuple(step % len(axis) for axis in values) for step in range(longest)}
    cells = itertools.product(*(range(len(axis)) for axis in values))
    return pytest.mark.parametrize(
        tuple(axes),
        [
            (pytest.param if cell in kept else exhaustive)(
                *(axis[index] for axis, index in zip(values, cell, strict=True))
            )
            for cell in cells
        ],
        ids=ids,
    )
