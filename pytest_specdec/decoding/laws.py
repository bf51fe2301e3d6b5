"""From logits to the distributions p and q: temperature, top-k and top-p, in the order of transformers."""

from __future__ import annotations

import torch

from ..acceptance.case import Sampling


def law(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities (..., vocabulary) in float32; at temperature 0 all mass on the arg-max."""
    if sampling.temperature == 0:
        return torch.zeros(logits.shape, device=logits.device).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    return torch.softmax(_filtered(logits, sampling), -1)


def draw(law: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One token from each law; (..., vocabulary) of any total mass becomes (...)."""
    flat = law.reshape(-1, law.shape[-1])
    return torch.multinomial(flat, 1, generator=generator).reshape(law.shape[:-1])


def choose(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    """A token from each row of logits and the law that it was drawn from."""
    own = law(logits, sampling)
    return (logits.argmax(-1) if sampling.temperature == 0 else draw(own, generator)), own


def log_scores(logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Log-probability of each token under its law, (...); at temperature 0 it is 0 for the arg-max, else -inf."""
    if sampling.temperature == 0:
        return torch.where(logits.argmax(-1) == tokens, 0.0, -torch.inf)
    kept = _filtered(logits, sampling)
    return kept.gather(-1, tokens[..., None])[..., 0] - kept.logsumexp(-1)


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
