"""The hidden states between a model's layers, taken by hooks during its own pass.

transformers' `output_hidden_states` keeps those of every layer and normalises the last one; a hook
keeps the ones that are read, as the layers hand them on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ..common.errors import RequestError
from .loading import LoadedModel

_NAMES = ("layers", "h", "blocks")


@contextlib.contextmanager
def captured_states(model: LoadedModel, layers: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
    """The states that the model's next pass computes: each a tensor (rows, columns, width), under
    its number.

    They are numbered as transformers' `hidden_states`: 0 the embeddings, i the output of the i-th
    decoder layer, before any final norm. Raises RequestError for a model whose decoder layers are
    not found, and in its pass for one whose layers hand on something else.
    """
    states: dict[int, torch.Tensor] = {}
    with contextlib.ExitStack() as hooks:
        blocks = _blocks(model) if layers else None
        for number in layers:
            assert blocks is not None
            if number:
                keep = _keep_output(states, number, model)
                hook = blocks[number - 1].register_forward_hook(keep)
            else:
                keep = _keep_input(states, model)
                hook = blocks[0].register_forward_pre_hook(keep, with_kwargs=True)
            hooks.callback(hook.remove)
        yield states


def _blocks(model: LoadedModel) -> torch.nn.ModuleList:
    """The decoder layers, in their order."""
    parts = (model.model.get_decoder(), model.model.base_model)
    count = getattr(model.model.config.get_text_config(), "num_hidden_layers", None)
    for part in parts:
        for name in _NAMES:
            blocks = getattr(part, name, None)
            if isinstance(blocks, torch.nn.ModuleList) and len(blocks) == count:
                return blocks
    raise RequestError(
        f"the decoder layers of {model.checkpoint.folder} are not found in its model "
        f"({type(model.model).__name__}), so their states cannot be read; use another drafter"
    )


def _keep_output(
    states: dict[int, torch.Tensor], number: int, model: LoadedModel
) -> Callable[..., None]:
    def hook(module: torch.nn.Module, arguments: Any, output: Any) -> None:
        states[number] = _state(output[0] if isinstance(output, tuple | list) else output, model)

    return hook


def _keep_input(states: dict[int, torch.Tensor], model: LoadedModel) -> Callable[..., None]:
    def hook(module: torch.nn.Module, arguments: Any, named: dict[str, Any]) -> None:
        states[0] = _state(arguments[0] if arguments else named["hidden_states"], model)

    return hook


def _state(found: Any, model: LoadedModel) -> torch.Tensor:
    """Raises RequestError for anything but one vector a token: Gemma 3n, for one, hands several
    on.
    """
    if isinstance(found, torch.Tensor) and found.ndim == 3:
        return found
    shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    raise RequestError(
        f"the decoder layers of {model.checkpoint.folder} ({type(model.model).__name__}) hand on "
        f"{shape} and not one vector a token (rows, columns, width), so their states cannot be "
        "read; use another drafter"
    )
