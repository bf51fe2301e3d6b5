"""Interception of numpy's and the standard library's random draws: arrays of symbols are arrays of
objects.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np

from .draw_sources import DrawSource, unsupported
from .lazy_token import Cell
from .symbols import SymbolicValue

Size = int | Sequence[int] | None
_Generator: Any = np.random.Generator


class DrawnGenerator(_Generator):  # type: ignore[misc]
    """A generator whose draws a source answers."""

    source: DrawSource

    def __init__(self, source: DrawSource) -> None:
        super().__init__(np.random.PCG64(0))
        self.source = source

    def random(self, size: Size = None, dtype: Any = np.float64, out: None = None) -> Any:
        _no_buffer(out)
        return _filled(size, lambda: self.source.uniform("Generator.random"))

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Size = None) -> Any:
        return _filled(size, lambda: self.source.uniform("Generator.uniform")) * (high - low) + low

    def exponential(self, scale: Any = 1.0, size: Size = None) -> Any:
        shape = np.shape(scale) or None if size is None else size
        return _filled(shape, lambda: self.source.exponential("Generator.exponential")) * scale

    def standard_exponential(
        self, size: Size = None, dtype: Any = np.float64, method: str = "zig", out: None = None
    ) -> Any:
        _no_buffer(out)
        return self.exponential(size=size)

    def gumbel(self, loc: Any = 0.0, scale: float = 1.0, size: Size = None) -> Any:
        shape = np.shape(loc) or None if size is None else size
        clocks = _filled(shape, lambda: self.source.exponential("Generator.gumbel"))
        return _minus_log(clocks) * scale + loc

    def choice(
        self,
        a: Any,
        size: Size = None,
        replace: bool = True,
        p: Any = None,
        axis: int = 0,
        shuffle: bool = True,
    ) -> Any:
        among = np.arange(a) if np.ndim(a) == 0 else np.asarray(a)
        if size is not None and not replace:
            raise unsupported("Generator.choice without replacement")
        if p is not None:
            _check_weights(np.asarray(p), len(among))
        weights = [1.0] * len(among) if p is None else np.asarray(p, dtype=float).tolist()
        drawn = _filled(size, lambda: self.source.categorical(weights, "Generator.choice"))
        return drawn if np.ndim(a) == 0 else np.take(among, np.asarray(drawn, dtype=int), axis)

    def integers(
        self,
        low: int,
        high: int | None = None,
        size: Size = None,
        dtype: Any = np.int64,
        endpoint: bool = False,
    ) -> Any:
        start, stop = (0, low) if high is None else (low, high)
        weights = [0.0] * start + [1.0] * (stop - start + endpoint)
        return _filled(size, lambda: self.source.categorical(weights, "Generator.integers"))

    def multinomial(self, n: int, pvals: Any, size: Size = None) -> Any:
        weights = np.asarray(pvals, dtype=float)
        if n != 1 or size is not None or weights.ndim != 1:
            raise unsupported("Generator.multinomial of more than one draw")
        counts = np.zeros(len(weights), dtype=np.int64)
        counts[int(self.source.categorical(weights.tolist(), "Generator.multinomial"))] = 1
        return counts

    def _refused(self, *_: Any, **__: Any) -> Any:
        raise unsupported("this method of numpy's Generator")

    normal = standard_normal = gamma = standard_gamma = beta = binomial = dirichlet = poisson = (
        permutation
    ) = _refused
    shuffle = permuted = geometric = laplace = logistic = lognormal = bytes = _refused


@contextlib.contextmanager
def numpy_draws(source: DrawSource) -> Iterator[DrawnGenerator]:
    """Answer `random` and `numpy.random`, global or made by `default_rng`, and hand out a generator
    to pass.
    """
    generator = DrawnGenerator(source)
    with contextlib.ExitStack() as stack:
        for owner, functions in _replacements(generator).items():
            for name, function in functions.items():
                stack.enter_context(mock.patch.object(owner, name, function))
        yield generator


def _replacements(generator: DrawnGenerator) -> dict[Any, dict[str, Callable[..., Any]]]:
    def rand(*shape: int) -> Any:
        return generator.random(shape or None)

    def expovariate(lambd: float = 1.0) -> Any:
        return generator.exponential() / lambd

    def uniform(low: float, high: float) -> Any:
        return generator.uniform(low, high)

    def choices(
        population: Sequence[Any],
        weights: Sequence[float] | None = None,
        *,
        cum_weights: Any = None,
        k: int = 1,
    ) -> Any:
        if cum_weights is not None:
            weights = np.diff(cum_weights, prepend=0).tolist()
        chances = (
            [1.0] * len(population) if weights is None else [float(weight) for weight in weights]
        )
        drawn = [generator.source.categorical(chances, "random.choices") for _ in range(k)]
        plain = isinstance(population, range) and population == range(len(population))
        return drawn if plain else [population[int(index)] for index in drawn]

    numpy_names = {
        name: getattr(generator, name)
        for name in ("uniform", "exponential", "gumbel", "choice", "multinomial")
    }
    return {
        random: {
            "random": generator.random,
            "expovariate": expovariate,
            "uniform": uniform,
            "choices": choices,
        },
        np.random: numpy_names
        | {
            "random": generator.random,
            "random_sample": generator.random,
            "rand": rand,
            "default_rng": lambda *_, **__: generator,
        },
    }


def _filled(size: Size, draw: Callable[[], Cell]) -> Any:
    """One cell, or an array of cells; an ordinary one if they are numbers."""
    if size is None:
        return draw()
    shape = (size,) if isinstance(size, int | np.integer) else tuple(size)
    cells = np.empty(math.prod(shape), dtype=object)
    for at in range(cells.size):
        cells[at] = draw()
    plain = cells.size > 0 and all(isinstance(cell, int | float) for cell in cells)
    return (cells.astype(type(cells[0])) if plain else cells).reshape(shape)


def _minus_log(clocks: Any) -> Any:
    if isinstance(clocks, SymbolicValue):
        return -clocks.log()
    return -np.log(clocks)


def _check_weights(weights: np.ndarray[Any, Any], count: int) -> None:
    """As numpy does, raises ValueError."""
    if weights.shape != (count,):
        raise ValueError("'a' and 'p' must have same size")
    if not (weights >= 0).all():
        raise ValueError("probabilities are not non-negative")
    slack = np.sqrt(np.finfo(weights.dtype if weights.dtype.kind == "f" else float).eps)
    if abs(math.fsum(weights.tolist()) - 1.0) > slack:
        raise ValueError("probabilities do not sum to 1")


def _no_buffer(out: object) -> None:
    if out is not None:
        raise unsupported("a draw of numpy into out=")
