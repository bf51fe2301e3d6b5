"""Scores of given texts by teacher forcing, for drafters that are models or MTP heads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..distributions import check_scores
from ..loading import LoadedModel
from ..mtp_forward import project, teacher_forced_hidden

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel


def forward(model: LoadedModel, ids: torch.Tensor, begin: int, *, hidden: bool) -> Any:
    """One pass over texts (rows, length); its logits are (rows, length - begin, vocabulary), for
    the tokens from position `begin` on.
    """
    keys = (
        {"logits_to_keep": torch.arange(begin - 1, ids.shape[1] - 1, device=ids.device)}
        if model.keeps_logits
        else {}
    )
    around: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if model.stream is not None:
        around = model.stream.over(ids)
    elif model.kept is not None:
        around = model.kept.over(ids, whole=hidden)
    with around:
        outputs = model.model(ids, use_cache=False, output_hidden_states=hidden, **keys)
    if not keys:
        outputs.logits = outputs.logits[:, begin - 1 : -1]
    return outputs


def mtp_logits(
    heads: MtpModel,
    ids: torch.Tensor,
    hidden: torch.Tensor,
    *,
    begin: int,
    depth: int,
    steps: int,
) -> Iterator[tuple[int, torch.Tensor]]:
    """For each step of MTP heads, the first position that it scores, at least `begin`, and its
    logits (rows, positions, vocabulary) for the tokens from there on.

    `hidden` is the last hidden state (rows, length, width) of the model that the heads belong to.
    """
    for step, state in enumerate(teacher_forced_hidden(heads, ids, hidden, depth, steps)):
        # The state at anchor s predicts token s + 2 + step; the last anchor's token lies past the
        # text.
        first = max(begin, step + 2)
        yield first, project(heads, state[:, first - step - 2 : -1])


def as_array(scores: torch.Tensor) -> NDArray[np.float32]:
    """Scores on the CPU. Raises MeasurementError for NaN and inf."""
    check_scores(scores)
    array: NDArray[np.float32] = scores.cpu().numpy()
    return array
