"""From logits to the distributions p and q: temperature, top-k and top-p, in the order of
transformers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ..acceptance.scores import SMOOTHING
from ..acceptance.text_origin import TIE, TILTS
from ..cases.case import Sampling
from ..common.errors import MeasurementError

_TINY = torch.finfo(torch.float32).tiny
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.25}
"""By how much the gap between two logits may differ between two correct engines, by the coarser
one's dtype.

Another order of summation moves a logit by a few units in the last place of the largest numbers on
the way: near logits of 16 to 32 such a unit is 2e-6 in float32, 0.016 in float16 and 0.125 in
bfloat16.
"""


_CACHED = 2**18
"""Logits that are passed over together on a CPU: 1 MiB of them."""


def check_logits(logits: torch.Tensor) -> None:
    """Raises MeasurementError for logits (..., vocabulary) that make no distribution: NaN, or
    infinite ones, as numbers become that half precision cannot hold. -inf alone is right, for a
    token that cannot be; for all of a row's tokens it is not.

    The arg-max of such logits is a token all the same, on which a broken target and drafter would
    agree.
    """
    _refuse_unless(are_sound(logits))


def are_sound(logits: torch.Tensor) -> bool:
    """Whether each row of logits (..., vocabulary) makes a distribution, see `check_logits`."""
    return bool(logits.amax(-1).isfinite().all())


def check_scores(values: torch.Tensor) -> None:
    """Raises MeasurementError for log-probabilities that are NaN or inf."""
    _refuse_unless(bool((values < torch.inf).all()))


def _refuse_unless(sound: bool) -> None:
    if not sound:
        raise MeasurementError(
            "a model returns NaN or infinite logits; check its weights, or use "
            "--specdec-dtype=float32"
        )


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """The first arg-max of each row of logits, (..., vocabulary) becomes (...).

    On a CPU several times faster than `argmax`, whose result it is.
    """
    return logits.max(-1).indices


def probabilities(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities (..., vocabulary) in float32; at temperature 0 all mass on the arg-max."""
    if sampling.temperature == 0:
        return one_hot(likeliest(logits), logits.shape[-1])
    return torch.softmax(filtered(logits, sampling), -1)


