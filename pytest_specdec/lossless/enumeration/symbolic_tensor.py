"""Tensors of symbols: the storage holds whole numbers, codes, that stand for cells of a pool.

Whatever only moves elements about (indexing, cat, gather, where, views, writes in place) is done by
torch itself, on the codes. So views share storage as they do outside of a test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import torch

from .lazy_token import Cell, LazyToken
from .paths import NotEnumerableError
from .symbols import SymbolicValue

_KEPT = (
    "a drawn tensor was kept beyond the call that drew it; make the sampler a function of its "
    "arguments"
)


class SymbolicTensor(torch.Tensor):
    """A tensor of cells that are not all numbers. `codes` has its shape and device, `as_dtype` is
    what it claims to be.
    """

    codes: torch.Tensor
    as_dtype: torch.dtype

    @classmethod
    def over(cls, codes: torch.Tensor, dtype: torch.dtype) -> Self:
        tensor: Self = torch.Tensor._make_subclass(cls, codes)
        tensor.codes, tensor.as_dtype = codes, dtype
        return tensor

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Reached only without the mode of torch_draws."""
        raise NotEnumerableError(_KEPT)


SYMBOLS = frozenset({SymbolicTensor, SymbolicValue, LazyToken})


class SymbolPool:
    """The cells of one run."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []

    def tensor(
        self, cells: Sequence[Cell], shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """A tensor of these cells in order; an ordinary one if all are numbers."""
        if not any(type(cell) in SYMBOLS for cell in cells):
            top = 1 - torch.finfo(dtype).eps / 2 if dtype.is_floating_point else math.inf
            kept = [top if top < cell < 1 else cell for cell in cells]
            return torch.tensor(kept, dtype=dtype, device=device).reshape(shape)
        return SymbolicTensor.over(self.codes(cells, device).reshape(shape), dtype)

    def codes(self, cells: Iterable[Cell], device: torch.device) -> torch.Tensor:
        start = len(self.cells)
        self.cells.extend(cells)
        return torch.arange(start, len(self.cells), device=device)

    def coded(self, value: Any, device: torch.device) -> Any:
        """Codes (same shape) of a tensor, or one code of a scalar; sequences of tensors element by
        element.
        """
        if isinstance(value, SymbolicTensor):
            return value.codes
        if isinstance(value, torch.Tensor):
            return self.codes(value.flatten().tolist(), value.device).reshape(value.shape)
        if isinstance(value, tuple | list):
            return [self.coded(element, device) for element in value]
        self.cells.append(value)
        return torch.tensor(len(self.cells) - 1, device=device)

    def of(self, tensor: SymbolicTensor) -> list[Cell]:
        """Its cells in the order of `flatten()`."""
        return [self.cells[code] for code in tensor.codes.flatten().tolist()]

    def nested(self, codes: Any) -> Any:
        return (
            [self.nested(element) for element in codes]
            if isinstance(codes, list)
            else self.cells[codes]
        )

    def value_in(self, tree: Any) -> SymbolicValue | None:
        """Some continuous draw among arguments."""
        if type(tree) is SymbolicValue:
            return tree
        if isinstance(tree, SymbolicTensor):
            for cell in self.of(tree):
                if type(cell) is SymbolicValue:
                    return cell
        elif isinstance(tree, tuple | list):
            for branch in tree:
                if (draw := self.value_in(branch)) is not None:
                    return draw
        return None

    def decided(self, tree: Any) -> Any:
        """Arguments with all tokens decided, as ordinary tensors and numbers."""
        if isinstance(tree, SymbolicTensor):
            numbers = [
                cell.decide() if isinstance(cell, LazyToken) else cell for cell in self.of(tree)
            ]
            return torch.tensor(numbers, dtype=tree.as_dtype, device=tree.codes.device).reshape(
                tree.codes.shape
            )
        if isinstance(tree, LazyToken):
            return tree.decide()
        if isinstance(tree, tuple | list):
            return type(tree)(self.decided(branch) for branch in tree)
        if isinstance(tree, dict):
            return {name: self.decided(branch) for name, branch in tree.items()}
        return tree

    def adopt(self, tensor: torch.Tensor) -> SymbolicTensor:
        """Turn an ordinary tensor into a SymbolicTensor in place, so that symbols can be written
        into it.
        """
        if isinstance(tensor, SymbolicTensor):
            return tensor
        dtype, root = tensor.dtype, tensor._base
        if root is None:
            return _become(tensor, self.coded(tensor, tensor.device), dtype)
        shape, stride, offset = tensor.shape, tensor.stride(), tensor.storage_offset()
        if not isinstance(root, SymbolicTensor):
            if not root.is_contiguous() or root.storage_offset():
                raise NotEnumerableError(
                    "a draw is written into a view of a strided tensor; call .clone() on that "
                    "tensor first"
                )
            root = _become(root, self.coded(root, root.device), dtype)
        return _become(tensor, root.codes.as_strided(shape, stride, offset), dtype)

    def write(self, target: SymbolicTensor, value: torch.Tensor) -> SymbolicTensor:
        target.codes.copy_(self.coded(value, target.codes.device))
        return target

    def elementwise(
        self, operation: Callable[..., Any], *operands: Any
    ) -> tuple[list[Any], torch.Size, torch.device]:
        """An operation on cells and numbers, broadcast as torch would."""
        tensors = [_codes(operand) for operand in operands if isinstance(operand, torch.Tensor)]
        shape, device = (
            (tensors[0].shape, tensors[0].device)
            if tensors
            else (torch.Size(), torch.device("cpu"))
        )
        if any(tensor.shape != shape for tensor in tensors):
            shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))  # type: ignore[no-untyped-call]
        size = math.prod(shape)
        columns = [self._column(operand, shape, size) for operand in operands]
        return [operation(*row) for row in zip(*columns, strict=True)], shape, device

    def _column(self, operand: Any, shape: torch.Size, size: int) -> list[Any]:
        if not isinstance(operand, torch.Tensor):
            return [operand] * size
        given = _codes(operand)
        numbers: list[Any] = (
            (given if given.shape == shape else given.expand(shape)).flatten().tolist()
        )
        return (
            [self.cells[code] for code in numbers]
            if isinstance(operand, SymbolicTensor)
            else numbers
        )


def _codes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.codes if isinstance(tensor, SymbolicTensor) else tensor


def _become(tensor: torch.Tensor, codes: torch.Tensor, dtype: torch.dtype) -> SymbolicTensor:
    tensor.__class__ = SymbolicTensor
    assert isinstance(tensor, SymbolicTensor)
    tensor.codes, tensor.as_dtype = codes, dtype
    return tensor
