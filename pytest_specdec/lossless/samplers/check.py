"""assert_lossless: whether a sampler keeps the target's distribution for any target and drafter."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import torch

from ...common.errors import RequestError
from ..budget import CALL, check_alpha
from ..enumeration.paths import UNSTEADY, NotEnumerableError
from .edge_draws import check_boundary
from .exact import REPEATS, RoundInput, SamplerCall, distribution_gap
from .exact_batch import BatchInput, batch_error
from .failure import SamplerFailure, failure_of
from .sampled import SampledResult, sampled_distribution_test
from .sampled_rounds import generator_of, seeded
from .sampler import Arrays, Drafts, Sampler, Verify
from .search import drawn_rounds, opposed_round, smallest_batch, smallest_round
from .seed_and_row_checks import check_rows, check_seed

Method = Literal["auto", "exact", "sampled"]
SAMPLED_EXAMPLES = 8
SAMPLED_BATCHES = 3
"""Of the sampled rounds, those that are drawn with ragged rows, too."""
EXACT_BATCHES = 25
REAL_ROUNDS = 64
DRAWS, BATCHED_DRAWS = 20_000, 200_000
UNTRIED = (
    "rows with different numbers of drafts were not tried; give the sampler a parameter "
    "num_draft_tokens, or wrap one with "
    "flat rows in flat_batch"
)


@dataclasses.dataclass(frozen=True)
class LosslessResult:
    """What a sampler has passed."""

    name: str
    method: Literal["exact", "sampled"]
    examples: int
    reason: str = ""
    """Why it was sampled although it was to be enumerated."""
    detectable: float = 0.0
    """The total variation of the first token that sampling finds 19 times in 20; 0 where the
    distribution is exact.
    """
    alpha: float = 0.0
    """The probability with which a lossless sampler would have failed; 0 where the distribution is
    exact.
    """
    batches: int = 0
    """Further examples in which the rows of a batch had different numbers of drafts, 0 among
    them.
    """
    untried: str = ""
    """What was not tried, and how to have it tried."""

    def __str__(self) -> str:
        tried = f"{self.examples} rounds" + (
            f" and {self.batches} batches of ragged rows" if self.batches else ""
        )
        untried = f"; {self.untried}" if self.untried else ""
        if self.method == "exact":
            return f"{self.name} is lossless: exact in {tried}{untried}"
        because = f"; not exact, since {self.reason}" if self.reason else ""
        passed = (
            f"{self.name} shows no bias of {self.detectable:.2g} or more in {tried} (false alarms "
            f"{self.alpha:.2g})"
        )
        return f"{passed}{because}{untried}"


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is tried."""

    sampler: Sampler
    vocab_size: int
    k: int
    examples: int
    draws: int
    seed: int
    boundary: bool
    alpha: float


