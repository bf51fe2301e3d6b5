"""The exact distribution of what a sampler emits: its draws become symbols, and every way through
it is followed.

No simulation is involved, so a bias of 1e-6 is seen. Draws count as continuous and parameters as
exact: what happens on the grid of floating-point uniforms, such as a draw of exactly 0, is not in
this distribution; `check` forces such draws.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from ...common.errors import RequestError
from ..enumeration.draw_sources import DrawSource, SymbolicDraws
from ..enumeration.lazy_token import LazyToken
from ..enumeration.numpy_draws import numpy_draws
from ..enumeration.paths import UNSTEADY, NotEnumerableError, Paths
from ..enumeration.torch_draws import TorchDraws
from .prefix_tree import Distributions, Prefix, PrefixTree, as_tree
from .sampled_rounds import cuda_devices
from .sampler import Arrays, Drafts, Emitted, Inputs, Sampler, Verify, check_emitted

Distribution = dict[Prefix, float]
JointDistribution = dict[tuple[Prefix, ...], float]
"""Of the tokens that the rows of a batch emit together."""
Result = TypeVar("Result")
UNREACHED = 2**-24
"""Paths less likely than one step of a float32 uniform may fail: rounding opens them, and no draw
lies there.
"""
REPEATS = 16
"""Further calls where a sampler seems to draw nothing: its draws may come from a generator of its
own, as a GPU's kernels' do.
"""


@dataclasses.dataclass(frozen=True)
class DistributionGap:
    """The worst probability among the shortest prefixes that have a wrong one."""

    prefix: Prefix
    expected: float
    got: float
    total_variation: float
    """Between the distributions of all prefixes of this length."""


def output_distribution(
    verify: Verify,
    target: PrefixTree | Distributions,
    draft: PrefixTree | Distributions,
    k: int,
    *,
    arrays: Arrays = "auto",
    drafts: Drafts = "given",
    batched: bool = False,
) -> Distribution:
    """The distribution of the tokens that one round emits, exact up to rounding.

    Parameters
    ----------
    verify
        The sampler, see `assert_lossless`.
    target, draft
        The distributions p and q of the next token after each prefix: one distribution (V,) for
        every prefix, a list of distributions by position, a mapping from prefixes (tuples of
        tokens), a function of the prefix, or a `PrefixTree`. Drafts are drawn from `draft`,
        position by position.
    k
        Number of drafts.
    arrays, drafts, batched
        How the sampler is called, see `Sampler`. With `drafts="own"` the sampler draws them itself.

    Returns
    -------
    dict[tuple[int, ...], float]
        The probability of each sequence of emitted tokens.

    Raises
    ------
    RequestError
        `k` is below 1, the vocabularies differ, or an option is out of range.
    NotEnumerableError
        A draw of the sampler cannot be followed.
    ContractError
        The sampler emits what no round can emit.

    Examples
    --------
    >>> import torch
    >>> from pytest_specdec.lossless import output_distribution
    >>> def verify(target_probs, draft_probs, draft_tokens, generator=None):
    ...     return torch.multinomial(target_probs[0], 1, generator=generator)
    >>> distribution = output_distribution(verify, [0.75, 0.25], [0.5, 0.5], 1)
    >>> {tokens: round(probability, 3) for tokens, probability in sorted(distribution.items())}
    {(0,): 0.75, (1,): 0.25}
    """
    return RoundInput(as_tree(target), as_tree(draft), k).distribution(
        Sampler(verify, arrays, drafts, batched)
    )


@dataclasses.dataclass(frozen=True)
class RoundInput:
    """What one round is given: the distributions of target and drafter, and how many tokens are
    drafted.
    """

    target: PrefixTree
    draft: PrefixTree
    k: int

    def distribution(self, sampler: Sampler, repeats: int = REPEATS) -> Distribution:
        """The distribution of the emitted tokens, see `output_distribution` and `PathFollower`."""
        if self.k < 1 or self.target.vocab_size != self.draft.vocab_size:
            sizes = f"{self.target.vocab_size} and {self.draft.vocab_size}"
            raise RequestError(
                f"k is {self.k}, the vocabularies have {sizes} tokens; use k of 1 or more and one "
                "vocabulary"
            )
        distribution: Distribution = {}
        cases = list(self.drafted(sampler))
        for drafts, _ in cases:
            self.inputs(sampler, drafts)  # distributions may be drawn when they are first asked for
        with PathFollower(sampler, repeats) as following:
            for drafts, chance in cases:
                for emitted, weight in following.distribution(self, drafts).items():
                    distribution[emitted] = distribution.get(emitted, 0.0) + chance * weight
        return distribution

    def drafted(self, sampler: Sampler) -> Iterator[tuple[Prefix | None, float]]:
        """All drafts that can be drawn, with their probability; one None for a sampler that draws
        its own.
        """
        if sampler.drafts == "own":
            yield None, 1.0
            return
        for drafts in itertools.product(range(self.draft.vocab_size), repeat=self.k):
            chance = math.prod(
                self.draft.row(drafts[:at])[token] for at, token in enumerate(drafts)
            )
            if chance > 0:
                yield drafts, chance

    def inputs(self, sampler: Sampler, drafts: Prefix | None) -> Inputs:
        """Raises RequestError where a sampler is to draw its own drafts from distributions that
        depend on them.
        """
        sampler.check_distributions(self.target, self.draft)
        along = drafts if drafts is not None else (0,) * self.k
        target, draft = self.target.rows(along), self.draft.rows(along)[:-1]
        return (
            sampler.arguments([target], [draft], [along], [self.k])
            if sampler.batched
            else sampler.arguments(target, draft, along)
        )

    def check(self, rows: Sequence[Prefix], drafts: Prefix | None) -> None:
        """Raises ContractError for tokens that no such round can emit."""
        check_emitted(rows[0], drafts, self.k, self.target.vocab_size)


class SamplerCall(Protocol):
    """What one call of a sampler is given: a round, or a batch of them."""

    def drafted(self, sampler: Sampler) -> Iterator[tuple[Any, float]]: ...

    def inputs(self, sampler: Sampler, drafts: Any) -> Inputs: ...

    def check(self, rows: Sequence[Prefix], drafts: Any) -> None: ...


class PathFollower(contextlib.AbstractContextManager["PathFollower"]):
    """While entered, calls of a sampler are followed along all their paths.

    A call of one outcome is made `repeats` times more, to see whether draws that are not followed
    change it.
    """

    def __init__(self, sampler: Sampler, repeats: int = REPEATS) -> None:
        self._sampler, self._repeats = sampler, repeats
        self._paths, self._stack = Paths(), contextlib.ExitStack()

    def __enter__(self) -> PathFollower:
        source = SymbolicDraws(self._paths)
        self._generator, self._torch = self._stack.enter_context(intercepted(source, self._sampler))
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def runs(self, once: Callable[[Any], Result]) -> Iterator[tuple[Result, float]]:
        """What `once(generator)` returns along each path, and how likely the path is; called again
        for each.
        """
        for _ in self._paths.all():
            self._torch.restart()
            result = once(self._generator)
            yield result, self._paths.weight

    def distribution(self, given: RoundInput, drafts: Prefix | None) -> Distribution:
        """The distribution of the tokens that a round emits for given drafts, see
        `joint_distribution`.
        """
        return {rows[0]: weight for rows, weight in self.joint_distribution(given, drafts).items()}

    def joint_distribution(self, given: SamplerCall, drafts: Any) -> JointDistribution:
        """The distribution of the tokens that all rows of one call emit for given drafts.

        Raises NotEnumerableError where tokens that no intercepted draw decides are others in
        another call.
        """
        inputs, untouched = (given.inputs(self._sampler, drafts) for _ in range(2))
        try:
            distribution = self._followed(inputs)
            if len(distribution) == 1 and any(
                self._followed(inputs) != distribution for _ in range(self._repeats)
            ):
                raise NotEnumerableError(UNSTEADY)
        finally:
            self._sampler.unchanged(
                untouched, inputs
            )  # first, since paths differ where arguments do
        for rows in (outcome for outcome, weight in distribution.items() if weight > UNREACHED):
            given.check(rows, drafts)
        return distribution

    def _followed(self, inputs: Inputs) -> JointDistribution:
        distribution: JointDistribution = {}
        for emitted, weight in self.runs(lambda generator: self._emitted(inputs, generator)):
            for rows, share in joint_outcomes(emitted):
                distribution[rows] = distribution.get(rows, 0.0) + share * weight
        return distribution

    def _emitted(self, inputs: Inputs, generator: Any) -> list[Emitted]:
        """One run along the current path; nothing from a path that rounding alone opens, where it
        fails.
        """
        try:
            return self._sampler.rows(inputs, generator)
        except Exception:
            if self._paths.weight < UNREACHED:
                return [[] for _ in range(len(inputs[0]) if self._sampler.batched else 1)]
            raise


@contextlib.contextmanager
def intercepted(source: DrawSource, sampler: Sampler) -> Iterator[tuple[Any, TorchDraws]]:
    """Answer all draws from a source; yields the generator to pass.

    Raises NotEnumerableError at the end if a generator was advanced nevertheless.
    """
    generator = torch.Generator().manual_seed(0)
    before = _states(generator)
    with numpy_draws(source) as numpy_generator, TorchDraws(source) as mode:
        yield (numpy_generator if sampler.numpy else generator), mode
    for name, state in _states(generator).items():
        if state != before.get(name, state):
            raise NotEnumerableError(
                f"{name} was advanced by a draw that cannot be intercepted, such as one inside a "
                "compiled function; "
                'call the sampler uncompiled, or use method="sampled"'
            )


def _states(generator: torch.Generator) -> dict[str, Any]:
    plain = np.random.get_state(legacy=True)
    return {
        **{
            f"the generator of cuda:{device}": torch.cuda.get_rng_state(device).numpy().tobytes()
            for device in cuda_devices()
        },
        "torch's global generator": torch.get_rng_state().numpy().tobytes(),
        "the generator that was passed": generator.get_state().numpy().tobytes(),
        "numpy's global generator": (plain[1].tobytes(), plain[2]),  # type: ignore[index]
        "the generator of random": random.getstate(),
    }


def outcomes(emitted: Emitted) -> Iterator[tuple[Prefix, float]]:
    """What undecided tokens may turn out to be; they are independent."""
    undecided = list(
        {id(token): token for token in emitted if isinstance(token, LazyToken)}.values()
    )
    for picked in itertools.product(*(token.weights.items() for token in undecided)):
        known = {id(token): outcome for token, (outcome, _) in zip(undecided, picked, strict=True)}
        yield (
            tuple(known[id(token)] if isinstance(token, LazyToken) else token for token in emitted),
            math.prod(w for _, w in picked),
        )


def joint_outcomes(rows: Sequence[Emitted]) -> Iterator[tuple[tuple[Prefix, ...], float]]:
    """The same for the rows of a batch, in which a token may occur more than once."""
    ends = list(itertools.accumulate(map(len, rows)))
    for whole, share in outcomes([token for row in rows for token in row]):
        yield tuple(whole[end - len(row) : end] for row, end in zip(rows, ends, strict=True)), share


def distribution_gap(
    distribution: Distribution, target: PrefixTree | Distributions, k: int, tolerance: float
) -> DistributionGap | None:
    """Compare a round's output distribution with the target's, over all prefixes of up to k + 1
    tokens.

    Emitted tokens are continued by samples of the target, so every prefix must have exactly the
    target's probability.
    """
    tree = as_tree(target)
    through: Distribution = {}
    for emitted, weight in distribution.items():
        for length in range(1, len(emitted) + 1):
            through[emitted[:length]] = through.get(emitted[:length], 0.0) + weight
    level: dict[Prefix, tuple[float, float]] = {(): (1.0, 0.0)}
    for _ in range(k + 1):
        level = _next_level(level, distribution, through, tree)
        gaps = {
            prefix: abs(through.get(prefix, 0.0) + continued - wanted)
            for prefix, (wanted, continued) in level.items()
        }
        worst = max(gaps, key=gaps.__getitem__)
        if not gaps[worst] <= tolerance:
            wanted, continued = level[worst]
            return DistributionGap(
                worst, wanted, through.get(worst, 0.0) + continued, sum(gaps.values()) / 2
            )
    return None


def _next_level(
    level: dict[Prefix, tuple[float, float]],
    distribution: Distribution,
    through: Distribution,
    tree: PrefixTree,
) -> dict[Prefix, tuple[float, float]]:
    """From each prefix to those one token longer: the target's probability, and that of rounds
    which the target continued.
    """
    longer = {}
    for prefix, (wanted, continued) in level.items():
        ended = continued + distribution.get(prefix, 0.0)
        for token, chance in enumerate(tree.row(prefix)):
            longer[(*prefix, token)] = wanted * chance, ended * chance
    return longer
