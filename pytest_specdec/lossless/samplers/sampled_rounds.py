"""Many rounds of a sampler, drawn fast: distributions and drafts are looked up and drawn for
thousands of rounds at once.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ...common.errors import RequestError
from .dirichlet_evidence import PrefixCounts
from .prefix_tree import Prefix, PrefixTree
from .sampler import COUNTS, PADDING, ContractError, Inputs, Sampler, check_emitted

BATCH, LARGEST = 4096, 2**23
"""Rows of one call of a batched sampler, and numbers in the largest array that is made for it."""
Generator = np.random.Generator | torch.Generator


class DistributionTable:
    """A tree's distributions as arrays, rounded to the sampler's type; prefixes are codes in base
    V.
    """

    def __init__(self, tree: PrefixTree, sampler: Sampler) -> None:
        self._tree, self.vocab_size = tree, tree.vocab_size
        self._dtype = torch.float64 if sampler.numpy else sampler.dtype
        self._known: dict[tuple[float, ...], int] = {}
        self._distributions = np.empty((16, self.vocab_size))
        self._numbers: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def distributions(self, numbers: np.ndarray) -> np.ndarray:
        """(..., V) as the sampler gets them, in float64."""
        distributions: np.ndarray = self._distributions[numbers]
        return distributions

    def nulls(self, numbers: np.ndarray) -> np.ndarray:
        """(..., V) with a sum of one."""
        distributions: np.ndarray = self._distributions[numbers]
        distributions = distributions / distributions.sum(-1, keepdims=True)
        return distributions

    def numbers(self, depth: int, codes: np.ndarray) -> np.ndarray:
        """Which distributions follow prefixes of one length, by their codes; equal numbers,
        equal distributions.
        """
        if self._tree.by_position:
            return np.full(codes.shape, self._number((0,) * depth))
        known, numbers = self._numbers.get(depth, (np.empty(0, np.int64), np.empty(0, np.int64)))
        unique, where = np.unique(codes, return_inverse=True)
        new = np.setdiff1d(unique, known, assume_unique=True)
        if len(new):
            added = np.array(
                [self._number(decoded(code, depth, self.vocab_size)) for code in new.tolist()]
            )
            known, numbers = np.concatenate([known, new]), np.concatenate([numbers, added])
            order = known.argsort()
            known, numbers = known[order], numbers[order]
            self._numbers[depth] = known, numbers
        result: np.ndarray = numbers[np.searchsorted(known, unique)][where].reshape(codes.shape)
        return result

    def _number(self, prefix: Prefix) -> int:
        row = self._tree.row(prefix)
        if len(row) != self.vocab_size:
            raise RequestError(
                f"the distribution after {prefix} is over {len(row)} tokens, not "
                f"{self.vocab_size}; give one length"
            )
        number = self._known.setdefault(row, len(self._known))
        if number == len(self._distributions):
            self._distributions = np.concatenate(
                [self._distributions, np.empty_like(self._distributions)]
            )
        self._distributions[number] = torch.tensor(row, dtype=self._dtype).double().numpy()
        return number


def decoded(code: int, depth: int, vocab_size: int) -> Prefix:
    """The tokens of a prefix of known length."""
    return tuple(code // vocab_size**at % vocab_size for at in reversed(range(depth)))


class SampledRounds:
    """Rounds of one sampler: their tokens, continued by draws from the target to k + 1.

    Whatever the number of drafts is, tokens that are so continued follow one distribution; `ragged`
    rounds have 0 to k drafts.
    """

    def __init__(
        self,
        sampler: Sampler,
        target: PrefixTree,
        draft: PrefixTree,
        k: int,
        seed: int,
        *,
        ragged: bool = False,
    ) -> None:
        """Raises RequestError for distributions that do not go together or that the sampler cannot
        be given.
        """
        if k < 1 or target.vocab_size != draft.vocab_size:
            raise RequestError(
                f"k is {k}, the target's vocabulary {target.vocab_size} and the draft's "
                f"{draft.vocab_size}; "
                "give at least one draft, and distributions over the same tokens"
            )
        if ragged and not sampler.ragged:
            raise RequestError(
                f"the sampler takes no {COUNTS}; give it that parameter to have ragged rows tried"
            )
        if target.vocab_size ** (k + 1) >= 2**63:
            raise RequestError(
                f"{k + 1} tokens of {target.vocab_size} are too many sequences to count; choose a "
                "smaller k"
            )
        sampler.check_distributions(target, draft)
        self.target, self.draft, self.k = (
            DistributionTable(target, sampler),
            DistributionTable(draft, sampler),
            k,
        )
        self._sampler, self._rng = sampler, np.random.default_rng(seed)
        self._generator = generator_of(sampler, seed)
        self.tokens = np.empty((0, k + 1), dtype=np.int64)
        """(rounds, k + 1): what has been drawn so far."""
        self.ragged, self.counts = ragged, np.empty(0, dtype=np.int64)
        """(rounds,): how many drafts they had."""

    def more(self, rounds: int) -> None:
        """Draw so many more. Raises ContractError for what no round can emit."""
        drafts, counts = self._drafts(rounds), np.full(rounds, self.k)
        if self._sampler.batched:
            step = min(BATCH, max(1, LARGEST // ((self.k + 1) * self.target.vocab_size)))
            if self.ragged:
                counts = self._rng.integers(0, self.k + 1, rounds)
                counts[::step] = self.k  # no engine calls its sampler for a batch without drafts
            parts = [
                self._batch(drafts[at : at + step], counts[at : at + step])
                for at in range(0, rounds, step)
            ]
            emitted = np.concatenate(parts)
        else:
            emitted = self._singly(drafts)
        self.tokens = np.concatenate([self.tokens, self._continued(emitted)])
        self.counts = np.concatenate([self.counts, counts])

    def levels(self) -> list[PrefixCounts]:
        """The tokens counted after the prefixes of each length: for each of `kinds` in turn k + 1
        levels.
        """
        return [level for drafts in self.kinds() for level in self._levels(self.rounds_of(drafts))]

    def kinds(self) -> list[int]:
        """Numbers of drafts that rounds have had."""
        return [int(count) for count in np.unique(self.counts)] if self.ragged else [self.k]

    def rounds_of(self, drafts: int) -> np.ndarray:
        """(rounds, k + 1): the tokens of rounds with so many drafts."""
        return self.tokens[self.counts == drafts] if self.ragged else self.tokens

    def _levels(self, tokens: np.ndarray) -> Iterator[PrefixCounts]:
        size, codes = self.target.vocab_size, np.zeros(len(tokens), dtype=np.int64)
        for depth in range(self.k + 1):
            codes = codes * size + tokens[:, depth]
            pairs, counts = np.unique(codes, return_counts=True)
            prefixes, last = np.divmod(pairs, size)
            distributions = self.target.numbers(depth, prefixes)
            chances = self.target.nulls(distributions)[np.arange(len(pairs)), last]
            yield PrefixCounts(
                depth, size, prefixes, distributions, last, chances, counts.astype(float)
            )

    def _drafts(self, rounds: int) -> np.ndarray:
        """(rounds, k) drawn from the draft; zeros for a sampler that draws its own."""
        drafts, codes = np.zeros((rounds, self.k), dtype=np.int64), np.zeros(rounds, dtype=np.int64)
        if self._sampler.drafts == "own":
            return drafts
        for depth in range(self.k):
            drafts[:, depth] = drawn(
                self.draft.distributions(self.draft.numbers(depth, codes)), self._rng
            )
            codes = codes * self.draft.vocab_size + drafts[:, depth]
        return drafts

    def _given(self, drafts: np.ndarray, counts: np.ndarray) -> Inputs:
        """The arguments of a call with drafts (rows, k), of which so many (rows,) count."""
        codes, target, draft = np.zeros(len(drafts), dtype=np.int64), [], []
        for depth in range(self.k + 1):
            target.append(self.target.distributions(self.target.numbers(depth, codes)))
            if depth < self.k:
                draft.append(self.draft.distributions(self.draft.numbers(depth, codes)))
                codes = codes * self.draft.vocab_size + drafts[:, depth]
        return batch_arguments(
            self._sampler, np.stack(target, 1), np.stack(draft, 1), drafts, counts
        )

    def _batch(self, drafts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        inputs = self._given(drafts, counts)
        return checked_batch(
            self._sampler, inputs, drafts, counts, self.target.vocab_size, self._generator
        )

    def _singly(self, drafts: np.ndarray) -> np.ndarray:
        """One call a round, with the same drafts one after the other: arguments are made once for
        them.
        """
        unique, counts = np.unique(drafts, axis=0, return_counts=True)
        emitted = np.full((len(drafts), self.k + 1), PADDING, dtype=np.int64)
        row, every = itertools.count(), np.full(1, self.k)
        for row_drafts, count in zip(unique, counts.tolist(), strict=True):
            inputs, untouched = (
                tuple(rows[0] for rows in self._given(row_drafts[None], every)) for _ in range(2)
            )
            expected = None if self._sampler.drafts == "own" else tuple(row_drafts.tolist())
            for _ in range(count):
                tokens = checked_call(
                    self._sampler,
                    inputs,
                    untouched,
                    expected,
                    self.target.vocab_size,
                    self._generator,
                )
                emitted[next(row), : len(tokens)] = tokens
        return emitted

    def _continued(self, emitted: np.ndarray) -> np.ndarray:
        """Padding replaced by draws from the target."""
        codes = np.zeros(len(emitted), dtype=np.int64)
        for depth in range(self.k + 1):
            missing = np.flatnonzero(emitted[:, depth] == PADDING)
            if len(missing):
                distributions = self.target.nulls(self.target.numbers(depth, codes[missing]))
                emitted[missing, depth] = drawn(distributions, self._rng)
            codes = codes * self.target.vocab_size + emitted[:, depth]
        return emitted


def drawn(distributions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One token (...) of each of the distributions (..., V), never one of probability 0."""
    sums = distributions.cumsum(-1)
    tokens: np.ndarray = (
        sums > rng.random(distributions.shape[:-1])[..., None] * sums[..., -1:]
    ).argmax(-1)
    return tokens