def assert_lossless(
    verify: Verify,
    *,
    vocab_size: int = 4,
    k: int = 3,
    method: Method = "auto",
    drafts: Drafts = "given",
    batched: bool = False,
    arrays: Arrays = "auto",
    dtype: torch.dtype = torch.float32,
    boundary: bool = True,
    max_examples: int = 100,
    draws: int | None = None,
    seed: int = 0,
    alpha: float = CALL,
) -> LosslessResult:
    """Raise AssertionError unless the tokens that a sampler emits follow the target's joint
    distribution, whatever the target's distribution p, the drafter's q and the drafts are.

    Rounds of 1 to `k` drafts over 2 to `vocab_size` tokens are tried, the same ones for the same
    `seed`. In every method the sampler must also leave its arguments as they are, emit tokens of
    the vocabulary, use its seed, and keep the rows of a batch apart.

    Parameters
    ----------
    verify
        The sampler: `verify(target_probs, draft_probs, draft_tokens, generator=None)` gets p (k +
        1, V), q (k, V) and the drafts (k,) and returns the emitted tokens: the accepted drafts,
        then the recovered or the bonus token. With a parameter `num_draft_tokens`, or made by
        `flat_batch`, it is also given batches whose rows have different numbers of drafts, 0
        included; each row must follow its own target, and all rows the product of theirs.
    vocab_size, k
        The largest vocabulary and number of drafts to try.
    method
        `"exact"` follows every draw, in `max_examples` rounds, so that any bias beyond rounding is
        seen. `"sampled"` counts up to `draws` emissions in each of at most 8 rounds. `"auto"`
        samples where a draw cannot be followed; `LosslessResult.reason` names it.
    drafts, batched, arrays, dtype
        How the sampler is called, see `Sampler`.
    boundary
        Whether single uniform draws are also forced to 0 and to their largest value.
    max_examples
        Rounds to try.
    draws
        Emissions counted in each sampled round; 20,000, or 200,000 if batched, unless given.
    seed
        Of the rounds and of sampled draws.
    alpha
        The probability with which one sampled call fails a lossless sampler, at most.

    Returns
    -------
    LosslessResult
        What was tried, and the smallest bias that would have been seen.

    Raises
    ------
    AssertionError
        The sampler is not lossless; the message shows the smallest round found.
    RequestError
        An option is out of range.
    NotEnumerableError
        `method="exact"`, and a draw cannot be followed.

    References
    ----------
    The rule under test: Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318.

    Examples
    --------
    A sampler that accepts every draft, though the target might not:

    >>> import torch
    >>> from pytest_specdec.lossless import assert_lossless
    >>> def accept_all(target_probs, draft_probs, draft_tokens, generator=None):
    ...     bonus = torch.multinomial(target_probs[-1], 1, generator=generator)
    ...     return torch.cat([draft_tokens, bonus])
    >>> try:
    ...     assert_lossless(accept_all, k=1, vocab_size=2)
    ... except AssertionError as failure:
    ...     print(str(failure).partition(":")[0])
    accept_all is not lossless (exact)
    """
    __tracebackhide__ = True
    if method not in ("auto", "exact", "sampled"):
        raise RequestError(f'method is {method!r}; use "auto", "exact" or "sampled"')
    if vocab_size < 2 or k < 1 or max_examples < 1:
        raise RequestError(
            f"vocab_size {vocab_size}, k {k}, max_examples {max_examples}; use at least 2, 1 and 1"
        )
    check_alpha(alpha)
    sampler = Sampler(verify, arrays, drafts, batched, dtype)
    draws = draws or (BATCHED_DRAWS if sampler.batched else DRAWS)
    plan = _Plan(sampler, vocab_size, k, max_examples, draws, seed, boundary, alpha)
    checked = _checked(plan, method)
    _raise(sampler, failure_of(lambda: check_seed(sampler, seed)), "contract")
    _raise(sampler, failure_of(lambda: check_rows(sampler, seed)), "contract")
    return checked


def _checked(plan: _Plan, method: Method) -> LosslessResult:
    __tracebackhide__ = True
    reason = ""
    if method != "sampled":
        try:
            return _exact(plan)
        except NotEnumerableError as unable:
            if method == "exact":
                raise
            reason = str(unable)
    return _sampled(plan, reason)


def _untried(sampler: Sampler) -> str:
    return UNTRIED if sampler.batched and not sampler.ragged else ""


def _exact(plan: _Plan) -> LosslessResult:
    __tracebackhide__ = True
    sizes = plan.sampler, plan.vocab_size, plan.k
    given = smallest_round(*sizes, _Search(plan).wrong, plan.examples, plan.seed)
    if given is not None:
        fault = _confirmed(plan, given).with_example(given, plan.sampler)
        _raise(plan.sampler, fault, "exact", given)
    batches = min(plan.examples, EXACT_BATCHES) if plan.sampler.ragged else 0
    if batches:
        batch = smallest_batch(*sizes, _Search(plan).wrong, batches, plan.seed)
        if batch is not None:
            _raise(plan.sampler, _confirmed(plan, batch), "exact", batch)
    return LosslessResult(
        plan.sampler.name, "exact", plan.examples, batches=batches, untried=_untried(plan.sampler)
    )


class _Search:
    """Judges rounds one after the other.

    A sampler whose draws are not followed is wrong by its first rounds at the latest. So calls of
    the first wrong round are repeated to see that, and those of the round that is shown
    (`_confirmed`), but not all those between.
    """

    def __init__(self, plan: _Plan) -> None:
        self._plan, self._repeats = plan, REPEATS

    def wrong(self, tried: RoundInput | BatchInput) -> bool:
        """Raises NotEnumerableError, see `_wrong`."""
        wrong = _wrong(self._plan, tried, self._repeats) is not None
        if wrong:
            self._repeats = 0
        return wrong


def _confirmed(plan: _Plan, given: RoundInput | BatchInput) -> SamplerFailure:
    """What is wrong in a round that a search found. Raises NotEnumerableError, see `_wrong`."""
    fault = _wrong(plan, given, REPEATS)
    if fault is None:
        raise NotEnumerableError(UNSTEADY)
    return fault


