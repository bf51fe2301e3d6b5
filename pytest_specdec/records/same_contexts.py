"""A pair measured in the contexts of another target's texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..acceptance.contexts import ContextCounts


@dataclasses.dataclass(frozen=True, kw_only=True)
class SameContexts:
    """The acceptance of today's pair in every context of the texts that a baseline was measured
    on.
    """

    target: str
    """Fingerprint of the target that emitted the texts."""
    text_fingerprints: Mapping[str, str]
    """Of the texts, by prompt key."""
    measured: ContextCounts
    problem: str | None = None
    """Why the stored texts or their log-probabilities cannot be right; None where they may be."""
