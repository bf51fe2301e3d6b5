"""Interception of torch's random draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .draw_sources import DrawSource, unsupported
from .symbolic_tensor import SYMBOLS, SymbolicTensor, SymbolPool
from .torch_ops import apply


class TorchDraws(TorchFunctionMode):
    """While it is entered, torch's draws are answered by a source, whatever generator they name."""

    def __init__(self, source: DrawSource) -> None:
        super().__init__()
        self.source = source
        self.pool = SymbolPool()

    def restart(self) -> None:
        """Forget the cells of the run before."""
        self.pool = SymbolPool()

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        drawn = _DRAWS.get(func)
        if drawn is not None:
            return drawn(self, func, *args, **(kwargs or {}))
        if types:
            for kind in types:
                if kind in SYMBOLS:
                    return apply(self.pool, func, args, kwargs or {})
        return func(*args, **kwargs) if kwargs else func(*args)


Draw = Callable[..., torch.Tensor]


def _rand(
    mode: TorchDraws,
    func: Any,
    *size: Any,
    generator: object = None,
    out: object = None,
    **options: Any,
) -> torch.Tensor:
    if out is not None:
        raise unsupported("torch.rand with out=")
    like = torch.empty(
        *size, **{name: option for name, option in options.items() if name != "requires_grad"}
    )
    return _fresh(mode, like, "torch.rand")


def _rand_like(
    mode: TorchDraws, func: Any, like: torch.Tensor, *, generator: object = None, **options: Any
) -> torch.Tensor:
    if isinstance(like, SymbolicTensor):
        like = torch.empty(like.codes.shape, dtype=like.as_dtype, device=like.codes.device)
    return _fresh(mode, torch.empty_like(like, **options), "torch.rand_like")


def _fresh(mode: TorchDraws, like: torch.Tensor, what: str) -> torch.Tensor:
    cells = [mode.source.uniform(what) for _ in range(like.numel())]
    return mode.pool.tensor(cells, like.shape, like.dtype, like.device)


def _uniform(
    mode: TorchDraws,
    func: Any,
    tensor: torch.Tensor,
    *bounds: float,
    generator: object = None,
    **named: float,
) -> Any:
    low, high = (*bounds, 0.0, 1.0)[0], bounds[1] if len(bounds) > 1 else named.get("to", 1.0)
    low = named.get("from", low)
    cells: list[Any] = [mode.source.uniform("Tensor.uniform_") for _ in range(_count(tensor))]
    if (low, high) != (0.0, 1.0):
        cells = [cell * (high - low) + low for cell in cells]
    return _fill(mode, tensor, cells)


def _exponential(
    mode: TorchDraws,
    func: Any,
    tensor: torch.Tensor,
    lambd: float = 1.0,
    *,
    generator: object = None,
) -> Any:
    cells: list[Any] = [
        mode.source.exponential("Tensor.exponential_") for _ in range(_count(tensor))
    ]
    return _fill(mode, tensor, cells if lambd == 1.0 else [cell / lambd for cell in cells])


def _bernoulli(
    mode: TorchDraws,
    func: Any,
    chance: torch.Tensor,
    p: float | None = None,
    *,
    generator: object = None,
) -> Any:
    chances = mode.pool.decided(chance)
    return mode.pool.tensor(
        _coins(mode, chances if p is None else torch.full_like(chances, p)),
        chances.shape,
        chances.dtype,
        chances.device,
    )


def _bernoulli_in_place(
    mode: TorchDraws, func: Any, tensor: torch.Tensor, p: Any = 0.5, *, generator: object = None
) -> Any:
    shape = tensor.codes.shape if isinstance(tensor, SymbolicTensor) else tensor.shape
    return _fill(mode, tensor, _coins(mode, torch.as_tensor(mode.pool.decided(p)).expand(shape)))


def _coins(mode: TorchDraws, chances: torch.Tensor) -> list[Any]:
    return [
        mode.source.categorical((1 - chance, chance), "torch.bernoulli")
        for chance in chances.flatten().tolist()
    ]


def _multinomial(
    mode: TorchDraws,
    func: Any,
    weights: torch.Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: object = None,
) -> torch.Tensor:
    if (value := mode.pool.value_in(weights)) is not None:
        value.refuse("the weights of multinomial")
    weights = mode.pool.decided(weights)
    rows: list[list[float]] = weights.reshape(-1, weights.shape[-1]).tolist()
    if any(not 0 < sum(row) < float("inf") or min(row) < 0 for row in rows):
        func(weights, num_samples, replacement)  # raises what torch raises
    cells: list[Any] = []
    for row in rows:
        for _ in range(num_samples):
            drawn = mode.source.categorical(row, "torch.multinomial")
            cells.append(drawn)
            if not replacement and num_samples > 1:
                row[int(drawn)] = 0.0
    return mode.pool.tensor(cells, (*weights.shape[:-1], num_samples), torch.int64, weights.device)


def _made(mode: TorchDraws, func: Any, data: Any, *args: Any, **options: Any) -> torch.Tensor:
    """torch.tensor of a list that may hold drawn tokens, which are decided."""
    if (value := mode.pool.value_in(data)) is not None:
        value.refuse(f"torch.{func.__name__} of a list")
    tensor: torch.Tensor = func(mode.pool.decided(data), *args, **options)
    return tensor


def _count(tensor: torch.Tensor) -> int:
    return tensor.codes.numel() if isinstance(tensor, SymbolicTensor) else tensor.numel()


def _fill(mode: TorchDraws, tensor: torch.Tensor, cells: list[Any]) -> torch.Tensor:
    """Write cells over a tensor in place."""
    if not isinstance(tensor, SymbolicTensor) and not any(type(cell) in SYMBOLS for cell in cells):
        return tensor.copy_(mode.pool.tensor(cells, tensor.shape, tensor.dtype, tensor.device))
    held = mode.pool.adopt(tensor)
    held.codes.copy_(mode.pool.codes(cells, held.codes.device).reshape(held.codes.shape))
    return held


def _refuse(mode: TorchDraws, func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    raise unsupported(f"torch's {func.__name__}()")


_DRAWS: dict[Any, Draw] = {
    torch.rand: _rand,
    torch.rand_like: _rand_like,
    torch.Tensor.uniform_: _uniform,
    torch.Tensor.exponential_: _exponential,
    torch.bernoulli: _bernoulli,
    torch.Tensor.bernoulli: _bernoulli,
    torch.Tensor.bernoulli_: _bernoulli_in_place,
    torch.multinomial: _multinomial,
    torch.tensor: _made,
    torch.Tensor.multinomial: _multinomial,
} | {
    function: _refuse
    for name in (
        *(
            "randn",
            "randn_like",
            "randint",
            "randint_like",
            "randperm",
            "normal",
            "poisson",
            "binomial",
            "rrelu",
        ),
        *(
            "normal_",
            "random_",
            "cauchy_",
            "geometric_",
            "log_normal_",
            "dropout",
            "dropout_",
            "bernoulli_",
        ),
    )
    for owner in (torch, torch.Tensor)
    if (function := getattr(owner, name, None)) is not None
    and function is not torch.Tensor.bernoulli_
}