def _wrong(plan: _Plan, given: RoundInput | BatchInput, repeats: int) -> SamplerFailure | None:
    """What is wrong in one round, if anything is.

    Raises NotEnumerableError where the sampler fails on draws that are followed and not on real
    ones, and where `repeats` further calls of a wrong round show draws that are not followed.
    """
    fault = failure_of(lambda: _wrong_distribution(plan.sampler, given, repeats))
    if (
        fault is not None
        and fault.cause is not None
        and not _raises(plan.sampler, given, type(fault.cause))
    ):
        raise NotEnumerableError(
            f'{fault.text}, and only while its draws were followed; use method="sampled"'
        )
    if isinstance(given, RoundInput):
        return (
            failure_of(lambda: check_boundary(plan.sampler, given))
            if fault is None and plan.boundary
            else fault
        )
    if fault is None or fault.cause is None:
        return fault
    return dataclasses.replace(fault, text=f"{given} {fault.text}")


def _raises(sampler: Sampler, given: SamplerCall, kind: type[Exception]) -> bool:
    """Whether some real rounds end in such an exception."""
    cases = [drafts for drafts, _ in given.drafted(sampler)]
    with seeded(0):
        for seed in range(REAL_ROUNDS):
            try:
                sampler.run(
                    given.inputs(sampler, cases[seed % len(cases)]), generator_of(sampler, seed)
                )
            except kind:
                return True
            except Exception:  # noqa: S112  # another fault, which real rounds will show
                continue
    return False


def _wrong_distribution(
    sampler: Sampler, given: RoundInput | BatchInput, repeats: int
) -> SamplerFailure | None:
    """Only calls of a wrong round are repeated: in a right one no draw was missed."""
    wrong = _wrong_in_calls(sampler, given, repeats=0)
    return wrong if wrong is None or not repeats else _wrong_in_calls(sampler, given, repeats)


def _wrong_in_calls(
    sampler: Sampler, given: RoundInput | BatchInput, repeats: int
) -> SamplerFailure | None:
    if isinstance(given, BatchInput):
        wrong = batch_error(given.distribution(sampler, repeats), given, sampler.tolerance)
        return None if wrong is None else SamplerFailure.of_batch(wrong, given)
    distribution = given.distribution(sampler, repeats)
    error = distribution_gap(distribution, given.target, given.k, sampler.tolerance)
    return None if error is None else SamplerFailure.of_distribution(error)


def _sampled(plan: _Plan, reason: str) -> LosslessResult:
    __tracebackhide__ = True
    examples = min(plan.examples, SAMPLED_EXAMPLES)
    rounds = [
        opposed_round(plan.vocab_size, plan.k),
        *drawn_rounds(plan.sampler, plan.vocab_size, plan.k, examples - 1, plan.seed),
    ]
    batches = rounds[:SAMPLED_BATCHES] if plan.sampler.ragged else []
    tests = [*((given, False) for given in rounds), *((given, True) for given in batches)]
    passed: list[SampledResult] = []
    for given, ragged in tests:
        count = functools.partial(_biased, plan, given, ragged, plan.alpha / len(tests), passed)
        _raise(plan.sampler, failure_of(count), "sampled", given)
    return LosslessResult(
        plan.sampler.name,
        "sampled",
        examples,
        reason,
        detectable=max(result.detectable for result in passed),
        alpha=plan.alpha,
        batches=len(batches),
        untried=_untried(plan.sampler),
    )


def _biased(
    plan: _Plan, given: RoundInput, ragged: bool, alpha: float, passed: list[SampledResult]
) -> SamplerFailure | None:
    """Count one more round; `passed` are the tests before, and this one where nothing is wrong."""
    distributions, seed = (given.target, given.draft, given.k), plan.seed + len(passed)
    test = sampled_distribution_test(
        plan.sampler, *distributions, alpha=alpha, draws=plan.draws, seed=seed, ragged=ragged
    )
    if test.caught:
        return SamplerFailure(test.message, test.prefix)
    passed.append(test)
    return None


def _raise(
    sampler: Sampler,
    fault: SamplerFailure | None,
    how: str,
    given: RoundInput | BatchInput | None = None,
) -> None:
    __tracebackhide__ = True
    if fault is not None:
        shown = "" if given is None else f"\n{fault.shown(given)}"
        raise AssertionError(
            f"{sampler.name} is not lossless ({fault.how or how}): {fault.text}{shown}"
        ) from fault.cause
