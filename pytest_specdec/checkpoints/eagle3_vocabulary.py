"""The draft vocabulary of an EAGLE-3 head: which token of the target each of its tokens is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..common.errors import RequestError
from .checkpoint import Checkpoint
from .safetensors_header import Tensor

MAPS = ("d2t", "t2d")
_INTEGERS = {"I64": "<i8", "I32": "<i4"}


def check_vocabulary(checkpoint: Checkpoint, vocabulary: int, target: Checkpoint) -> None:
    """Head and target have the same tokens, and `d2t` has a number for each draft token.

    `vocabulary` is config.json's. Raises RequestError.
    """
    folder, d2t, rows = checkpoint.folder, checkpoint.tensors.get("d2t"), rows_of(checkpoint)
    if target.vocabulary is not None and target.vocabulary != vocabulary:
        raise RequestError(
            f"the head {folder} is for a vocabulary of {vocabulary} tokens and the target "
            f"{target.folder} has {target.vocabulary}; name the target that it was trained for"
        )
    if d2t is not None and (d2t.dtype not in _INTEGERS or d2t.shape != (rows,) or not rows):
        raise RequestError(
            f"d2t of {folder} is {d2t.dtype} {list(d2t.shape)}, and {rows} draft tokens need int64 "
            f"[{rows}]; save the head again"
        )


def check_maps(checkpoint: Checkpoint, vocabulary: int) -> None:
    """Every draft token is one token of the target's, and `d2t` and `t2d` say the same. Raises
    RequestError.
    """
    folder, rows = checkpoint.folder, rows_of(checkpoint)
    d2t, t2d = (checkpoint.tensors.get(name) for name in MAPS)
    if d2t is None:
        if rows != vocabulary:
            raise RequestError(
                f"{folder} drafts {rows} of the target's {vocabulary} tokens and has no d2t, which "
                "says which; save the head with it"
            )
        return
    ids = target_ids(checkpoint)
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise RequestError(
            f"d2t of {folder} leads to the token {ids.max() if ids.min() >= 0 else ids.min()}, and "
            f"the target has {vocabulary}; d2t holds offsets (target id - draft id): save it so"
        )
    if len(np.unique(ids)) < rows:
        raise RequestError(
            f"d2t of {folder} leads two draft tokens to one token of the target; d2t holds offsets "
            "(target id - draft id): save it so"
        )
    named = None if t2d is None else drafted_tokens(t2d, vocabulary)
    if t2d is not None and (named is None or not np.array_equal(named, np.sort(ids))):
        raise RequestError(
            f"t2d and d2t of {folder} name different tokens of the target; save both again from "
            "one training run"
        )


def drafted_tokens(t2d: Tensor, vocabulary: int) -> NDArray[np.int64] | None:
    """The target's tokens that `t2d` names, in ascending order; None for no such map."""
    if t2d.dtype not in ("BOOL", "U8") or t2d.shape != (vocabulary,):
        return None
    named = np.frombuffer(b"".join(t2d.blocks()), dtype=np.uint8)
    return np.flatnonzero(named).astype(np.int64)


def target_ids(checkpoint: Checkpoint) -> NDArray[np.int64]:
    """The target's id of each draft token, (draft vocabulary,), as `d2t` gives it."""
    ids: NDArray[np.int64] = np.arange(rows_of(checkpoint), dtype=np.int64)
    d2t = checkpoint.tensors.get("d2t")
    return ids if d2t is None else ids + integers(d2t)


def integers(tensor: Tensor) -> NDArray[np.int64]:
    """What a tensor of whole numbers holds, flat."""
    values = np.frombuffer(b"".join(tensor.blocks()), dtype=_INTEGERS[tensor.dtype])
    return values.astype(np.int64)


def rows_of(checkpoint: Checkpoint) -> int:
    """Number of tokens that the head drafts; 0 without an output head."""
    head = checkpoint.tensors.get("lm_head.weight")
    return head.shape[0] if head is not None and head.shape else 0
