"""From logits to the distributions p and q: temperature, top-k and top-p, in the order of transformers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..acceptance.case import Sampling
from ..errors import MeasurementError

_TINY = torch.finfo(torch.float32).tiny


def check_numbers(values: torch.Tensor) -> None:
    """Raises MeasurementError for NaN: its arg-max is a token, on which a broken target and drafter would agree."""
    if bool(values.isnan().any()):
        raise MeasurementError("a model returns NaN probabilities; check its weights, or use --specdec-dtype=float32")


def law(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities (..., vocabulary) in float32; at temperature 0 all mass on the arg-max."""
    if sampling.temperature == 0:
        return certain(logits.argmax(-1), logits.shape[-1])
    return torch.softmax(filtered(logits, sampling), -1)


def draw(law: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One token from each law; (..., vocabulary) of any positive total mass becomes (...)."""
    return (law.log() - log_clocks(law.shape, law.device, generator)).argmax(-1)


def log_clocks(shape: Sequence[int], device: torch.device, generator: torch.Generator | None) -> torch.Tensor:
    """Logarithms of exponential clocks: the arg-max of log-probabilities minus them is a draw.

    `torch.multinomial` runs the same race, and checks that cost more than the draw. Logits need no normalising here. The
    clamp keeps a clock at 0 from choosing a token without mass.
    """
    return torch.empty(shape, device=device).exponential_(generator=generator).clamp_(min=_TINY).log_()


def choose(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator | None) -> torch.Tensor:
    """A token from each row of logits, (..., vocabulary) becomes (...)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    return (filtered(logits, sampling) - log_clocks(logits.shape, logits.device, generator)).argmax(-1)


def certain(tokens: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """The laws (..., vocabulary) that have all mass on one token each."""
    return torch.zeros(*tokens.shape, vocabulary, device=tokens.device).scatter_(-1, tokens[..., None], 1.0)


def log_scores(logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Log-probability of each token under its law, (...); at temperature 0 it is 0 for the arg-max, else -inf. NaN stays NaN."""
    if sampling.temperature == 0:
        likeliest = logits.argmax(-1, keepdim=True)
        scores = torch.where(likeliest[..., 0] == tokens, 0.0, -torch.inf)
        return scores.masked_fill(logits.gather(-1, likeliest)[..., 0].isnan(), torch.nan)
    return torch.log_softmax(filtered(logits, sampling), -1).gather(-1, tokens[..., None])[..., 0]


def confidence(logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """How likely a drafter found the tokens that it drew, (...); at temperature 0 by its softmax, as in transformers."""
    kept = logits.float() if sampling.temperature == 0 else filtered(logits, sampling)
    return torch.softmax(kept, -1).gather(-1, tokens[..., None])[..., 0]


def filtered(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
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
