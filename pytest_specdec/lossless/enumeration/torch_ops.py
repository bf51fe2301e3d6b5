"""What torch's functions do to tensors of symbols (`pending`)."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .lazy_token import race
from .paths import NotEnumerableError
from .symbolic_tensor import SYMBOLS, SymbolicTensor, SymbolPool
from .symbols import ADVICE, SymbolicValue

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
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
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
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
_UNARY: dict[str, Callable[[SymbolicValue], Any]] = {
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
_CASTS = {
    "to",
    "float",
    "double",
    "half",
    "bfloat16",
    "long",
    "int",
    "type",
    "type_as",
    "cpu",
    "cuda",
}
_MOVES: dict[str, tuple[int, ...]] = dict.fromkeys(
    (
        *(
            "getitem",
            "reshape",
            "view",
            "view_as",
            "reshape_as",
            "squeeze",
            "unsqueeze",
            "flatten",
            "unflatten",
            "ravel",
        ),
        *(
            "expand",
            "expand_as",
            "broadcast_to",
            "clone",
            "contiguous",
            "detach",
            "data",
            "transpose",
            "permute",
            "movedim",
        ),
        *(
            "t",
            "T",
            "mT",
            "gather",
            "index_select",
            "take_along_dim",
            "take",
            "select",
            "narrow",
            "masked_select",
            "diagonal",
        ),
        *("flip", "roll", "repeat", "tile", "chunk", "split", "tensor_split", "unbind"),
        *("cat", "concat", "concatenate", "stack", "hstack", "vstack"),
    ),
    (0,),
) | {
    "where": (1, 2),
    "scatter": (0, 3),
    "masked_fill": (0, 2),
    "setitem": (0, 2),
    "copy": (0, 1),
    "fill": (0, 1),
}
"""Functions that only move elements, with the arguments that hold them."""
_SHAPES = {
    *(
        "shape",
        "ndim",
        "size",
        "dim",
        "numel",
        "nelement",
        "len",
        "stride",
        "device",
        "is_cuda",
        "layout",
    ),
    *("requires_grad", "is_contiguous", "is_leaf"),
}
_LIKE = {
    "zeros_like",
    "ones_like",
    "empty_like",
    "full_like",
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
    "new_tensor",
}
_PLAIN: dict[Any, Callable[[Any], Any]] = {
    torch.Tensor.__int__: int,
    torch.Tensor.__float__: float,
    torch.Tensor.__bool__: bool,
    torch.Tensor.__index__: operator.index,
}
_ADDRESSES = {"data_ptr", "storage", "untyped_storage", "dlpack", "cuda_array_interface"}
"""Functions that tell where numbers lie, for code that torch does not see."""
_READS = {
    "tolist",
    "item",
    "numpy",
    "array",
    "iter",
    "dtype",
    "is_floating_point",
    "hash",
    "repr",
    "format",
}


def apply(pool: SymbolPool, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Answer a call with symbols among its arguments. Raises NotEnumerableError where no answer is
    known.
    """
    if "input" in kwargs:
        kwargs = dict(kwargs)
        args = (kwargs.pop("input"), *args)
    if func in _PLAIN:
        return _PLAIN[func](pool.cells[_only(args[0])])
    name, in_place, swapped = _named(func)
    if name in _READS and isinstance(args[0], SymbolicTensor):
        return _read(pool, name, args[0])
    if name in _ADDRESSES:
        raise NotEnumerableError(
            f"{name}() gives away where drawn numbers lie, and what happens there is not seen; "
            f"{ADVICE}"
        )
    if name in _SHAPES:
        return func(args[0].codes, *args[1:], **kwargs)
    if name in _LIKE:
        return func(
            torch.empty(args[0].codes.shape, dtype=args[0].as_dtype, device=args[0].codes.device),
            *args[1:],
            **kwargs,
        )
    if name in _MOVES:
        return _move(pool, func, _MOVES[name], in_place or name == "setitem", args, kwargs)
    if name in _COMPARISONS and len(args) == 2 and not kwargs and not in_place:
        found, shape, device = pool.elementwise(_COMPARISONS[name], *args)
        return torch.tensor(found, dtype=torch.bool, device=device).reshape(shape)
    if name in _CASTS and isinstance(args[0], SymbolicTensor):
        return _cast(pool, func, args, kwargs)
    if (value := pool.value_in((args, tuple(kwargs.values())))) is None:
        return _decided(pool, func, in_place, args, kwargs)
    result = _continuous(pool, name, value, args[::-1] if swapped else args, kwargs)
    return pool.write(pool.adopt(args[0]), result) if in_place else result


