"""The name that transformers gives its cache of keys and values: `cache` since 5.24,
`past_key_values` before.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


@functools.cache
def cache_name(function: Callable[..., Any]) -> str:
    """Under which keyword a function or a model's `forward` takes its cache.

    The old name still works in 5.24, with a warning, and ends with 5.40.
    """
    return "cache" if "cache" in inspect.signature(function).parameters else "past_key_values"
