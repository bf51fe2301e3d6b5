"""Models that transformers loads once, for the many sessions within a process that load the same ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from transformers import PreTrainedConfig, PreTrainedModel

from pytest_specdec.checkpoints.checkpoint import Checkpoint
from pytest_specdec.decoding import loading

MOST = 32


@contextmanager
def kept_models() -> Iterator[None]:
    """While the block runs, a checkpoint whose files and configuration are those of an earlier load
    gives a copy of that model.
    """
    load = loading._from_pretrained
    kept: dict[object, tuple[PreTrainedModel, list[str]]] = {}

    def copied(
        checkpoint: Checkpoint, config: PreTrainedConfig, dtype: str
    ) -> tuple[PreTrainedModel, list[str]]:
        files = sorted(checkpoint.folder.iterdir())
        states = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)
        key = (checkpoint.folder.resolve(), states, config.to_json_string(), dtype)
        if key not in kept:
            if len(kept) == MOST:
                kept.clear()
            kept[key] = load(checkpoint, config, dtype)
        model, missing = kept[key]
        return copy.deepcopy(model), [*missing]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_from_pretrained", copied)
        yield