def _only(tensor: Any) -> int:
    """The one code of a tensor with one element. Raises what torch raises for more."""
    return int(tensor.codes.item())


def _named(func: Any) -> tuple[str, bool, bool]:
    """The plain name of a function, whether it writes in place, whether its operands are swapped
    (as in `__rsub__`).
    """
    name: str = func.__name__
    if name == "__get__":
        return func.__self__.__name__, False, False
    if not name.startswith("__"):
        return (
            ("sub", False, True)
            if name == "rsub"
            else (name.removesuffix("_"), name.endswith("_"), False)
        )
    name = name.strip("_")
    name, prefix = (
        (name[1:], name[0]) if name[1:] in {*_ARITHMETIC, "div"} and name[0] in "ir" else (name, "")
    )
    return name, prefix == "i", prefix == "r"


def _read(pool: SymbolPool, name: str, tensor: SymbolicTensor) -> Any:
    match name:
        case "tolist":
            return pool.nested(tensor.codes.tolist())
        case "item":
            return pool.cells[_only(tensor)]
        case "dtype":
            return tensor.as_dtype
        case "is_floating_point":
            return tensor.as_dtype.is_floating_point
        case "iter":
            return iter(
                [SymbolicTensor.over(codes, tensor.as_dtype) for codes in tensor.codes.unbind()]
            )
        case "hash":
            return id(tensor)
        case "repr" | "format":
            return f"<{tuple(tensor.codes.shape)} drawn numbers>"
    if pool.value_in(tensor) is None:
        return pool.decided(tensor).numpy()
    made = np.empty(tensor.codes.numel(), dtype=object)
    made[:] = pool.of(tensor)
    return made.reshape(tensor.codes.shape)


