"""One accumulated run of `--specdec-accumulate`."""

from __future__ import annotations

import msgspec

from .conditions import Fingerprints
from .prompt_counts import PromptRows
from .ranges import Share


class AccumulatedRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One accumulated run: its counts and its p-value against all runs before it."""

    p_value: Share
    fingerprints: Fingerprints
    counts: PromptRows
