"""What torch's functions do to tensors of symbols: moves, reads, casts and shapes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .paths import NotEnumerableError
from .symbolic_tensor import SYMBOLS, SymbolicTensor, SymbolPool
from .symbols import ADVICE
from .torch_arithmetic import ARITHMETIC, COMPARISONS, UNARY, continuous, unary

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
"""Functions that return where numbers lie in memory, for code that torch does not see."""
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
        first = kwargs.pop("input")
        if func is torch.searchsorted:  # its input is the second argument
            edges = args or (kwargs.pop("sorted_sequence"),)
            args = (*edges, first)
        else:
            args = (first, *args)
    if func in _PLAIN:
        return _PLAIN[func](pool.cells[_only(args[0])])
    name, in_place, swapped = _named(func)
    if name in UNARY and len(args) == 1 and not kwargs and isinstance(args[0], SymbolicTensor):
        result = unary(pool, name, args[0], in_place)
        if result is not None:
            return result
    if name in _READS and isinstance(args[0], SymbolicTensor):
        return _read(pool, name, args[0])
    if name in _ADDRESSES:
        raise NotEnumerableError(
            f"{name}() gives access to the memory of drawn numbers, where they cannot be followed; "
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
    if name in COMPARISONS and len(args) == 2 and not kwargs and not in_place:
        results, shape, device = pool.elementwise(COMPARISONS[name], *args)
        return torch.tensor(results, dtype=torch.bool, device=device).reshape(shape)
    if name in _CASTS and isinstance(args[0], SymbolicTensor):
        return _cast(pool, func, args, kwargs)
    if (value := pool.value_in((args, tuple(kwargs.values())))) is None:
        return _decided(pool, func, in_place, args, kwargs)
    result = continuous(pool, name, value, args[::-1] if swapped else args, kwargs)
    return pool.write(pool.adopt(args[0]), result) if in_place else result


def _only(tensor: Any) -> int:
    """The one code of a tensor with one element. Raises what torch raises for more."""
    return int(tensor.codes.item())


@functools.cache
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
        (name[1:], name[0]) if name[1:] in {*ARITHMETIC, "div"} and name[0] in "ir" else (name, "")
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
    cells = np.empty(tensor.codes.numel(), dtype=object)
    cells[:] = pool.of(tensor)
    return cells.reshape(tensor.codes.shape)


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
    first = next((tensor for tensor in _tensors(moved) if isinstance(tensor, SymbolicTensor)), None)
    if first is None and not any(type(argument) in SYMBOLS for argument in moved):
        return func(*rest, **pool.decided(kwargs))
    tensors = _tensors(moved)
    device = (
        tensors[0].device if not isinstance(tensors[0], SymbolicTensor) else tensors[0].codes.device
    )
    dtypes = [
        tensor.as_dtype if isinstance(tensor, SymbolicTensor) else tensor.dtype
        for tensor in tensors
    ]
    dtype = (
        dtypes[0]
        if in_place
        else max(dtypes, key=lambda candidate: (candidate.is_floating_point, candidate.itemsize))
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
    return tuple(_over(part, dtype) for part in codes)


def _tensors(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, tuple | list):
        return [tensor for branch in tree for tensor in _tensors(branch)]
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
