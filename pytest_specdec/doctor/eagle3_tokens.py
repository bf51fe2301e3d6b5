"""Which tokens of the target those of a draft vocabulary are, as its tensors may be meant."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..checkpoints.eagle3_checks import Eagle3Files
from ..checkpoints.eagle3_vocabulary import drafted_tokens, integers

VocabularyMap = Literal["offsets", "absolute", "first", "ascending", "t2d"]
"""`d2t` as offsets from the draft ids, or as the target's ids; no map, so draft ids are the
target's; the tokens of `d2t` in ascending order; those of `t2d`.
"""


def maps_of(files: Eagle3Files) -> list[VocabularyMap]:
    """The maps that a folder allows, those that say the same but once."""
    tensors = files.checkpoint.tensors
    named: list[VocabularyMap] = []
    if "d2t" in tensors:
        named += ["offsets", "absolute", "ascending"]
    if "t2d" in tensors:
        named.append("t2d")
    if len(files.target_ids) <= files.config.vocabulary:
        named.append("first")
    found: dict[bytes, VocabularyMap] = {}
    for tokens in named if "d2t" in tensors else reversed(named):
        found.setdefault(ids_of(files, tokens).tobytes(), tokens)
    return list(found.values())


def ids_of(files: Eagle3Files, tokens: VocabularyMap) -> NDArray[np.int64]:
    """The target's id of each draft token by a map; some may lie outside its vocabulary."""
    offsets, tensors = files.target_ids, files.checkpoint.tensors
    if tokens == "absolute":
        return integers(tensors["d2t"])
    if tokens == "first":
        return np.arange(len(offsets), dtype=np.int64)
    if tokens == "ascending":
        return np.sort(offsets)
    if tokens == "t2d":
        named = drafted_tokens(tensors["t2d"], files.config.vocabulary)
        known = np.full(len(offsets), -1, dtype=np.int64)
        if named is not None:
            known[: len(named)] = named[: len(known)]
        return known
    return offsets