def checked_call(
    sampler: Sampler,
    inputs: Inputs,
    untouched: Inputs,
    drafts: Prefix | None,
    vocab_size: int,
    generator: Generator,
) -> list[int]:
    """The tokens of one unbatched round. Raises ContractError for what no round can emit, and for
    changed arguments.
    """
    tokens = [int(token) for token in sampler.call(inputs, generator)]
    sampler.unchanged(untouched, inputs)
    check_emitted(tokens, drafts, len(inputs[1]), vocab_size)
    return tokens


def batch_arguments(
    sampler: Sampler, target: np.ndarray, draft: np.ndarray, drafts: np.ndarray, counts: np.ndarray
) -> Inputs:
    """The arguments of one call, from p (rows, k + 1, V), q (rows, k, V), drafts (rows, k) and
    their numbers (rows,).

    What lies after a row's own distributions and drafts is replaced by flat distributions and
    zeros, which a sampler must not use.
    """
    width = int(counts.max())
    target, draft, drafts = target[:, : width + 1], draft[:, :width], drafts[:, :width]
    drafted, flat = np.arange(width) < counts[:, None], 1 / target.shape[-1]
    target = np.where((np.arange(width + 1) <= counts[:, None])[..., None], target, flat)
    return sampler.arguments(
        target, np.where(drafted[..., None], draft, flat), np.where(drafted, drafts, 0), counts
    )


