"""What trainings of drafters share: files that are whole or not there, a rate, acceptance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

RISE = 0.04
"""Share of the steps at whose begin a cosine's rate rises."""


def write_whole(
    tensors: Mapping[str, torch.Tensor], path: Path, about: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file beside its place and move it there when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file(dict(tensors), unfinished, metadata=None if about is None else dict(about))
    unfinished.replace(path)


def cosine_share(done: float) -> float:
    """The share of the rate after that share of the steps: a short rise, then a cosine to zero."""
    return max(done / RISE if done < RISE else 0.5 + 0.5 * math.cos(math.pi * done), 1e-3)


def shown(shares: Sequence[float]) -> str:
    """Shares as a line of a training's progress."""
    return " ".join(f"{share:.3f}" for share in shares)


def accepted_odds(
    p: torch.Tensor, q: torch.Tensor, columns: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    """The odds of the text's own tokens as drafts, min(1, q / p); 0 for those not drafted."""
    places = torch.full((int(columns.max()) + 1,), -1, device=columns.device)
    places[columns] = torch.arange(len(columns), device=columns.device)
    width = min(tokens.shape[1], p.shape[1])
    tokens, p, q = tokens[:, :width], p[:, :width], q[:, :width]
    index = torch.where(tokens < len(places), places[tokens.clamp(max=len(places) - 1)], -1)
    at = index.clamp(min=0)[..., None]
    ratio = (q.gather(-1, at) / p.gather(-1, at).clamp(min=1e-9)).clamp(max=1)[..., 0]
    return torch.where(index < 0, 0.0, ratio)
