"""From logits to the distributions p and q: temperature, top-k and top-p, in the order of transformers."""

from __future__ import annotations

import torch

from ..acceptance.case import Sampling


_TINY = torch.finfo(torch.float32).tiny


def law(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities (..., vocabulary) in float32; at temperature 0 all mass on the arg-max."""
    if sampling.temperature == 0:
        return _certain(logits, logits.argmax(-1))
    return torch.softmax(_filtered(logits, sampling), -1)


def draw(law: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One token from each law; (..., vocabulary) of any positive total mass becomes (...).

    A race of exponential clocks, as `torch.multinomial` runs it, without that one's checks, which cost more than the draw.
    The clamp keeps a clock at 0 from choosing a token without mass.
    """
    clocks = torch.empty_like(law).exponential_(generator=generator).clamp_(min=_TINY)
    return clocks.reciprocal_().mul_(law).argmax(-1)


def choose(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    """A token from each row of logits and the law that it was drawn from."""
    if sampling.temperature == 0:
        best = logits.argmax(-1)
        return best, _certain(logits, best)
    own = law(logits, sampling)
    return draw(own, generator), own


def log_scores(logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Log-probability of each token under its law, (...); at temperature 0 it is 0 for the arg-max, else -inf."""
    if sampling.temperature == 0:
        return torch.where(logits.argmax(-1) == tokens, 0.0, -torch.inf)
    kept = _filtered(logits, sampling)
    return kept.gather(-1, tokens[..., None])[..., 0] - kept.logsumexp(-1)


def _certain(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """All mass on one token."""
    return torch.zeros(logits.shape, device=logits.device).scatter_(-1, tokens[..., None], 1.0)


def _filtered(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Logits over temperature in float32, -inf for tokens that top-k or top-p leaves out."""
    scaled = logits.float()
    if sampling.temperature != 1:
        scaled = scaled / sampling.temperature
    if 0 < sampling.top_k < scaled.shape[-1]:
        least = scaled.topk(sampling.top_k, -1).values[..., -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    if sampling.top_p < 1:
        ascending, order = scaled.sort(-1)
        left_out = ascending.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        left_out[..., -1] = False
        scaled = scaled.masked_fill(left_out.scatter(-1, order, left_out), -torch.inf)
    return scaled
