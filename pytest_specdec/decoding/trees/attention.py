"""What nodes of a tree see: their ancestors and themselves, and the text before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ...common.errors import RequestError


def seen_columns(
    ancestors: Sequence[Sequence[int]], columns: int, device: torch.device
) -> torch.Tensor:
    """(queries, columns), bool: each query sees the columns that are listed for it."""
    seen = torch.zeros(len(ancestors), columns, dtype=torch.bool)
    for query, listed in enumerate(ancestors):
        seen[query, list(listed)] = True
    return seen.to(device)


def additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(1, 1, queries, columns): 0 where a column is seen, else the least number."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[None, None]


def check_full_attention(model: PreTrainedModel, what: str) -> None:
    """Raises RequestError for layers that take no tree's mask: sliding windows, recurrent
    states.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    sliding = window is not None and getattr(config, "use_sliding_window", True)
    if kinds == {"full_attention"} and not (sliding and not getattr(config, "layer_types", None)):
        return
    named = ", ".join(sorted(kinds - {"full_attention"})) or "sliding_attention"
    raise RequestError(
        f"{what} has layers with {named}, and a tree's mask needs full attention; decode chains, "
        "without a tree"
    )