def draw(probabilities: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One token from each distribution; (..., vocabulary) of any positive total mass becomes
    (...).
    """
    return (
        probabilities.log() - log_exponentials(probabilities.shape, probabilities.device, generator)
    ).argmax(-1)


def log_exponentials(
    shape: Sequence[int], device: torch.device, generator: torch.Generator | None
) -> torch.Tensor:
    """Logarithms of exponential clocks: the arg-max of log-probabilities minus them is a draw.

    `torch.multinomial` runs the same race, and checks that cost more than the draw. Logits need no
    normalising here. The clamp keeps a clock at 0 from choosing a token without mass.
    """
    return _exponentials(shape, device, generator).clamp_(min=_TINY).log_()


def _exponentials(
    shape: Sequence[int], device: torch.device, generator: torch.Generator | None
) -> torch.Tensor:
    """What `exponential_` draws, in float32. On a CPU that takes one number after another; the same
    from uniform numbers takes a third of the time.
    """
    if device.type != "cpu":
        return torch.empty(shape, device=device).exponential_(generator=generator)
    uniform = torch.rand(tuple(shape), dtype=torch.float64, generator=generator)
    return uniform.neg_().log1p_().float().neg_()


def sample(
    logits: torch.Tensor, sampling: Sampling, generator: torch.Generator | None
) -> torch.Tensor:
    """A token from each row of logits, (..., vocabulary) becomes (...)."""
    if sampling.temperature == 0:
        return likeliest(logits)
    return (
        filtered(logits, sampling) - log_exponentials(logits.shape, logits.device, generator)
    ).argmax(-1)


def one_hot(tokens: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """The distributions (..., vocabulary) that have all mass on one token each."""
    return torch.zeros(*tokens.shape, vocabulary, device=tokens.device).scatter_(
        -1, tokens[..., None], 1.0
    )


def log_scores(logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Log-probability of each token under its distribution, (...); at temperature 0 it is 0 for the
    arg-max, else -inf. NaN where the logits make no distribution.
    """
    parts = [_log_scores(*part, sampling) for part in in_cache(logits, tokens)]
    return torch.cat(parts).reshape(tokens.shape)


def _log_scores(logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    if sampling.temperature == 0:
        best = logits.max(-1)
        scores = torch.where(best.indices == tokens, 0.0, -torch.inf)
        return scores.masked_fill(~best.values.isfinite(), torch.nan)
    return torch.log_softmax(filtered(logits, sampling), -1).gather(-1, tokens[..., None])[..., 0]


def log_distributions(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Log-probabilities (..., vocabulary) in float32, -inf for tokens that the filters leave out;
    at temperature 0 those at the smoothing temperature.
    """
    if sampling.temperature == 0:
        return torch.log_softmax(logits.float() / SMOOTHING, -1)
    return torch.log_softmax(filtered(logits, sampling), -1)


@dataclasses.dataclass(frozen=True)
class TargetScores:
    """A target's scores of tokens that it should have emitted."""

    log_p: torch.Tensor
    """(...): log-probability; of a token outside the filters as if they had kept it, too."""
    outside: torch.Tensor
    """(...): whether the filters leave the token out."""
    bets: torch.Tensor
    """(tilts, ...): log r/p of the token under r ~ p^a, a of `acceptance.text_origin.TILTS`; 0 for
    a token outside.
    """


def target_scores(logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling) -> TargetScores:
    """Scores of texts' tokens (...) by their own target, from logits (..., vocabulary); temperature
    above 0. NaN stays NaN.

    Filters cut at a threshold, and a token at the threshold may be in on one machine and out on
    another. A token that was drawn was in: its distribution is the one with it kept, so p is its
    weight over that of all kept tokens and its own.
    """
    whole = tokens.shape
    parts = [_target_scores(*part, sampling) for part in in_cache(logits, tokens)]
    return TargetScores(
        torch.cat([part.log_p for part in parts]).reshape(whole),
        torch.cat([part.outside for part in parts]).reshape(whole),
        torch.cat([part.bets for part in parts], 1).reshape(-1, *whole),
    )


def in_cache(logits: torch.Tensor, tokens: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Logits (..., vocabulary) as parts (positions, vocabulary), each with its tokens (positions,).

    What passes over a part several times finds it in a CPU's cache; each position's numbers are
    those of the whole, to the last bit. Elsewhere there is one part.
    """
    flat, those = logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1)
    if logits.device.type != "cpu" or not len(flat):
        return [(flat, those)]
    positions = max(1, _CACHED // logits.shape[-1])
    return list(zip(torch.split(flat, positions), torch.split(those, positions), strict=True))


def _target_scores(logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling) -> TargetScores:
    kept = filtered(logits, sampling)
    distributions = torch.log_softmax(kept, -1)
    log_p = distributions.gather(-1, tokens[..., None])[..., 0]
    outside = log_p == -torch.inf
    if bool(outside.any()):
        scaled = (
            logits[outside].float().gather(-1, tokens[outside][:, None])[:, 0]
            / sampling.temperature
        )
        log_p[outside] = scaled - torch.logaddexp(kept[outside].logsumexp(-1), scaled)
    quarter = distributions.mul_(0.25).exp_()
    half = quarter * quarter
    sums = {
        0.75: torch.linalg.vecdot(half, quarter),
        1.25: torch.linalg.vecdot(half, quarter.mul_(half)),
    }
    bets = torch.stack([(tilt - 1) * log_p - sums[tilt].log() for tilt in TILTS])
    return TargetScores(log_p, outside, bets.masked_fill(outside & (log_p > -torch.inf), 0.0))


def below_the_best(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Whether each token's logit lies below the largest by more than a tie, (...)."""
    gap = logits.amax(-1).double() - logits.gather(-1, tokens[..., None])[..., 0].double()
    return gap > TIE


def confidence(logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """How likely a drafter found the tokens that it drew, (...); at temperature 0 by its softmax,
    as in transformers.
    """
    kept = logits.float() if sampling.temperature == 0 else filtered(logits, sampling)
    return torch.softmax(kept, -1).gather(-1, tokens[..., None])[..., 0]


def filtered(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Logits over temperature in float32, -inf for tokens that top-k or top-p leaves out. Raises
    MeasurementError where a temperature below 1 makes them infinite.
    """
    scaled = logits.float()
    if sampling.temperature != 1:
        scaled = scaled / sampling.temperature
    if sampling.temperature < 1:
        check_scores(scaled.amax(-1))
    if 0 < sampling.top_k < scaled.shape[-1]:
        best = scaled.topk(sampling.top_k, -1)
        kept = scaled.masked_fill(scaled < best.values[..., -1:], -torch.inf)
        return kept if sampling.top_p == 1 else _likeliest_of(kept, best, sampling.top_p)
    return _likeliest(scaled, sampling.top_p) if sampling.top_p < 1 else scaled


def _likeliest(scaled: torch.Tensor, top_p: float) -> torch.Tensor:
    """-inf for the least likely tokens, whose probabilities sum to at most 1 - top_p."""
    ascending, order = scaled.sort(-1)
    left_out = _left_out(ascending, top_p)
    return scaled.masked_fill(left_out.scatter(-1, order, left_out), -torch.inf)


def _likeliest_of(
    scaled: torch.Tensor, best: torch.return_types.topk, top_p: float
) -> torch.Tensor:
    """What `_likeliest` returns where only the `best` tokens of each row are finite, without a sort
    of the vocabulary.

    Rows are sorted where it takes the sort's own order to tell equal logits apart: at the edge of
    the best ones, or where top-p cuts.
    """
    ascending, order = best.values.flip(-1), best.indices.flip(-1)
    left_out = _left_out(ascending, top_p)
    kept = torch.full_like(scaled, -torch.inf).scatter(
        -1, order, ascending.masked_fill(left_out, -torch.inf)
    )
    cut = (ascending[..., 1:] == ascending[..., :-1]) & left_out[..., :-1] & ~left_out[..., 1:]
    more = (scaled > -torch.inf).sum(-1) != order.shape[-1]
    tied = cut.any(-1) | more
    if bool(tied.any()):
        kept[tied] = _likeliest(scaled[tied], top_p)
    return kept


def _left_out(ascending: torch.Tensor, top_p: float) -> torch.Tensor:
    """Which of the logits, from the least likely on, top-p leaves out; never the last."""
    left_out = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
    left_out[..., -1] = False
    return left_out
