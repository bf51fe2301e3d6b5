"""Arithmetic and comparisons of drawn numbers, and the arg-max and search that decide tokens."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .lazy_token import race
from .monotone import Monotone
from .symbolic_tensor import SymbolicTensor, SymbolPool
from .symbols import SymbolicValue

ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "subtract": operator.sub,
    "mul": operator.mul,
    "multiply": operator.mul,
    "div": operator.truediv,
    "divide": operator.truediv,
    "true_divide": operator.truediv,
    "truediv": operator.truediv,
    "pow": operator.pow,
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "less": operator.lt,
    "le": operator.le,
    "less_equal": operator.le,
    "gt": operator.gt,
    "greater": operator.gt,
    "ge": operator.ge,
    "greater_equal": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
    "not_equal": operator.ne,
}
UNARY: dict[str, Callable[[SymbolicValue], Any]] = {
    "log": SymbolicValue.log,
    "log2": lambda value: value.log().scaled(1 / np.log(2)),
    "log10": lambda value: value.log().scaled(1 / np.log(10)),
    "log1p": SymbolicValue.log1p,
    "exp": SymbolicValue.exp,
    "expm1": SymbolicValue.expm1,
    "neg": SymbolicValue.negative,
    "negative": SymbolicValue.negative,
    "sqrt": SymbolicValue.sqrt,
    "reciprocal": SymbolicValue.reciprocal,
    "square": lambda value: value.power(2.0),
}


def continuous(
    pool: SymbolPool, name: str, value: SymbolicValue, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Arithmetic on symbols, and the arg-max that ends a race."""
    if name in ("argmax", "argmin", "max", "min") and not (
        len(args) > 1 and isinstance(args[1], torch.Tensor)
    ):
        return _race(pool, name, *args, **kwargs)
    if name == "searchsorted":
        return _searched(pool, *args)
    if name in UNARY and not kwargs:  # of a number; those of tensors are `unary`'s
        cells, shape, device = _of_each(name, [args[0]]), torch.Size(), torch.device("cpu")
    elif name in ("clamp", "clip", "clamp_min", "clamp_max"):
        low, high = _bounds(name, *args[1:], **kwargs)
        cells, shape, device = pool.elementwise(lambda cell: _clamped(cell, low, high), args[0])
    elif name in ARITHMETIC and len(args) == 2 and not kwargs:
        cells, shape, device = pool.elementwise(
            lambda left, right: _arithmetic(name, left, right), *args
        )
    else:
        value.refuse(f"{name}()")
    return pool.tensor(cells, shape, _float(args), device)


def _float(args: tuple[Any, ...]) -> torch.dtype:
    """The widest floating type among tensors."""
    dtypes = [
        argument.as_dtype if isinstance(argument, SymbolicTensor) else argument.dtype
        for argument in args
        if isinstance(argument, torch.Tensor)
    ]
    return max(
        (dtype for dtype in dtypes if dtype.is_floating_point),
        key=lambda dtype: dtype.itemsize,
        default=torch.get_default_dtype(),
    )


def unary(
    pool: SymbolPool, name: str, tensor: SymbolicTensor, in_place: bool
) -> torch.Tensor | None:
    """A function of each cell; None where none of them is a continuous draw."""
    cells = pool.of(tensor)
    if not any(type(cell) is SymbolicValue for cell in cells):
        return None
    results, codes = _of_each(name, cells), tensor.codes
    if in_place:
        codes.copy_(pool.codes(results, codes.device).reshape(codes.shape))
        return tensor
    return pool.tensor(results, codes.shape, _float((tensor,)), codes.device)


def _of_each(name: str, cells: list[Any]) -> list[Any]:
    """Cells that are the same function of their draws become the same function again."""
    operation = UNARY[name]
    known: dict[Monotone, Monotone] = {}
    results: list[Any] = []
    for cell in cells:
        if not isinstance(cell, SymbolicValue):
            results.append(getattr(torch, name)(torch.tensor(float(cell))).item())
        elif cell.beaten:
            results.append(operation(cell))
        else:
            function = known.get(cell.function)
            if function is None:
                function = known[cell.function] = operation(cell).function
            results.append(SymbolicValue(cell.atom, function))
    return results


def _arithmetic(name: str, left: Any, right: Any) -> Any:
    if type(left) is SymbolicValue or type(right) is SymbolicValue:
        return ARITHMETIC[name](left, right)
    with np.errstate(all="ignore"):
        return float(ARITHMETIC[name](np.float64(float(left)), np.float64(float(right))))


def _bounds(
    name: str, low: Any = None, high: Any = None, **named: Any
) -> tuple[float | None, float | None]:
    low, high = named.get("min", low), named.get("max", high)
    return (None, low if high is None else high) if name == "clamp_max" else (low, high)


def _clamped(cell: Any, low: float | None, high: float | None) -> Any:
    if isinstance(cell, SymbolicValue):
        return cell.clamped(
            None if low is None else float(low), None if high is None else float(high)
        )
    return min(max(cell, cell if low is None else low), cell if high is None else high)


def _race(
    pool: SymbolPool,
    name: str,
    tensor: SymbolicTensor,
    dim: int | None = None,
    keepdim: bool = False,
) -> Any:
    codes = tensor.codes.flatten() if dim is None else tensor.codes.movedim(dim, -1)
    rows = [
        [pool.cells[code] for code in row] for row in codes.reshape(-1, codes.shape[-1]).tolist()
    ]
    won = [race([-cell for cell in row] if name.endswith("min") else row) for row in rows]
    shape = codes.shape[:-1] if dim is None or not keepdim else codes.unsqueeze(dim).shape[:-1]
    at = pool.tensor(won, shape, torch.int64, codes.device)
    if name.startswith("arg"):
        return at
    # The winning clock's value is not followed: any value of its row stands for it, since the race
    # has used them all.
    values = [
        next((cell for cell in row if isinstance(cell, SymbolicValue)), row[0]) for row in rows
    ]
    best = pool.tensor(values, shape, tensor.as_dtype, codes.device)
    return best if dim is None else getattr(torch.return_types, name)((best, at))


def _searched(pool: SymbolPool, edges: torch.Tensor, draws: Any, *_: Any) -> torch.Tensor:
    """How many edges lie below each draw, row by row; which side ties go to does not matter."""
    if not isinstance(draws, SymbolicTensor):
        draws = SymbolicTensor.over(pool.coded(draws, edges.device), edges.dtype)
    shape = draws.codes.shape
    rows = (
        edges.expand(*shape[:-1], edges.shape[-1]).reshape(-1, edges.shape[-1])
        if edges.dim() > 1
        else edges[None]
    )
    cells = pool.of(draws)
    each = len(cells) // len(rows)
    counts = [
        _place(row, cells[at * each + j])
        for at, row in enumerate(rows.tolist())
        for j in range(each)
    ]
    return torch.tensor(counts, device=draws.codes.device).reshape(shape)


def _place(edges: list[float], cell: Any) -> int:
    return next((index for index, edge in enumerate(edges) if not cell > edge), len(edges))
