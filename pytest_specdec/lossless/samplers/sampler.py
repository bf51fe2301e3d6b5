"""The sampler under test: how it is called, and what it must return whatever it draws.

`verify(target_probs, draft_probs, draft_tokens, generator=None)` gets the distributions p (k + 1,
V) and q (k, V) and the drafts (k,), and returns the emitted tokens: the accepted drafts, then the
recovered or the bonus token.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from ...common.errors import RequestError, SpecdecError
from ..enumeration.lazy_token import LazyToken
from .prefix_tree import Prefix, PrefixTree

Verify = Callable[..., Any]
Arrays = Literal["auto", "torch", "numpy"]
Drafts = Literal["given", "own"]
Emitted = list[LazyToken | int]
Inputs = tuple[Any, ...]
COUNTS = "num_draft_tokens"
"""The parameter by which a batched sampler asks for the number of drafts of each row."""
PADDING = -1
"""What fills the rows of a batched sampler after their last token."""
TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""How far rounding may put a probability off, by the type of the distributions."""
_GENERATORS = ("generator", "rng")


class ContractError(SpecdecError):
    """The sampler broke its contract; the message reports how, and what it must do."""


class Sampler:
    """A callable to be called with one pair of distributions after the other."""

    def __init__(
        self,
        verify: Verify,
        arrays: Arrays = "auto",
        drafts: Drafts = "given",
        batched: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Raises RequestError for an unknown option.

        `arrays`: "auto" passes numpy arrays to a callable with an argument `rng` or annotations
        that name numpy. `drafts`: "own" is for a whole round, which is called without
        `draft_tokens` and draws them from q itself. `batched`: arguments and result have a first
        dimension of rows; rows of the result are padded with -1. A sampler with a parameter
        `num_draft_tokens` is batched, and its rows are ragged: it is passed the number of drafts of
        each row (rows,), from 0 to k, and what follows a row's own drafts and distributions is
        padding to be ignored. `dtype`: of the distributions, for samplers of torch; numpy's get
        float64.
        """
        if arrays not in ("auto", "torch", "numpy"):
            raise RequestError(f'arrays is {arrays!r}; use "auto", "torch" or "numpy"')
        if drafts not in ("given", "own"):
            raise RequestError(f'drafts is {drafts!r}; use "given" or "own"')
        self._verify = verify
        parameters = parameters_of(verify)
        self._generator = next((name for name in _GENERATORS if name in parameters), None)
        self.numpy = arrays == "numpy" or (arrays == "auto" and _takes_numpy(parameters))
        if dtype not in TOLERANCES:
            raise RequestError(f"dtype is {dtype}; use torch.float32, float64, float16 or bfloat16")
        self.ragged = COUNTS in parameters
        self.drafts, self.batched, self.dtype = drafts, batched or self.ragged, dtype
        self.names = (
            "target_probs",
            "draft_probs",
            *(["draft_tokens"] * (drafts == "given")),
            *([COUNTS] * self.ragged),
        )
        """Of its arguments, in the order of `Inputs`."""
        self.name = getattr(verify, "__name__", type(verify).__name__)

    @property
    def takes_generator(self) -> bool:
        return self._generator is not None

    @property
    def tolerance(self) -> float:
        """How far a probability may be off by rounding."""
        return TOLERANCES[torch.float64 if self.numpy else self.dtype]

    def check_distributions(self, target: PrefixTree, draft: PrefixTree) -> None:
        """Raises RequestError where it is to draw its own drafts from distributions that depend on
        them.
        """
        if self.drafts == "own" and not (target.by_position and draft.by_position):
            raise RequestError(
                "a sampler that draws its own drafts cannot see distributions that depend on them; "
                "give distributions by position"
            )

    def arguments(self, target: Any, draft: Any, drafts: Any, counts: Any = None) -> Inputs:
        """The arguments of one call, from nested lists or arrays; what the sampler does not take is
        left out.

        p (rows, k + 1, V), q (rows, k, V), the drafts (rows, k), and the number of drafts of each
        row (rows,); for an unbatched sampler p (k + 1, V), q (k, V) and the drafts (k,).
        """
        given = {
            "target_probs": target,
            "draft_probs": draft,
            "draft_tokens": drafts,
            COUNTS: counts,
        }
        return tuple(self._array(given[name], name) for name in self.names)

    def copies(self, inputs: Inputs) -> Inputs:
        """The same arguments once more, for a sampler that may write to them."""
        return tuple(array.copy() if self.numpy else array.clone() for array in inputs)

    def _array(self, numbers: Any, name: str) -> Any:
        whole = name in ("draft_tokens", COUNTS)
        if self.numpy:
            return np.array(numbers, dtype=np.int64 if whole else np.float64)
        return torch.tensor(numbers, dtype=torch.int64 if whole else self.dtype)

    def rows(
        self, inputs: Inputs, generator: np.random.Generator | torch.Generator
    ) -> list[Emitted]:
        """The tokens of each row of one call, without padding. Raises ContractError for anything
        but whole numbers.
        """
        emitted = self.run(inputs, generator)
        if not self.batched:
            return [emitted_tokens(emitted)]
        rows, wanted = _listed(emitted), len(inputs[0])
        if len(rows) != wanted:
            raise ContractError(
                f"it returned {len(rows)} rows for {wanted}; return one row of tokens for each row "
                "of its arguments"
            )
        return [trimmed(emitted_tokens(row)) for row in rows]

    def call(self, inputs: Inputs, generator: np.random.Generator | torch.Generator) -> Emitted:
        """One round. Raises ContractError for anything but one or more whole numbers."""
        (emitted,) = self.rows(inputs, generator)
        return emitted

    def run(self, inputs: Inputs, generator: np.random.Generator | torch.Generator) -> Any:
        """What it returns, unchecked."""
        named = {} if self._generator is None else {self._generator: generator}
        if self.ragged:
            *inputs_in_order, named[COUNTS] = inputs
            return self._verify(*inputs_in_order, **named)
        return self._verify(*inputs, **named)

    def unchanged(self, before: Inputs, after: Inputs) -> None:
        """Raises ContractError for an argument that was written to."""
        for name, original, current in zip(self.names, before, after, strict=False):
            if type(original) is not type(current) or not (
                np.array_equal(original, current) if self.numpy else torch.equal(original, current)
            ):
                raise ContractError(
                    f"it changed its argument {name}; clone it before writing to it"
                )


def emitted_tokens(emitted: Any) -> Emitted:
    """A list of tokens from any kind of sequence. Raises ContractError for anything but whole
    numbers.
    """
    return [_token(token) for token in _listed(emitted)]


def trimmed(row: Emitted) -> Emitted:
    """Without the padding at its end."""
    kept = len(row)
    while kept and row[kept - 1] == PADDING:
        kept -= 1
    return row[:kept]


def check_emitted(
    emitted: Sequence[int], drafts: Prefix | None, k: int, vocab_size: int, it: str = "it"
) -> None:
    """Raises ContractError for tokens that no round can emit; `drafts` is None for a sampler that
    draws its own.
    """
    if not 1 <= len(emitted) <= k + 1:
        raise ContractError(f"{it} emitted {len(emitted)} tokens; return 1 to k + 1 = {k + 1}")
    for token in emitted:
        if not 0 <= token < vocab_size:
            raise ContractError(
                f"{it} emitted {list(emitted)}, but {token} is not a valid token id; return ids "
                f"from 0 to {vocab_size - 1}"
            )
    accepted = tuple(emitted[:-1])
    if drafts is not None and accepted != drafts[: len(accepted)]:
        raise ContractError(
            f"{it} emitted {list(emitted)} for drafts {list(drafts)}; return the first drafts up "
            "to the last accepted one, "
            "and one more token"
        )


def parameters_of(verify: Verify) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(verify).parameters)
    except (TypeError, ValueError):
        return {}


def _takes_numpy(parameters: dict[str, inspect.Parameter]) -> bool:
    notes = " ".join(str(parameter.annotation) for parameter in parameters.values())
    return "rng" in parameters or "ndarray" in notes or "numpy" in notes or "np." in notes


def _listed(emitted: Any) -> list[Any]:
    if isinstance(emitted, torch.Tensor | np.ndarray):
        emitted = emitted.tolist()
    if not isinstance(emitted, list | tuple):
        raise ContractError(f"it returned {type(emitted).__name__}; return a list of token ids")
    return list(emitted)


def _token(token: Any) -> LazyToken | int:
    if isinstance(token, LazyToken):
        return token
    if isinstance(token, torch.Tensor) and token.numel() == 1:
        return _token(token.item())
    try:
        return operator.index(token)
    except TypeError:
        raise ContractError(
            f"it returned {token!r} among its tokens; return whole numbers"
        ) from None
