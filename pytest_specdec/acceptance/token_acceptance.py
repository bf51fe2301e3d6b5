"""Acceptance token by token, in one character each: enough to say where it fell, small enough to be
stored.
"""

from __future__ import annotations

import string

import numpy as np

from .counts import Array
from .renewal import AcceptanceField

_LEVELS = string.digits + string.ascii_uppercase + string.ascii_lowercase + "+-"
_TOP = len(_LEVELS) - 1


def encoded(accept: Array) -> str:
    """Probabilities as one of 64 levels each."""
    return "".join(
        _LEVELS[level] for level in np.rint(np.clip(accept, 0.0, 1.0) * _TOP).astype(int)
    )


def is_encoded(text: str) -> bool:
    """Whether `decoded` can read it."""
    return not set(text) - set(_LEVELS)


def decoded(text: str) -> Array:
    """What `encoded` wrote, to 1 / 126. Raises ValueError for another character."""
    return np.array([_LEVELS.index(letter) for letter in text]) / _TOP


def token_acceptance(field: AcceptanceField, head: int) -> dict[str, Array]:
    """By prompt: the chance that the head's draft of each new token, from the first that can be
    drafted, is accepted.
    """
    rows = zip(
        field.prompts,
        field.accept[:, head],
        field.starts.tolist(),
        field.lengths.tolist(),
        strict=True,
    )
    return {prompt: np.minimum(accept[start:length], 1.0) for prompt, accept, start, length in rows}