def checked_batch(
    sampler: Sampler,
    inputs: Inputs,
    drafts: np.ndarray,
    counts: np.ndarray,
    vocab_size: int,
    generator: Generator,
) -> np.ndarray:
    """The tokens (rows, k + 1) of a batched call with drafts (rows, k), of which so many (rows,)
    count; padded.

    Raises ContractError for what no round can emit.
    """
    untouched = tuple(
        argument.copy() if isinstance(argument, np.ndarray) else argument.clone()
        for argument in inputs
    )
    emitted = padded(sampler.run(inputs, generator), *drafts.shape)
    sampler.unchanged(untouched, inputs)
    lengths = (np.cumsum(emitted == PADDING, 1) == 0).sum(1)
    inside = np.arange(emitted.shape[1]) < lengths[:, None]
    wrong = (np.where(inside, (emitted < 0) | (emitted >= vocab_size), emitted != PADDING)).any(1)
    wrong |= (lengths == 0) | (lengths > counts + 1)
    if sampler.drafts == "given":
        wrong |= (inside[:, 1:] & (emitted[:, :-1] != drafts)).any(1)
    for row in np.flatnonzero(wrong)[:1].tolist():
        kept = emitted[row, : np.flatnonzero(emitted[row] != PADDING).max(initial=-1) + 1].tolist()
        count = int(counts[row])
        expected = None if sampler.drafts == "own" else tuple(drafts[row, :count].tolist())
        check_emitted(kept, expected, count, vocab_size, f"row {row} of a batch of {len(drafts)}")
    return emitted


def padded(emitted: Any, rows: int, k: int) -> np.ndarray:
    """What a batched sampler returned, as (rows, k + 1) whole numbers."""
    if isinstance(emitted, torch.Tensor):
        emitted = emitted.detach().cpu().numpy()
    if isinstance(emitted, Sequence):
        lists = [
            row_tokens.tolist()
            if isinstance(row_tokens, torch.Tensor | np.ndarray)
            else list(row_tokens)
            for row_tokens in emitted
        ]
        longest = max(map(len, lists), default=0)
        emitted = np.array(
            [row_tokens + [PADDING] * (longest - len(row_tokens)) for row_tokens in lists]
        )
    if (
        not isinstance(emitted, np.ndarray)
        or emitted.ndim != 2
        or len(emitted) != rows
        or emitted.shape[1] > k + 1
    ):
        shape = (
            f"of shape {emitted.shape}"
            if isinstance(emitted, np.ndarray)
            else type(emitted).__name__
        )
        raise ContractError(
            f"it returned tokens {shape} for {rows} rows; return {rows} x (k + 1 = {k + 1}), "
            "padded with -1"
        )
    if not np.issubdtype(emitted.dtype, np.integer):
        raise ContractError(f"it returned tokens of type {emitted.dtype}; return whole numbers")
    whole = np.full((rows, k + 1), PADDING, dtype=np.int64)
    whole[:, : emitted.shape[1]] = emitted
    return whole


def generator_of(sampler: Sampler, seed: int) -> Generator:
    """The generator to pass."""
    return np.random.default_rng(seed) if sampler.numpy else torch.Generator().manual_seed(seed)


def cuda_devices() -> range:
    """The GPUs whose generators may have been drawn from; looking does not start CUDA."""
    return range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators of torch, numpy and random start from a seed, and are put back
    afterwards.
    """
    ours, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(cuda_devices()):
        try:
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(numpys)
