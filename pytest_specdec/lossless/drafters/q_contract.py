"""The q contract of drafters: drafts are drawn from the distribution that is reported for them.

A drafter that breaks it (huggingface/transformers#47932, deepseek-ai/DeepSpec#31) usually raises
acceptance, so that no floor sees it, and the output is no longer the target's. Drafts are judged
against the reported distribution as texts are against the target's: exactly where the drafter's
draws can be enumerated, else by a test martingale.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch

from ...common.errors import MeasurementError, RequestError
from ..budget import check_alpha
from ..enumeration.paths import NotEnumerableError
from ..samplers.exact import PathFollower, outcomes
from ..samplers.prefix_tree import Prefix
from ..samplers.sampled_rounds import generator_of, seeded
from ..samplers.sampler import ContractError, Emitted, Sampler, emitted_tokens
from ..texts.martingale import Draws, evidence
from ..texts.token_scores import TokenDistributions

Proposal = tuple[torch.Tensor, torch.Tensor]
"""Drafts (k,) or (rows, k), and the distributions reported for them (k, V) or (rows, k, V)."""
Propose = Callable[..., Any]
Method = Literal["auto", "exact", "sampled"]
ALPHA = 1e-6
"""False alarms of one sampled check."""
Rows = tuple[tuple[float, ...], ...]
Past = tuple[Prefix, Rows]
"""Drafts (i,) and the distributions reported up to the next one (i + 1, V)."""
_SUM = 1e-3
"""How far a reported distribution may be from one; half precision is this coarse."""


@dataclasses.dataclass(frozen=True)
class QContractResult:
    """Whether drafts follow their reported distributions. Natural reading: `assert found.kept,
    found.message`.
    """

    drafts: int
    kept: bool
    message: str
    evidence: float = 1.0
    """Highest value of the test martingale; infinite for a draft of reported probability 0. 1 where
    exact.
    """
    z: float = 0.0
    """Standardised surprisal of the drafts under their distributions, about standard normal where
    the contract is kept.
    """
    error: float = 0.0
    """Total variation of the worst distribution where exact."""


def q_contract(
    proposals: Iterable[Proposal], *, alpha: float = ALPHA, seed: int = 0
) -> QContractResult:
    """Judge recorded drafts by the distributions that were reported for them.

    Parameters
    ----------
    proposals
        Pairs of drafts, (k,) or (rows, k), and their reported distributions q, (k, V) or (rows, k,
        V), in the order in which the drafts were drawn. A row whose distribution is all zeros has
        no draft there.
    alpha
        The probability with which a drafter that keeps the contract fails, at most.
    seed
        Breaks ties of ranks.

    Returns
    -------
    QContractResult
        `.kept`, and `.message`: which draft breaks the contract, and what to do.

    Raises
    ------
    RequestError
        `alpha` is not between 0 and 1, or the shapes do not go together.
    ContractError
        A reported distribution does not sum to one, or a draft is outside the vocabulary.
    MeasurementError
        There are no drafts.

    Notes
    -----
    The test is a test martingale (Ville's inequality), valid at any number of drafts.

    Examples
    --------
    Greedy drafts, reported with the distribution that they are the arg-max of:

    >>> import torch
    >>> from pytest_specdec.lossless import q_contract
    >>> reported = torch.tensor([[0.6, 0.4]])
    >>> result = q_contract((torch.tensor([0]), reported) for _ in range(200))
    >>> result.kept
    False
    >>> honest = torch.Generator().manual_seed(0)
    >>> drafts = (torch.multinomial(reported[0], 1, generator=honest) for _ in range(200))
    >>> print(q_contract((draft, reported) for draft in drafts).message)
    200 drafts follow their reported distributions; nothing to do
    """
    check_alpha(alpha)
    parts: list[Draws] = []
    drafts = 0
    for tokens, distributions in proposals:
        tokens, distributions = _flat(tokens, distributions)
        chances = distributions.gather(1, tokens[:, None])[:, 0]
        for at in (chances == 0).nonzero()[:1, 0].tolist():
            message = (
                f"draft {drafts + at + 1} is token {int(tokens[at])}, which its reported "
                "distribution gives probability 0; report the "
                "distribution that drafts are drawn from, after all filters"
            )
            return QContractResult(drafts + at + 1, False, message, math.inf)
        drafts += len(tokens)
        parts.append(TokenDistributions(distributions.log()).draws(tokens))
    if not drafts:
        raise MeasurementError(
            "no drafts were proposed, so nothing is known of their distribution; draft some"
        )
    joined = Draws.joined(parts, np.arange(drafts))
    run = evidence(joined, np.random.default_rng(seed).random(drafts))
    reached, z = int(run.reached(alpha)), float(joined.z())
    if not reached:
        return QContractResult(
            drafts,
            True,
            f"{drafts} drafts follow their reported distributions; nothing to do",
            run.highest_value,
            z,
        )
    suspect = run.suspect(reached - 1).replace("the target", "that distribution")
    message = (
        f"drafts are not drawn from their reported distribution: evidence reaches {1 / alpha:.3g} "
        f"at draft {reached} of {drafts} and is "
        f"most like {suspect}; report the distribution that drafts are drawn from, after "
        "temperature and filters, one-hot if greedy"
    )
    return QContractResult(drafts, False, message, run.highest_value, z)


def exact_q_contract(propose: Propose, *, tolerance: float = 2e-6) -> QContractResult:
    """Follow every draw of `propose(generator=None)`, which returns the drafts (k,) and their
    distributions (k, V) of one round.

    After each past, every token must be drafted as often as reported, on average over all other
    draws. The past is the drafts before and the distributions reported so far: without
    these, a distribution that was chosen by its own draft, or that is another context's, is right
    in the mean. Raises NotEnumerableError for a draw that cannot be followed, RequestError and
    ContractError for invalid distributions.
    """
    drafted: dict[Past, dict[int, float]] = {}
    reported: dict[Past, dict[int, float]] = {}
    sampler = Sampler(propose)

    def proposed(generator: Any) -> tuple[Emitted, Rows]:
        tokens, distributions = sampler.run((), generator)
        rows = _rows(torch.as_tensor(distributions))
        return emitted_tokens(tokens), rows

    with PathFollower(sampler) as following:
        for (tokens, rows), weight in following.runs(proposed):
            if len(tokens) != len(rows):
                raise RequestError(
                    f"{len(tokens)} drafts and {len(rows)} distributions; give (k,) and (k, V)"
                )
            for drafts, chance in outcomes(tokens):
                for at, draft in enumerate(drafts):
                    past, mass = (drafts[:at], rows[: at + 1]), weight * chance
                    for other, share in enumerate(rows[at]):
                        _add(reported, past, other, mass * share)
                    _add(drafted, past, draft, mass)
    return _compared(drafted, reported, tolerance)


def assert_q_contract(
    propose: Propose,
    *,
    method: Method = "auto",
    rounds: int = 2_000,
    alpha: float = ALPHA,
    seed: int = 0,
) -> QContractResult:
    """Raise AssertionError unless a drafter's drafts follow the distributions that it reports.

    Parameters
    ----------
    propose
        `propose(generator=None)` returns the drafts (k,) of one round and their distributions q (k,
        V). For `method="sampled"` it may return many rows at once, (rows, k) and (rows, k, V), and
        those of another context in each call.
    method
        `"exact"` follows every draw of one round. `"sampled"` calls `propose` `rounds` times.
        `"auto"` samples where a draw cannot be followed.
    rounds
        Calls if sampled.
    alpha
        The probability with which a drafter that keeps the contract fails, at most; 0 if exact.
    seed
        Of the generator that is passed, and of torch's, numpy's and Python's global ones.

    Returns
    -------
    QContractResult
        With `.kept` True.

    Raises
    ------
    AssertionError
        The contract is broken; the message names the draft.
    RequestError
        The method is unknown, or the shapes do not go together.
    NotEnumerableError
        `method="exact"`, and a draw cannot be followed.

    Examples
    --------
    >>> import torch
    >>> from pytest_specdec.lossless import assert_q_contract
    >>> reported = torch.tensor([[0.6, 0.4]])
    >>> def propose(generator=None):
    ...     return torch.multinomial(reported[0], 1, generator=generator), reported
    >>> print(assert_q_contract(propose).message)
    every draft follows its reported distribution; nothing to do
    """
    __tracebackhide__ = True
    if method not in ("auto", "exact", "sampled"):
        raise RequestError(f'method is {method!r}; use "auto", "exact" or "sampled"')
    sampler, result = Sampler(propose), _exact_if_possible(propose, method)
    if result is None:
        generator = generator_of(sampler, seed)
        calls = (sampler.run((), generator) for _ in range(rounds))
        with seeded(seed):
            result = q_contract(
                (
                    (torch.as_tensor(drafts), torch.as_tensor(distributions))
                    for drafts, distributions in calls
                ),
                alpha=alpha,
                seed=seed,
            )
    if not result.kept:
        raise AssertionError(f"{sampler.name} breaks the q contract: {result.message}")
    return result


def _exact_if_possible(propose: Propose, method: Method) -> QContractResult | None:
    if method == "sampled":
        return None
    try:
        return exact_q_contract(propose)
    except NotEnumerableError:
        if method == "exact":
            raise
        return None


def _rows(distributions: torch.Tensor) -> Rows:
    """Distributions (k, V) to compare; rounded, so that arithmetic noise does not split one past
    into several.
    """
    if distributions.dim() != 2:
        raise RequestError(f"distributions have shape {tuple(distributions.shape)}; give (k, V)")
    _check_distributions(distributions.double())
    return tuple(tuple(round(share, 7) for share in row) for row in distributions.double().tolist())


def _add(table: dict[Past, dict[int, float]], past: Past, token: int, weight: float) -> None:
    row = table.setdefault(past, {})
    row[token] = row.get(token, 0.0) + weight


def _compared(
    drafted: dict[Past, dict[int, float]], reported: dict[Past, dict[int, float]], tolerance: float
) -> QContractResult:
    gaps = {
        (past, token): drafted[past].get(token, 0.0) - row.get(token, 0.0)
        for past, row in reported.items()
        for token in row.keys() | drafted[past].keys()
    }
    if not gaps:
        raise MeasurementError(
            "no drafts were proposed, so nothing is known of their distribution; draft some"
        )
    wrong = [at for at, gap in gaps.items() if not abs(gap) <= tolerance]
    if not wrong:
        return QContractResult(
            len(gaps), True, "every draft follows its reported distribution; nothing to do"
        )
    past, token = min(wrong, key=lambda at: (len(at[0][0]), -abs(gaps[at])))
    reach = sum(drafted[past].values())
    variation = sum(abs(gap) for (other, _), gap in gaps.items() if other == past) / 2 / reach
    got, wanted = drafted[past].get(token, 0.0) / reach, reported[past].get(token, 0.0) / reach
    message = (
        f"after {list(past[0])} token {token} is drafted with probability {got:.6g} where q "
        f"reports {wanted:.6g} "
        f"(total variation {variation:.2g}); report the distribution that drafts are drawn from"
    )
    return QContractResult(len(gaps), False, message, math.inf, error=variation)


def _flat(tokens: torch.Tensor, distributions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Drafts (n,) and their distributions (n, V) in float64, row by row. Raises RequestError for
    shapes or distributions that are invalid.
    """
    if distributions.dim() not in (2, 3) or distributions.shape[:-1] != tokens.shape:
        shapes = f"{tuple(tokens.shape)} and {tuple(distributions.shape)}"
        raise RequestError(
            f"drafts and distributions have shapes {shapes}; give (k,) and (k, V), or (rows, k) "
            "and (rows, k, V)"
        )
    tokens, distributions = tokens.flatten(), distributions.flatten(0, -2).double()
    sums = distributions.sum(-1)
    some = sums != 0
    _check_distributions(distributions[some])
    if not ((tokens[some] >= 0) & (tokens[some] < distributions.shape[-1])).all():
        raise ContractError(
            f"a draft is outside the {distributions.shape[-1]} tokens of its distribution; "
            "draft ids of the vocabulary"
        )
    return tokens[some], distributions[some] / sums[some, None]


def _check_distributions(distributions: torch.Tensor) -> None:
    if not (
        torch.isfinite(distributions).all()
        and (distributions >= 0).all()
        and ((distributions.sum(-1) - 1).abs() < _SUM).all()
    ):
        raise ContractError(
            "a reported distribution has negative or infinite entries, or does not sum to one; "
            "report probabilities"
        )
