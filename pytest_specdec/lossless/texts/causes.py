"""Which defect explains texts that are not the target's: likelihoods of what each round emitted,
under known defects.

Where an engine reports its rounds, each new token has a role: an accepted draft, the recovered
token after a rejection, or the bonus token after full acceptance. A defect changes the distribution
of some of these roles and leaves the others. With p and q known, the likelihood of all roles and
tokens under each defect is known too; the defect is named that explains them best, and those beside
it that explain them about as well. This only explains: whether texts conform is decided without it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from ...acceptance.rounds import Round
from ...cases.case import Sampling
from ...cases.texts import Text
from ...decoding.distributions import filtered
from .teacher_forcing import TeacherForced

PLAIN, ACCEPTED, RECOVERED, BONUS, IGNORED = range(5)
"""Roles of new tokens. Plain ones had no draft; a text's last token is ignored, since engines count
it in different ways.
"""

_AS_LIKELY = math.log(100)
"""Defects whose likelihoods lie within this factor are not distinguished."""
_FLOOR = 1e-3
"""Share of any other explanation in every likelihood, so that one odd token decides nothing."""
_TOO_SMALL = (0.8, 0.9)
_OTHER = (0.8, 1.25)
"""Inverse temperatures of p and q, relative to the one asked for, of engines with other
settings.
"""


@dataclasses.dataclass(frozen=True)
class Cause:
    """A defect of a decoder that changes its texts."""

    name: str
    cure: str


RAW_Q = Cause(
    "a q from before temperature and filters",
    "report each draft's q after temperature, top-k and top-p",
)
SOFTMAX_Q = Cause(
    "arg-max drafts with the q of drawn ones", "draw the drafts from q, or report a q of 1 for each"
)
RAW_BONUS = Cause(
    "a bonus token from before temperature and filters",
    "apply temperature, top-k and top-p to the token after full acceptance",
)
FROM_P = Cause(
    "recovered tokens drawn from p", "draw the token after a rejection from max(p - q, 0)"
)
SMALL_Q = Cause(
    "a q that is taken too small",
    "use in acceptance test and residual the q that the drafts are drawn from",
)
UNTESTED = Cause(
    "drafts accepted without a test", "accept each draft with probability min(1, p / q)"
)


@dataclasses.dataclass(frozen=True)
class _Decoder:
    """How a decoder, right or wrong, draws and tests; all (tokens, vocabulary). `cause` is None for
    a decoder without a listed defect.
    """

    cause: Cause | None
    drafts: torch.Tensor
    accepts: torch.Tensor
    recovers: torch.Tensor
    plain: torch.Tensor
    bonus: torch.Tensor


def roles_of(texts: Sequence[Text], rounds: Sequence[Sequence[Round]]) -> np.ndarray:
    """(new tokens of all texts,): the role of each."""
    all_roles: list[np.ndarray] = []
    for text, text_rounds in zip(texts, rounds, strict=True):
        roles = np.full(len(text.ids), PLAIN)
        for start, drafted, accepted in text_rounds:
            roles[start : start + accepted] = ACCEPTED
            if start + accepted < len(roles) and drafted:
                roles[start + accepted] = RECOVERED if accepted < drafted else BONUS
        roles[-1] = IGNORED
        all_roles.append(roles[text.prompt_length :])
    return np.concatenate(all_roles)


def likely_causes(
    parts: Iterable[TeacherForced], roles: np.ndarray, sampling: Sampling
) -> tuple[Cause, ...]:
    """The defects that explain the tokens best, the likeliest first; none where a right decoder or
    other settings do as well.

    Args:
        parts: Logits of the new tokens; without the drafter's only bonus tokens are looked at.
        roles: Of the new tokens, in the order of the texts; see `roles_of`.
        sampling: The settings that the engine was asked for.
    """
    sums: list[float] = []
    decoders: list[_Decoder] = []
    for part in parts:
        decoders, own_roles = _decoders(part, sampling), torch.from_numpy(roles[part.at])
        likelihoods = [
            _log_likelihood(decoder, part.tokens, own_roles, part.draft_logits is None)
            for decoder in decoders
        ]
        sums = [
            before + now
            for before, now in zip(sums or [0.0] * len(likelihoods), likelihoods, strict=True)
        ]
    totals: dict[Cause | None, float] = {}
    for decoder, value in zip(decoders, sums, strict=True):
        totals[decoder.cause] = max(totals.get(decoder.cause, -math.inf), value)
    innocent = totals.pop(None, -math.inf)
    best = max(totals.values(), default=-math.inf)
    if not best > innocent + _AS_LIKELY:
        return ()
    ranked = sorted(totals.items(), key=lambda item: -item[1])
    return tuple(
        cause for cause, value in ranked if cause is not None and value > best - _AS_LIKELY
    )


def named(causes: Sequence[Cause]) -> str:
    """The causes and what to do about each, for a message."""
    names = " or ".join(cause.name for cause in causes)
    cures = "; or ".join(cause.cure for cause in causes)
    return f"{'either ' if len(causes) > 1 else ''}{names}; {cures}"


def _decoders(part: TeacherForced, sampling: Sampling) -> list[_Decoder]:
    """Right decoders, those with other settings, and each defect, of drafters that draw and that
    take the arg-max.
    """
    p, raw_p = (_probabilities(part.logits, settings) for settings in (sampling, Sampling()))
    drafted = part.logits if part.draft_logits is None else part.draft_logits
    q, raw_q = (_probabilities(drafted, settings) for settings in (sampling, Sampling()))
    one_hot = torch.zeros_like(q).scatter(-1, drafted.argmax(-1, keepdim=True), 1.0)
    right = _rejecting(None, p, q, q)
    certain = _rejecting(None, p, one_hot, one_hot)
    decoders = [right, certain]
    for exponent in _OTHER:
        decoders.append(_rejecting(None, _tempered(p, exponent), *[_tempered(q, exponent)] * 2))
    decoders.append(_rejecting(RAW_Q, p, q, raw_q))
    decoders.append(_rejecting(SOFTMAX_Q, p, one_hot, q))
    decoders += [_rejecting(SMALL_Q, p, q, share * q) for share in _TOO_SMALL]
    decoders += [
        dataclasses.replace(decoder, cause=RAW_BONUS, bonus=raw_p) for decoder in (right, certain)
    ]
    decoders += [
        dataclasses.replace(decoder, cause=FROM_P, recovers=p) for decoder in (right, certain)
    ]
    decoders += [
        dataclasses.replace(decoder, cause=UNTESTED, accepts=torch.ones_like(p))
        for decoder in (right, certain)
    ]
    return decoders


def _rejecting(
    cause: Cause | None, p: torch.Tensor, drawn: torch.Tensor, q: torch.Tensor
) -> _Decoder:
    """Drafts drawn from one distribution, tested and recovered by rejection sampling with q."""
    accepts = torch.where(q > 0, (p / q.clamp(min=1e-300)).clamp(max=1.0), 1.0)
    residual = (p - q).clamp(min=0.0)
    mass = residual.sum(-1, keepdim=True)
    recovers = torch.where(mass > 1e-12, residual / mass.clamp(min=1e-12), p)
    return _Decoder(cause=cause, drafts=drawn, accepts=accepts, recovers=recovers, plain=p, bonus=p)


def _log_likelihood(
    decoder: _Decoder, tokens: torch.Tensor, roles: torch.Tensor, undrafted: bool
) -> float:
    """Of the tokens with their roles."""

    def of(distribution: torch.Tensor) -> torch.Tensor:
        return distribution.gather(-1, tokens[:, None])[:, 0]

    rejected = (1 - (decoder.drafts * decoder.accepts).sum(-1)).clamp(0.0, 1.0)
    by_role: Mapping[int, torch.Tensor] = {
        PLAIN: of(decoder.plain),
        ACCEPTED: of(decoder.drafts) * of(decoder.accepts),
        RECOVERED: rejected * of(decoder.recovers),
        BONUS: of(decoder.bonus),
    }
    total, wide = 0.0, 1 / (2 * decoder.plain.shape[-1])
    for role, chances in by_role.items():
        if undrafted and role in (ACCEPTED, RECOVERED):
            continue
        kept = chances[(roles == role).to(chances.device)]
        total += float(((1 - _FLOOR) * kept + _FLOOR * wide).log().sum())
    return total


def _probabilities(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    return torch.softmax(filtered(logits, sampling).double(), -1)


def _tempered(distribution: torch.Tensor, exponent: float) -> torch.Tensor:
    powered = distribution**exponent
    return torch.where(distribution > 0, powered, 0.0) / powered.masked_fill(
        distribution <= 0, 0.0
    ).sum(-1, keepdim=True)
