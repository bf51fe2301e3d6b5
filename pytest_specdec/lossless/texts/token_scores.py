"""Score emitted tokens with the distributions that they should be drawn from: all that the
martingales bet on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from .martingale import Draws

HOTTER, COLDER = "a higher temperature", "a lower temperature"
EXPONENTS = {HOTTER: (0.5, 0.8, 0.9, 0.96), COLDER: (1.04, 1.1, 1.25, 2.0)}
"""Inverse temperatures of the distributions p^e / Z, relative to the one asked for."""
FLAT = "tokens that the target finds unlikely"
DRAFTED, ACCEPTED, RESIDUAL = (
    "the drafter's distribution",
    "recovered tokens drawn from p",
    "recovered tokens where p exceeds q",
)
EARLY, LATE = "texts that end too early", "texts that end too late"
END_ODDS = {EARLY: (1.05, 1.25, 2.0, 10.0, 100.0), LATE: (0.95, 0.8, 0.5, 0.1, 0.01)}
"""Odds of ending at a token that are bet on, relative to the target's."""
END_SHARES = {EARLY: (0.0001, 0.001, 0.01, 0.1), LATE: (0.01, 0.05, 0.2, 0.8)}
"""Shares of the tokens that an engine takes for an end whatever they are, or of the ends that it
passes over.
"""
_CERTAIN = 1 - 1e-15
"""The largest hazard; a token that does not end a text has some probability left."""


class TokenDistributions:
    """Target distributions p, and drafter distributions q where they are known, with the numbers
    that do not depend on a token.
    """

    def __init__(
        self,
        log_p: torch.Tensor,
        log_q: torch.Tensor | None = None,
        ends: Sequence[int] = (),
        others: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Both (distributions, vocabulary), normalised natural logarithms, float64; -inf where
        top-k or top-p leaves out. `ends` are the token ids that end a text.
        `others` are distributions like these that wrong engines draw from, by what is wrong.
        """
        self.log_p, self.log_q, self._others = log_p, log_q, others or {}
        self._ends = torch.tensor(
            sorted({token for token in ends if 0 <= token < log_p.shape[-1]}),
            dtype=torch.long,
            device=log_p.device,
        )
        p = log_p.exp()
        surprisal = torch.where(p > 0, -log_p, 0.0)
        self._entropy = (p * surprisal).sum(-1)
        self._variance = (p * (surprisal - self._entropy[:, None]).square()).sum(-1)
        self._log_size = (log_p > -torch.inf).sum(-1).double().log()
        self._log_mass = {
            e: (e * log_p).exp().sum(-1).log()
            for exponents in EXPONENTS.values()
            for e in exponents
        }
        if log_q is not None:
            self._overlap = torch.minimum(p, log_q.exp()).sum(-1).clamp(max=1.0)

    def draws(self, tokens: torch.Tensor) -> Draws:
        """The scores of one token (distributions,) from each distribution; its probability must not
        be zero.
        """
        token_log_p = _of(self.log_p, tokens)
        tilted = {
            name: [_numbers((e - 1) * token_log_p - self._log_mass[e]) for e in exponents]
            for name, exponents in EXPONENTS.items()
        }
        if len(self._ends):
            tilted |= self._ending(tokens)
        mixed = {FLAT: _numbers(-self._log_size - token_log_p)}
        for name, other in self._others.items():
            odds = _numbers(_of(other, tokens) - token_log_p)
            tilted[name], mixed[f"some tokens: {name}"] = [odds], odds
        if self.log_q is not None:
            mixed |= self._drafted(_of(self.log_q, tokens) - token_log_p)
        return Draws(
            _numbers(-token_log_p),
            _numbers(self._entropy),
            _numbers(self._variance),
            _numbers(self._below(tokens)),
            tilted,
            mixed,
        )

    def _below(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mass of the tokens before one (distributions,) in the order of their ranks."""
        token_log_p = _of(self.log_p, tokens)
        ids = torch.arange(self.log_p.shape[-1], device=tokens.device)
        first = (self.log_p > token_log_p[:, None]) | (
            (self.log_p == token_log_p[:, None]) & (ids < tokens[:, None])
        )
        return torch.where(first, self.log_p, -torch.inf).exp().sum(-1)

    def _ending(self, tokens: torch.Tensor) -> dict[str, list[np.ndarray]]:
        """Bets on when texts end, log r/p; all likelihood ratios of a Bernoulli draw, whatever the
        tokens between. With h the target's probability of ending here:

        Odds of ending that are c times the target's: r/p = c / (1 + (c - 1) h) at tokens that end a
        text, and 1 / (1 + (c - 1) h) at others. A share s of all tokens is an end whatever p says:
        1 - s + s/h, and 1 - s. A share s of the ends is passed over: 1 - s, and
        (1 - (1 - s) h) / (1 - h).
        """
        h = self.log_p[:, self._ends].exp().sum(-1).clamp(max=_CERTAIN)
        ending = torch.isin(tokens, self._ends)
        bets = {
            name: [
                torch.where(ending, math.log(c), 0.0) - torch.log1p((c - 1) * h) for c in all_odds
            ]
            for name, all_odds in END_ODDS.items()
        }
        for s in END_SHARES[EARLY]:
            forced = torch.log(1 - s + s / h.clamp(min=1e-300))
            bets[EARLY].append(torch.where(ending, forced, math.log1p(-s)))
        for s in END_SHARES[LATE]:
            passed_over = torch.log1p(-(1 - s) * h) - torch.log1p(-h)
            bets[LATE].append(torch.where(ending, math.log1p(-s), passed_over))
        return {name: [_numbers(bet) for bet in own] for name, own in bets.items()}

    def _drafted(self, odds: torch.Tensor) -> dict[str, np.ndarray]:
        """Bets on what a wrong verification emits, from log q(y)/p(y); the overlap a = sum min(p,
        q) is a draft's chance.

        q: drafts are accepted too often. min(p, q) + (1 - a) p: a recovered token drawn from p, not
        from the residual. max(p - q, 0) / (1 - a): the residual is drawn too often; p itself where
        there is none.
        """
        ratio, rest = odds.exp(), 1 - self._overlap
        accepted = ratio.clamp(max=1.0) + rest
        residual = torch.where(rest > 1e-9, (1 - ratio).clamp(min=0.0) / rest.clamp(min=1e-9), 1.0)
        return {
            DRAFTED: _numbers(odds),
            ACCEPTED: _numbers(accepted.log()),
            RESIDUAL: _numbers(residual.log()),
        }


def _of(distributions: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return distributions.gather(-1, tokens[:, None])[:, 0]


def _numbers(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.cpu().numpy()
    return array