def _move(
    pool: SymbolPool,
    func: Any,
    held: tuple[int, ...],
    in_place: bool,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Let torch move codes. Arguments that hold no elements, such as indices, are decided first."""
    moved = [args[at] for at in held if at < len(args)]
    rest = [arg if at in held else pool.decided(arg) for at, arg in enumerate(args)]
    first = next((one for one in _tensors(moved) if isinstance(one, SymbolicTensor)), None)
    if first is None and not any(type(one) in SYMBOLS for one in moved):
        return func(*rest, **pool.decided(kwargs))
    tensors = _tensors(moved)
    device = (
        tensors[0].device if not isinstance(tensors[0], SymbolicTensor) else tensors[0].codes.device
    )
    dtypes = [one.as_dtype if isinstance(one, SymbolicTensor) else one.dtype for one in tensors]
    dtype = (
        dtypes[0]
        if in_place
        else max(dtypes, key=lambda one: (one.is_floating_point, one.itemsize))
    )
    if in_place:
        pool.adopt(args[0])
    for at in held:
        if at < len(rest):
            rest[at] = pool.coded(rest[at], device)
    codes = func(*rest, **pool.decided(kwargs))
    return args[0] if in_place else _over(codes, dtype)


def _over(codes: Any, dtype: torch.dtype) -> Any:
    if isinstance(codes, torch.Tensor):
        return SymbolicTensor.over(codes, dtype)
    return tuple(_over(one, dtype) for one in codes)


def _tensors(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, tuple | list):
        return [found for one in tree for found in _tensors(one)]
    return [tree] if isinstance(tree, torch.Tensor) else []


def _cast(pool: SymbolPool, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensor = args[0]
    like = func(
        torch.empty(0, dtype=tensor.as_dtype, device=tensor.codes.device), *args[1:], **kwargs
    )
    if not isinstance(like, torch.Tensor):
        return like
    value = pool.value_in(tensor)
    if value is not None and not like.dtype.is_floating_point:
        value.refuse("a cast to whole numbers")
    return SymbolicTensor.over(tensor.codes.to(like.device), like.dtype)


def _decided(
    pool: SymbolPool, func: Any, in_place: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A function that needs to know the tokens."""
    result = func(*pool.decided(args), **pool.decided(kwargs))
    if in_place and isinstance(args[0], SymbolicTensor):
        return pool.write(args[0], result)
    return result


def _continuous(
    pool: SymbolPool, name: str, value: SymbolicValue, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Arithmetic on symbols, and the arg-max that ends a race."""
    if name in ("argmax", "argmin", "max", "min") and not (
        len(args) > 1 and isinstance(args[1], torch.Tensor)
    ):
        return _race(pool, name, *args, **kwargs)
    if name == "searchsorted":
        return _searched(pool, *args)
    if name in _UNARY and not kwargs:
        cells, shape, device = pool.elementwise(lambda cell: _unary(name, cell), args[0])
    elif name in ("clamp", "clip", "clamp_min", "clamp_max"):
        low, high = _bounds(name, *args[1:], **kwargs)
        cells, shape, device = pool.elementwise(lambda cell: _clamped(cell, low, high), args[0])
    elif name in _ARITHMETIC and len(args) == 2 and not kwargs:
        cells, shape, device = pool.elementwise(
            lambda one, other: _arithmetic(name, one, other), *args
        )
    else:
        value.refuse(f"{name}()")
    return pool.tensor(cells, shape, _float(args), device)


def _float(args: tuple[Any, ...]) -> torch.dtype:
    """The widest floating type among tensors."""
    dtypes = [
        one.as_dtype if isinstance(one, SymbolicTensor) else one.dtype
        for one in args
        if isinstance(one, torch.Tensor)
    ]
    return max(
        (one for one in dtypes if one.is_floating_point),
        key=lambda one: one.itemsize,
        default=torch.get_default_dtype(),
    )


def _unary(name: str, cell: Any) -> Any:
    return (
        _UNARY[name](cell)
        if isinstance(cell, SymbolicValue)
        else getattr(torch, name)(torch.tensor(float(cell))).item()
    )


def _arithmetic(name: str, one: Any, other: Any) -> Any:
    if isinstance(one, SymbolicValue) or isinstance(other, SymbolicValue):
        return _ARITHMETIC[name](one, other)
    with np.errstate(all="ignore"):
        return float(_ARITHMETIC[name](np.float64(float(one)), np.float64(float(other))))


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
    # What the winning clock shows is not followed: any of its row's, which are all used up, stands
    # for it.
    values = [
        next((cell for cell in row if isinstance(cell, SymbolicValue)), row[0]) for row in rows
    ]
    best = pool.tensor(values, shape, tensor.as_dtype, codes.device)
    return best if dim is None else getattr(torch.return_types, name)((best, at))


def _searched(pool: SymbolPool, edges: torch.Tensor, found: Any, *_: Any) -> torch.Tensor:
    """How many edges lie below each draw, row by row; which side ties go to does not matter."""
    if not isinstance(found, SymbolicTensor):
        found = SymbolicTensor.over(pool.coded(found, edges.device), edges.dtype)
    shape = found.codes.shape
    rows = (
        edges.expand(*shape[:-1], edges.shape[-1]).reshape(-1, edges.shape[-1])
        if edges.dim() > 1
        else edges[None]
    )
    cells = pool.of(found)
    each = len(cells) // len(rows)
    counts = [
        _place(row, cells[at * each + j])
        for at, row in enumerate(rows.tolist())
        for j in range(each)
    ]
    return torch.tensor(counts, device=found.codes.device).reshape(shape)


def _place(edges: list[float], cell: Any) -> int:
    return next((index for index, edge in enumerate(edges) if not cell > edge), len(edges))
