"""Last hidden states of texts, kept from one pass of a model for the next question on these texts.

Replay, conformance and same-contexts read a model's logits on the same batches of texts. With the
states of the first pass the others run the output layer alone, on the same numbers in the same
shapes, so that what they compute is the same bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from transformers.utils import ModelOutput

from ..common.errors import RequestError
from .text_batches import Contents, contents

_MOST = {"cpu": 1 << 28, "cuda": 1 << 29}
"""Bytes of states that all models of a session keep."""
_BESIDE = {"last_hidden_state", "hidden_states", "past_key_values", "attentions"}
"""What a decoder may return; one that returns more, such as the choices of experts, may need it for
its logits.
"""


@dataclasses.dataclass
class StoredState:
    """The output of decoder layers that are not loaded, in a model's next pass."""

    output: torch.Tensor | None = None
    """(rows, columns, width), of the last layer, before the final norm."""

    def put(self, layer: torch.nn.Module, arguments: Any, output: Any) -> Any:
        """A forward hook of the only layer that there is. Raises RequestError without an output."""
        if self.output is None:
            raise RequestError(
                "only the outer parts of the target are loaded, and its states come from files; "
                "leave --specdec-hidden-states out of a run that needs the target itself"
            )
        return (self.output, *output[1:]) if isinstance(output, tuple | list) else self.output


@dataclasses.dataclass
class StateBudget:
    """Memory that is left for states, shared by the models of a session."""

    left: int

    @classmethod
    def on(cls, device: str) -> StateBudget:
        """What is spent on a type of device."""
        return cls(left=_MOST.get(device, _MOST["cpu"]))


class KeptStates:
    """Keeps the output of one model's decoder within a budget."""

    def __init__(self, decoder: torch.nn.Module, budget: StateBudget) -> None:
        """`decoder` is the part of a model whose output its output layer reads."""
        self._decoder, self._budget = decoder, budget
        self._held: dict[Contents, ModelOutput] = {}

    @contextlib.contextmanager
    def over(self, ids: torch.Tensor, *, whole: bool) -> Iterator[None]:
        """In this context the model's pass over token ids (rows, length) keeps the decoder's output
        or, where it is kept, runs the output layer alone; not where the pass must be `whole`, or
        hooks read what its layers hand on.
        """
        key = contents(ids)
        known = None if whole or self._has_hooks() else self._held.get(key)
        module: Any = self._decoder
        own, run = vars(module).get("forward"), module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if known is not None:
                return known
            output = run(*args, **kwargs)
            self._keep(key, output)
            return output

        module.forward = forward
        try:
            yield
        finally:
            del module.forward
            if own is not None:
                module.forward = own

    def _has_hooks(self) -> bool:
        """Whether somebody reads the layers; transformers' own hooks do nothing unless a pass asks
        for `hidden_states`.
        """
        return any(
            not getattr(hook, "__module__", "").startswith("transformers.")
            for module in self._decoder.modules()
            for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        )

    def _keep(self, key: Contents, output: Any) -> None:
        state = getattr(output, "last_hidden_state", None)
        if not isinstance(output, ModelOutput) or not isinstance(state, torch.Tensor):
            return
        if {name for name, value in output.items() if value is not None} - _BESIDE:
            return
        size = state.numel() * state.element_size()
        if key not in self._held and size <= self._budget.left:
            self._budget.left -= size
            self._held[key] = type(output)(last_hidden_state=state)
