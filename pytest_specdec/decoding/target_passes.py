"""What replay reads of the target: its logits and hidden states on given texts, by the model itself
or from files that were written where it ran.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from ..cases.texts import Text
from ..common.errors import MeasurementError
from .drafters.teacher_forcing import forward
from .final_norm import before_final_norm
from .layer_states import captured_states
from .loading import LoadedModel
from .stored_states import StoredStates


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetPass:
    """One pass over a batch of texts."""

    logits: torch.Tensor
    """(rows, length - begin, vocabulary), for the tokens from position `begin` on."""
    hidden_states: Sequence[torch.Tensor] | None
    """As `drafters.protocol.TextBatch.hidden_states`; of stored states the last alone."""
    layer_states: Mapping[int, torch.Tensor]
    """By number, each (rows, length, width)."""


class TargetPasses(Protocol):
    """Runs a target over texts, or reads what it computed."""

    def run(
        self,
        ids: torch.Tensor,
        texts: Sequence[Text],
        begin: int,
        *,
        hidden: bool,
        layers: Sequence[int],
    ) -> TargetPass:
        """A pass over texts padded to `ids` (rows, length), with the states that are asked for."""


class ModelPasses:
    """The passes of a loaded target."""

    def __init__(self, target: LoadedModel) -> None:
        self._target = target

    def run(
        self,
        ids: torch.Tensor,
        texts: Sequence[Text],
        begin: int,
        *,
        hidden: bool,
        layers: Sequence[int],
    ) -> TargetPass:
        with captured_states(self._target, layers) as layer_states:
            outputs = forward(self._target, ids, begin, hidden=hidden)
        return TargetPass(
            logits=outputs.logits,
            hidden_states=outputs.hidden_states if hidden else None,
            layer_states=layer_states,
        )


class StoredPasses:
    """The passes of a target that ran elsewhere: its outer parts on stored states."""

    def __init__(self, target: LoadedModel, states: StoredStates) -> None:
        assert target.stored is not None, "load_outer_parts makes such a target"
        self._target, self._states = target, states
        self._held = torch.empty(0)

    def _room(self, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """Memory of the batch before, where it suffices: what that returned is overwritten."""
        size = math.prod(shape)
        if self._held.numel() < size:
            self._held = torch.empty(size, dtype=self._target.model.dtype, device=device)
        return self._held[:size].view(shape)

    def run(
        self,
        ids: torch.Tensor,
        texts: Sequence[Text],
        begin: int,
        *,
        hidden: bool,
        layers: Sequence[int],
    ) -> TargetPass:
        stored, target = self._target.stored, self._target.model
        assert stored is not None
        found = [self._checked(text, layers) for text in texts]
        states = self._room((*ids.shape, *found[0].shape[1:]), ids.device)
        for row, one in enumerate(found):
            states[row, : len(one)].copy_(one)
            states[row, len(one) :] = 0
            states[row, : len(one), -1] = before_final_norm(target, states[row, : len(one), -1])
        stored.output = states[:, :, -1]
        try:
            outputs = forward(self._target, ids, begin, hidden=hidden)
        finally:
            stored.output = None
        return TargetPass(
            logits=outputs.logits,
            hidden_states=outputs.hidden_states[-1:] if hidden else None,
            layer_states={number: states[:, :, at] for at, number in enumerate(layers)},
        )

    def _checked(self, text: Text, layers: Sequence[int]) -> torch.Tensor:
        """The states of a text that are read, (length, layers + 1, width). Raises MeasurementError
        for those of another model or of other layers.
        """
        states = self._states.of(text.ids)
        parts, width = states.shape[1:]
        own = self._target.model.config.get_text_config().hidden_size
        if width != own:
            raise MeasurementError(
                f"the stored states of {self._states.folder} are {width} wide, and the target's "
                f"{own}; they are another model's"
            )
        if not layers:
            return states[:, -1:]
        if parts != len(layers) + 1:
            raise MeasurementError(
                f"each token of {self._states.folder} has {parts} states, and the drafters read "
                f"those of the layers {', '.join(map(str, layers))} and the last one's; extract "
                "these, in this order, and measure drafters that read others in a run of their own"
            )
        return states
