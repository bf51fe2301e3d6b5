"""Attention of a few columns that share keys by groups of heads, without copies of the keys.

Where there is a mask, transformers repeats keys and values for each head of a group; so it does in
every verification. torch's own kernel for CPUs takes them as they are and returns the same numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "pytest_specdec_grouped"


@contextlib.contextmanager
def grouped_attention(model: PreTrainedModel) -> Iterator[None]:
    """While it lasts, sdpa attention of a model on a CPU copies no keys; other models are left as
    they are.
    """
    config = model.config.get_text_config()
    if config is not model.config or not _shares_keys(config) or model.device.type != "cpu":
        yield
        return
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"


def _shares_keys(config: Any) -> bool:
    heads = getattr(config, "num_attention_heads", None)
    key_heads = getattr(config, "num_key_value_heads", None)
    return config._attn_implementation == "sdpa" and key_heads is not None and key_heads != heads


def _attended(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: (rows, heads, columns, size) in, (rows, columns, heads,
    size) out.
    """
    extras = {name for name, option in options.items() if option is not None}
    if attention_mask is None or query.shape[2] == 1 or extras & {"position_bias", "softcap"}:
        theirs: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return theirs
    read = torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=options.get("dropout", 0.0),
        scale=options.get("scaling"),
        enable_gqa=True,
    )
    return read.transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _attended)
AttentionMaskInterface.register(_NAME, sdpa_mask)
