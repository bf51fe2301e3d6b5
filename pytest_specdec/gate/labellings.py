"""Labellings of runs: which of each prompt's runs are called `now`, seeded by the prompts' keys.

A prompt has the same labels in every case that holds it, so that the tests of a session's cases
share them and know how their statistics vary together.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.bool_]

_BLOCK = 1 << 22
"""Labels in memory at a time, where they are not kept."""
_KEPT = 1 << 26
"""Labels that are kept for the next case: 64 MiB."""


class Labellings:
    """All labellings of some prompts' runs where there are no more than `number`, else as many at
    random.

    Iterating gives blocks of shape (labellings, runs - 1, prompts): whether each run but the first
    is called `now`. The first run's label follows, since `now_runs` of a prompt's runs are.
    """

    def __init__(
        self, prompts: Sequence[str], *, runs: int, now_runs: int, number: int, seed: int = 0
    ) -> None:
        self.prompts, self.runs, self.now_runs, self.seed = tuple(prompts), runs, now_runs, seed
        every = math.comb(runs, now_runs) ** len(self.prompts)
        self.complete = every <= number
        """Whether these are all labellings, the observed one among them."""
        self.number = every if self.complete else number
        self._kept: list[Labels] = []

    def __iter__(self) -> Iterator[Labels]:
        if self._kept:
            yield from self._kept
            return
        kept, keeps = [], self.number * len(self.prompts) * (self.runs - 1) <= _KEPT
        for block in self._every() if self.complete else self._drawn():
            if keeps:
                kept.append(block)
            yield block
        self._kept = kept

    def _every(self) -> Iterator[Labels]:
        """Each number from 0 on, written in base `len(table)`, holds a row of the table for each
        prompt.
        """
        called = itertools.combinations(range(self.runs), self.now_runs)
        table = np.array([[run in labels for run in range(1, self.runs)] for labels in called])
        digits = np.arange(self.number)[:, None] // len(table) ** np.arange(len(self.prompts))
        yield table[digits % len(table)].swapaxes(1, 2)

    def _drawn(self) -> Iterator[Labels]:
        streams = [_stream(key, self.seed) for key in self.prompts]
        labels = np.arange(self.runs) >= self.runs - self.now_runs
        size = max(_BLOCK // max(len(self.prompts) * (self.runs - 1), 1), 1)
        for begin in range(0, self.number, size):
            unshuffled = np.tile(labels, (min(size, self.number - begin), 1))
            block = np.empty((len(unshuffled), self.runs - 1, len(streams)), dtype=bool)
            for prompt, stream in enumerate(streams):
                block[:, :, prompt] = stream.permuted(unshuffled, axis=1)[:, 1:]
            yield block


def _stream(key: str, seed: int) -> np.random.Generator:
    digest = hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
