"""Samplers with flat rows, as vLLM's `rejection_sample`: the drafts of all requests one after
another.

Where the rows of a request begin is known from the cumulative numbers of drafts alone, and requests
have different ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from ...common.errors import RequestError
from .sampler import COUNTS, ContractError

ARGUMENTS = (
    "draft_token_ids",
    "num_draft_tokens",
    "max_spec_len",
    "cu_num_draft_tokens",
    "draft_probs",
    "target_probs",
    "target_logits",
    "bonus_token_ids",
    "generator",
)
_NEEDED = "bonus_token_ids"
_VARIADIC = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


def flat_batch(
    rejection_sample: Callable[..., Any],
    *,
    device: torch.device | str = "cpu",
    token_dtype: torch.dtype = torch.int32,
) -> FlatBatch:
    """Adapt a sampler with flat rows, such as vLLM's `rejection_sample`, for `assert_lossless`.

    It is called by keyword, with those of the following arguments that its signature names, on
    `device`. B requests have n drafts in all; request b has `num_draft_tokens[b]` of them, 0 or
    more, and at least one request has a draft:

    - `draft_token_ids` (n,) and `cu_num_draft_tokens` (B,), the cumulative numbers, of
      `token_dtype`;
    - `num_draft_tokens`, a list of B numbers, and `max_spec_len`, the largest of them;
    - `draft_probs` (n, V): the distributions that the drafts are drawn from;
    - `target_probs` or `target_logits` (n, V): the target's distributions at the drafts, or their
      logarithms;
    - `bonus_token_ids` (B, 1) of `token_dtype`: a token of the target's distribution after the
      last draft of each request;
    - `generator`, on `device`: where all its noise must come from.

    It returns the tokens (B, max_spec_len + 1), padded with -1. Other arguments must have a
    default.

    Parameters
    ----------
    rejection_sample
        The sampler with flat rows.
    device
        Where its arguments are placed.
    token_dtype
        Integer type of token ids and cumulative numbers.

    Returns
    -------
    FlatBatch
        A sampler with padded rows and a parameter `num_draft_tokens`.

    Raises
    ------
    RequestError
        The function needs an argument that is not listed, or takes no `bonus_token_ids`.
    ContractError
        When it is called: the function writes to its arguments.

    Examples
    --------
    >>> import torch
    >>> from pytest_specdec.lossless import assert_lossless, flat_batch
    >>> def no_drafts(num_draft_tokens, max_spec_len, target_probs, bonus_token_ids, generator):
    ...     emitted = torch.full((len(num_draft_tokens), max_spec_len + 1), -1)
    ...     at = 0
    ...     for row, count in enumerate(num_draft_tokens):
    ...         emitted[row, 0] = bonus_token_ids[row, 0]
    ...         if count:
    ...             first = target_probs[at]
    ...             emitted[row, 0] = torch.multinomial(first, 1, generator=generator)[0]
    ...         at += count
    ...     return emitted
    >>> print(assert_lossless(flat_batch(no_drafts), k=1, vocab_size=2, max_examples=5))
    no_drafts is lossless: exact in 5 rounds and 5 batches of ragged rows
    """
    return FlatBatch(rejection_sample, torch.device(device), token_dtype)


class FlatBatch:
    """A sampler with padded rows and `num_draft_tokens`, made of one with flat rows."""

    def __init__(
        self, rejection_sample: Callable[..., Any], device: torch.device, token_dtype: torch.dtype
    ) -> None:
        self._sample, self._device, self._token_dtype = rejection_sample, device, token_dtype
        self._wanted = _wanted(rejection_sample)
        self._generators: tuple[torch.Generator, torch.Generator] | None = None
        self.__name__ = getattr(rejection_sample, "__name__", type(rejection_sample).__name__)
        names = ["target_probs", "draft_probs", "draft_tokens", COUNTS]
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, keyword) for name in names]
        if "generator" in self._wanted:
            parameters.append(inspect.Parameter("generator", keyword, default=None))
        self.__signature__ = inspect.Signature(parameters)

    def __call__(
        self,
        target_probs: torch.Tensor,
        draft_probs: torch.Tensor,
        draft_tokens: torch.Tensor,
        num_draft_tokens: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> Any:
        """The tokens of p (B, k + 1, V), q (B, k, V) and drafts (B, k), of which each row has so
        many (B,).
        """
        generator = self._on_device(generator)
        counts = num_draft_tokens.tolist()
        last = target_probs[torch.arange(len(counts)), num_draft_tokens].to(self._device)
        drafted = torch.arange(draft_tokens.shape[1]) < num_draft_tokens[:, None]
        target = target_probs[:, :-1][drafted].to(self._device)
        arguments = {
            "draft_token_ids": draft_tokens[drafted].to(self._device, self._token_dtype),
            "num_draft_tokens": counts,
            "max_spec_len": max(counts),
            "cu_num_draft_tokens": num_draft_tokens.cumsum(0).to(self._device, self._token_dtype),
            "draft_probs": draft_probs[drafted].to(self._device),
            "target_probs": target,
            "target_logits": target.log(),
            "bonus_token_ids": torch.multinomial(last, 1, generator=generator).to(
                self._token_dtype
            ),
            "generator": generator,
        }
        given = {name: arguments[name] for name in self._wanted}
        written = {
            name: _copy(value)
            for name, value in given.items()
            if name not in (_NEEDED, "generator")
        }
        emitted = self._sample(**given)
        for name, before in written.items():
            if not _same(before, given[name]):
                raise ContractError(
                    f"it changed its argument {name}; clone it before writing to it"
                )
        return emitted

    def _on_device(self, generator: torch.Generator | None) -> torch.Generator | None:
        """A generator on the device which begins with the seed of the one that is passed, and goes
        on as that one does.
        """
        if generator is None or generator.device == self._device:
            return generator
        if self._generators is None or self._generators[0] is not generator:
            self._generators = (
                generator,
                torch.Generator(self._device).manual_seed(generator.initial_seed()),
            )
        return self._generators[1]


def _wanted(rejection_sample: Callable[..., Any]) -> list[str]:
    """Names of the arguments that it is to be called with. Raises RequestError for those that it
    cannot be given.
    """
    parameters = inspect.signature(rejection_sample).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return list(ARGUMENTS)
    names = {
        parameter.name
        for parameter in parameters
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
    }
    known = [name for name in ARGUMENTS if name in names]
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty
        and parameter.name not in known
        and parameter.kind not in _VARIADIC
    ]
    if missing or _NEEDED not in known:
        problem = f"it needs {', '.join(missing)}" if missing else f"it takes no {_NEEDED}"
        raise RequestError(
            f"{getattr(rejection_sample, '__name__', 'the sampler')} cannot be called with flat "
            f"rows: {problem}; wrap it in a function of {', '.join(ARGUMENTS)}; only {_NEEDED} is "
            "required"
        )
    return known


def _copy(argument: Any) -> Any:
    return (
        argument.clone()
        if isinstance(argument, torch.Tensor)
        else argument
        if isinstance(argument, int)
        else list(argument)
    )


def _same(before: Any, after: Any) -> bool:
    return torch.equal(before, after) if isinstance(before, torch.Tensor) else bool(before == after)
