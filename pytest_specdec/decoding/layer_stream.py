"""A model whose weights stay in its files: layers are read when they run, so that a model larger
than memory can be replayed.

Teacher forcing needs each layer once: a layer is read, runs over all texts, and is let go. Between
two layers the texts' states lie in a file of their own. The texts pass in the same batches, so
every number is that of the whole model in memory, bit for bit.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM, GenerationConfig

from ..checkpoints.checkpoint import Checkpoint, open_checkpoint
from ..checkpoints.loadable import quantisation
from ..common.errors import RequestError
from .known_quantisation import check_loadable
from .loading import LoadedModel, config_of, pick_device, quiet, refusing, resolve
from .text_batches import contents

_NAMES = ("layers", "h", "blocks")
_PART, _ALIGNED = 1 << 22, 256
"""Numbers of the output layer that are held at once, in whole rows of which so many go together."""


class _LayerDoneError(Exception):
    """Ends a model's pass once its one layer has run."""


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Models that are made in this context have no memory for their parameters; buffers are
    real.
    """
    register = nn.Module.register_parameter

    def on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(self, name, param)
        if param is not None:
            self._parameters[name] = nn.Parameter(param.to("meta"), requires_grad=False)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def load_streamed(name: str, device: str = "auto", dtype: str = "float32") -> LoadedModel:
    """Make a model whose weights stay in its files, see `LayerStream`. Parameters and errors are
    those of `load_model`.
    """
    checkpoint = open_checkpoint(resolve(name))
    check_loadable(checkpoint)
    if (method := quantisation(checkpoint)) is not None:
        raise RequestError(
            f"the weights of {checkpoint.folder} are quantised with {method}, and "
            "--specdec-offload reads plain ones; leave it out"
        )
    config = config_of(checkpoint)
    with refusing(checkpoint), quiet(), without_weights():
        model = AutoModelForCausalLM.from_config(
            config, trust_remote_code=False, dtype=getattr(torch, dtype)
        )
    with contextlib.suppress(OSError):  # without the file, config.json decides
        model.generation_config = GenerationConfig.from_pretrained(
            checkpoint.folder, local_files_only=True
        )
    model.eval().requires_grad_(False)
    return LoadedModel(
        checkpoint, model, stream=LayerStream(model, checkpoint, pick_device(device))
    )


class LayerStream:
    """Reads the weights of a model that was made `without_weights` as they are needed.

    Small parameters outside the decoder layers are read at once; rows of the embedding one by one;
    the output layer for each pass, in parts. Raises RequestError for a model whose tensors are not
    found in its files by their names.
    """

    def __init__(self, model: Any, checkpoint: Checkpoint, device: str) -> None:
        self._model, self._checkpoint = model, checkpoint
        self.device, self._dtype = torch.device(device), model.dtype
        self._files = _Files(checkpoint)
        self._layers = _layers_of(model, checkpoint)
        self._states: _States | None = None
        self._layer: int | None = None
        """The one that runs; None where all do, or none."""
        self._batch: int | None = None
        """The batch whose states are known."""
        self._wraps_output = False
        self._names = _file_names(model, checkpoint)
        inside = {id(one) for layer in self._layers for one in layer.modules()}
        for number, layer in enumerate(self._layers):
            layer.forward = functools.partial(self._run, number, layer.forward)
        for module in model.modules():
            if id(module) not in inside and module._parameters:
                self._attach(module)
        self._move_buffers()

    def compute(self, batches: Sequence[torch.Tensor], keep: Sequence[int] = ()) -> None:
        """Run every layer once over all batches of token ids (rows, columns); later passes over
        them read the states. `keep` are the numbers of the layers whose states are kept, too.
        """
        width = self._model.config.get_text_config().hidden_size
        self._states = _States(batches, width, self._dtype, {*keep, len(self._layers)})
        decoder = self._model.get_decoder()
        for number, layer in enumerate(self._layers):
            with self._weights(layer):
                for at, ids in enumerate(batches):
                    self._layer, self._batch = number, at
                    try:
                        with contextlib.suppress(_LayerDoneError):
                            decoder(ids, use_cache=False)
                    finally:
                        self._layer = self._batch = None

    def holds(self, batches: Sequence[torch.Tensor]) -> bool:
        """Whether the states of all these batches are known."""
        known = self._states
        return known is not None and all(known.number(ids) is not None for ids in batches)

    @contextlib.contextmanager
    def over(self, ids: torch.Tensor) -> Iterator[None]:
        """In this context a pass over token ids reads their states, where they are known."""
        self._batch = None if self._states is None else self._states.number(ids)
        try:
            yield
        finally:
            self._batch = None

    def weight(self, module: nn.Module) -> torch.Tensor:
        """A module's weight, read now."""
        return self._read(module._parameters["weight"]).detach()

    def _run(self, number: int, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a layer does in the place of its own forward."""
        if self._batch is None:
            with self._weights(self._layers[number]):
                return forward(*args, **kwargs)
        assert self._states is not None
        given, *rest = args or (kwargs.pop("hidden_states"),)
        if self._layer is None:
            state = self._states.read(number + 1, self._batch)
            return self._output(given if state is None else state.to(given))
        if number < self._layer:
            return self._output(given)
        if number:
            given = self._states.current(self._batch).to(self.device)
        output = forward(given, *rest, **kwargs)
        self._wraps_output = isinstance(output, tuple)
        state = output[0] if isinstance(output, tuple) else output
        self._states.write(number + 1, self._batch, state)
        raise _LayerDoneError

    def _output(self, state: torch.Tensor) -> Any:
        return (state,) if self._wraps_output else state

    @contextlib.contextmanager
    def _weights(self, module: nn.Module) -> Iterator[None]:
        """A module's parameters, read from its files and let go in the end."""
        empty = []
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None and parameter.is_meta:
                    empty.append((part, name, parameter))
                    part._parameters[name] = self._read(parameter)
        try:
            yield
        finally:
            for part, name, parameter in empty:
                part._parameters[name] = parameter

    def _read(self, parameter: nn.Parameter | None) -> nn.Parameter:
        tensor = self._files.tensor(self._names[id(parameter)])
        return nn.Parameter(tensor.to(self.device, self._dtype), requires_grad=False)

    def _attach(self, module: nn.Module) -> None:
        """Let a module outside the layers read its parameters: large ones when it runs, others
        now.
        """
        large = module in (self._model.get_input_embeddings(), self._model.get_output_embeddings())
        if not large:
            for name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    module._parameters[name] = self._read(parameter)
        elif type(module) is nn.Linear and "bias" not in dict(module.named_parameters()):
            name = self._names[id(module.weight)]
            setattr(module, "forward", functools.partial(self._columns, name))  # noqa: B010
        elif type(module) is nn.Embedding:
            name = self._names[id(module.weight)]
            setattr(module, "forward", functools.partial(self._rows, name))  # noqa: B010
        else:
            setattr(module, "forward", functools.partial(self._whole, module, module.forward))  # noqa: B010

    def _rows(self, name: str, ids: torch.Tensor) -> torch.Tensor:
        """The embeddings of tokens, without the others'."""
        rows = nn.functional.embedding(ids.cpu(), self._files.tensor(name))
        return rows.to(self.device, self._dtype)

    def _columns(self, name: str, states: torch.Tensor) -> torch.Tensor:
        """The output layer's logits, a part of the vocabulary after the other."""
        weights = self._files.tensor(name)
        rows = max(_PART // weights.shape[1] // _ALIGNED, 1) * _ALIGNED
        logits = states.new_empty((*states.shape[:-1], len(weights)))
        for begin in range(0, len(weights), rows):
            part = weights[begin : begin + rows].to(self.device, self._dtype)
            logits[..., begin : begin + rows] = nn.functional.linear(states, part)
        return logits

    def _whole(self, module: nn.Module, forward: Callable[..., Any], *args: Any) -> Any:
        with self._weights(module):
            return forward(*args)

    def _move_buffers(self) -> None:
        for module in self._model.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = buffer.to(self.device)


def weight_of(model: LoadedModel, module: nn.Module) -> torch.Tensor:
    """The weight of a module of a model, wherever it is."""
    if model.stream is not None:
        return model.stream.weight(module)
    weight = module.get_parameter("weight")
    return weight.detach()


class _Files:
    """The tensors of a checkpoint, mapped into memory by the file system and not read before they
    are used.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._files: dict[str, Any] = {}
        for path in sorted(Path(checkpoint.folder).glob("*.safetensors")):
            opened: Any = safe_open(path, "pt")
            self._files.update(dict.fromkeys(opened.keys(), opened))

    def tensor(self, name: str) -> torch.Tensor:
        found: torch.Tensor = self._files[name].get_tensor(name)
        return found


class _States:
    """States between two layers, and those that are kept, in files that the system may write out
    of memory.
    """

    def __init__(
        self, batches: Sequence[torch.Tensor], width: int, dtype: torch.dtype, kept: set[int]
    ) -> None:
        self._numbers = {contents(ids): at for at, ids in enumerate(batches)}
        shapes = [(*ids.shape, width) for ids in batches]
        self._last = max(kept)
        # The files are gone from the folder as soon as they are mapped, whatever becomes of us.
        with tempfile.TemporaryDirectory(prefix="specdec-states-") as folder:
            self._current = _mapped(Path(folder) / "current", shapes, dtype)
            self._kept = {
                number: _mapped(Path(folder) / str(number), shapes, dtype)
                for number in kept - {0, self._last}
            }

    def number(self, ids: torch.Tensor) -> int | None:
        return self._numbers.get(contents(ids))

    def current(self, batch: int) -> torch.Tensor:
        return self._current[batch]

    def write(self, number: int, batch: int, state: torch.Tensor) -> None:
        """The states after so many layers."""
        self._current[batch].copy_(state)
        if number in self._kept:
            self._kept[number][batch].copy_(state)

    def read(self, number: int, batch: int) -> torch.Tensor | None:
        """The states after so many layers, once all have run; None where they were not kept."""
        if number == self._last:
            return self._current[batch]
        return self._kept[number][batch] if number in self._kept else None


def _mapped(path: Path, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> list[torch.Tensor]:
    """Tensors of these shapes in a new file."""
    sizes = [rows * columns * width for rows, columns, width in shapes]
    whole: Any = torch.from_file(str(path), shared=True, size=sum(sizes), dtype=dtype)
    return [part.view(shape) for part, shape in zip(whole.split(sizes), shapes, strict=True)]


def _layers_of(model: Any, checkpoint: Checkpoint) -> nn.ModuleList:
    """The decoder layers, in their order."""
    count = model.config.get_text_config().num_hidden_layers
    for name in _NAMES:
        layers = getattr(model.get_decoder(), name, None)
        if isinstance(layers, nn.ModuleList) and len(layers) == count:
            return layers
    raise RequestError(
        f"the decoder layers of {checkpoint.folder} are not found in its model "
        f"({type(model).__name__}), so they cannot be read one by one; leave --specdec-offload out"
    )


def _file_names(model: Any, checkpoint: Checkpoint) -> dict[int, str]:
    """The tensor in the files of each parameter, by its identity. Tied ones share theirs."""
    names: dict[int, str] = {}
    missing = []
    embedding = id(model.get_input_embeddings().weight)
    output = model.get_output_embeddings()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        held = checkpoint.tensors.get(name)
        if held is not None and held.shape == tuple(parameter.shape):
            names.setdefault(id(parameter), name)
        elif id(parameter) not in names:
            missing.append((id(parameter), name))
    for number, name in missing:
        tied = output is not None and number == id(output.weight) and embedding in names
        if number in names:
            continue
        if not (tied and model.config.get_text_config().tie_word_embeddings):
            raise RequestError(
                f"{checkpoint.folder} has no tensor {name} of the shape that its model takes, so "
                "its layers cannot be read one by one; leave --specdec-offload out"
            )
        names[number] = names[embedding]
    return names
