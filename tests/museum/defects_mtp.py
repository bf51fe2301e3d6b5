"""Defects of engines that draft with a target's MTP layers, reported in 2026, as patches of our
decoder.
"""

from __future__ import annotations

from typing import Any

import torch
from museum.defects import Defect, Patch

from pytest_specdec.decoding.mtp_cache import MtpCache
from pytest_specdec.decoding.mtp_forward import project
from pytest_specdec.decoding.ragged import CachedModel

LARGEST_FLOAT8 = 448.0


def lost_scale(patch: Patch) -> None:
    """`eh_proj` is stored in float8, its largest weight as 448, and the scale that undoes this is
    not loaded.
    """
    step = MtpCache.step

    def broken(self: MtpCache) -> torch.Tensor:
        projection = self._heads.layers[min(self._step, self._depth - 1)].eh_proj
        scale = projection.weight.abs().max() / LARGEST_FLOAT8
        hook = projection.register_forward_hook(lambda module, inputs, output: output / scale)
        try:
            return step(self)
        finally:
            hook.remove()

    patch.setattr(MtpCache, "step", broken)


def logits_of_the_token_before(patch: Patch) -> None:
    """Where a layer runs over several tokens, the logits are those of the last but one."""
    step = MtpCache.step

    def broken(self: MtpCache) -> torch.Tensor:
        step(self)
        return project(self._heads, self._hidden[:, max(-2, -self._hidden.shape[1])])

    patch.setattr(MtpCache, "step", broken)


def wrapped_rows(size: int) -> Defect:
    """The index of cached keys has room for so many sequences; those behind read the keys of others,
    from the first on.
    """

    def defect(patch: Patch) -> None:
        step = MtpCache.step

        def broken(self: MtpCache) -> torch.Tensor:
            index = min(self._step, self._depth - 1)
            layers = self._cache.layers
            if not self._held or len(layers) <= index:
                return step(self)
            layer = layers[index]
            keys, values, columns = layer.keys, layer.values, layer.keys.shape[2]
            read = torch.arange(len(keys)) % size
            layer.keys, layer.values = keys[read], values[read]
            logits = step(self)
            layer.keys = torch.cat([keys, layer.keys[:, :, columns:]], 2)
            layer.values = torch.cat([values, layer.values[:, :, columns:]], 2)
            return logits

        patch.setattr(MtpCache, "step", broken)

    return defect


def float8_cache(patch: Patch) -> None:
    """The target's keys and values are kept in float8 (e4m3)."""
    feed = CachedModel.feed

    def broken(self: CachedModel, *arguments: Any) -> torch.Tensor:
        logits = feed(self, *arguments)
        for layer in self.cache.layers:
            layer.keys, layer.values = rounded(layer.keys), rounded(layer.values)
        return logits

    patch.setattr(CachedModel, "feed", broken)


def rounded(states: torch.Tensor) -> torch.Tensor:
    return states.to(torch.float8_e4m3fn).to(states.dtype)
