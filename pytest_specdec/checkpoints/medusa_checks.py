"""A folder of Medusa heads against its own config.json and against its target, by files alone.

Cai et al., arXiv 2401.10774. Head i reads the target's last hidden state h_t and drafts the token
x_{t+2+i}:

    y_0 = h_t,  y_j = y_{j-1} + SiLU(W_j y_{j-1} + b_j),  logits = W_out y

Packagings: FasterDecoding's (`i.j.linear.weight`, also read by text-generation-inference and
TensorRT-LLM) and vLLM's (`blocks.i.layers.j.weight`, `lm_heads.i.weight`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from .checkpoint import Checkpoint
from .config_checks import count_of
from .head_files import (
    Shape,
    check_once,
    check_pickle,
    check_shapes,
    check_trained_for,
    vocabulary_size,
    width_of,
)
from .residual_heads import (
    ResidualHeadFiles,
    check_depth,
    checked_count,
    checked_heads,
    numbered,
)

_KIND = "Medusa heads"
_HEADS = ("num_heads", "medusa_num_heads")
_LAYERS = ("medusa_num_layers", "num_hidden_layers")
_MAP = "token_map"
_SHARED = "lm_head.weight"


def check_medusa(target: Checkpoint, folder: Path | None, depth: int) -> None:
    """Raises RequestError for heads that cannot draft for the target, or not at this depth."""
    if folder is None:
        raise RequestError("medusa drafts with heads' files; name their folder: medusa:FOLDER")
    check_depth(depth, _KIND)
    read_medusa(target, folder)


def medusa_heads(folder: Path) -> int | None:
    """The number of heads that config.json announces: most draft tokens of a round."""
    return checked_count(folder, Checkpoint(folder).config, _HEADS)


def read_medusa(target: Checkpoint, folder: Path) -> ResidualHeadFiles:
    """The heads in a folder, if they can draft for the target.

    Raises
    ------
    RequestError
        For pickled weights, tensors that do not fit config.json, heads that are announced and
        missing or held and not announced, or heads for another target.

    Examples
    --------
    >>> read_medusa(target, Path("heads/vicuna-medusa")).heads  # doctest: +SKIP
    5
    """
    check_pickle(folder)
    checkpoint = Checkpoint(folder)
    check_once(checkpoint)
    config = checkpoint.config
    check_trained_for(folder, config.get("base_model_name_or_path"), target)
    stripped = {re.sub(r"^medusa_heads?\.", "", name): name for name in checkpoint.tensors}
    width, vocabulary = width_of(target), vocabulary_size(target)
    _check_sizes(folder, config, width, vocabulary)
    layers = checked_count(folder, config, _LAYERS) or 1
    layout = _Layout(
        checkpoint=checkpoint,
        config=config,
        stripped=stripped,
        layers=layers,
        width=width,
        vocabulary=vocabulary,
    )
    if any(name.startswith(("blocks.", "lm_heads.")) for name in stripped):
        return _vllm(layout)
    return _fasterdecoding(layout)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Layout:
    """What both packagings are read from."""

    checkpoint: Checkpoint
    config: Mapping[str, Any]
    stripped: Mapping[str, str]
    """The folder's names by those without the prefix `medusa_heads.`."""
    layers: int
    width: int
    vocabulary: int

    def files(
        self,
        packaging: str,
        heads: int,
        shapes: Mapping[str, tuple[str, Shape]],
        **more: Any,
    ) -> ResidualHeadFiles:
        """The heads, whose tensors have the shapes: those of each name of ours, with the name of
        the packaging.
        """
        names = {ours: self.stripped.get(theirs, theirs) for ours, (theirs, _) in shapes.items()}
        needed = {names[ours]: shape for ours, (_, shape) in shapes.items()}
        extra = more.pop("extra", {})
        check_shapes(self.checkpoint, needed | extra, f"{_KIND} ({packaging})", ids=extra)
        return ResidualHeadFiles(
            checkpoint=self.checkpoint,
            packaging=packaging,
            heads=heads,
            layers=self.layers,
            width=self.width,
            vocabulary=self.vocabulary,
            names=names,
            **more,
        )


def _check_sizes(folder: Path, config: Mapping[str, Any], width: int, vocabulary: int) -> None:
    for field, theirs in (("hidden_size", width), ("vocab_size", vocabulary)):
        said = config.get(field)
        if said is not None and count_of(said) != theirs:
            raise RequestError(
                f"{folder / 'config.json'} says {field}: {str(said)[:40]} and the target's is "
                f"{theirs}; name the target that the heads were trained for"
            )


def _fasterdecoding(layout: _Layout) -> ResidualHeadFiles:
    """`medusa_num_heads` of `i.j.linear` and, but for version 2 of text-generation-inference, which
    uses the target's own output layer, `i.{layers}.weight`.
    """
    config, folder, layers = layout.config, layout.checkpoint.folder, layout.layers
    held = numbered(layout.stripped, r"(\d{1,4})\.")
    heads = checked_heads(folder, checked_count(folder, config, _HEADS), held, "medusa_num_heads")
    with_output = str(config.get("version")) != "2"
    square = (layout.width, layout.width)
    shapes: dict[str, tuple[str, Shape]] = {}
    for head in range(heads):
        for layer in range(layers):
            name = f"{head}.{layer}.linear"
            shapes[f"{head}.{layer}.weight"] = (f"{name}.weight", square)
            shapes[f"{head}.{layer}.bias"] = (f"{name}.bias", (layout.width,))
        if with_output:
            output = (layout.vocabulary, layout.width)
            shapes[f"{head}.out.weight"] = (f"{head}.{layers}.weight", output)
    return layout.files("packed by FasterDecoding", heads, shapes)


def _vllm(layout: _Layout) -> ResidualHeadFiles:
    """`num_heads` of `blocks.i.layers.j`, with biases if `medusa_fc_bias`, and an output layer each
    or one for all (`original_lm_head`), perhaps of the tokens of `token_map` alone.
    """
    config, folder = layout.config, layout.checkpoint.folder
    held = numbered(layout.stripped, r"blocks\.(\d{1,4})\.")
    heads = checked_heads(folder, checked_count(folder, config, _HEADS), held, "num_heads")
    drafted, token_map, extra = _drafted(layout)
    width, biases = layout.width, bool(config.get("medusa_fc_bias", False))
    shapes: dict[str, tuple[str, Shape]] = {}
    for head in range(heads):
        for layer in range(layout.layers):
            name = f"blocks.{head}.layers.{layer}"
            shapes[f"{head}.{layer}.weight"] = (f"{name}.weight", (width, width))
            if biases:
                shapes[f"{head}.{layer}.bias"] = (f"{name}.bias", (width,))
        output = f"lm_heads.{head}.weight"
        if config.get("original_lm_head"):
            output = _SHARED if _SHARED in layout.stripped else "lm_heads.0.weight"
        shapes[f"{head}.out.weight"] = (output, (drafted, width))
    return layout.files(
        "packed for vLLM",
        heads,
        shapes,
        extra=extra,
        scale=_scale(folder, config),
        token_map=token_map,
    )


def _drafted(layout: _Layout) -> tuple[int, str | None, dict[str, Shape]]:
    """The number of tokens that the heads draft, the tensor that lists them, and its shape."""
    folder, vocabulary = layout.checkpoint.folder, layout.vocabulary
    said = layout.config.get("truncated_vocab_size")
    drafted = vocabulary if said is None else count_of(said)
    if drafted is None or not 1 <= drafted <= vocabulary:
        raise RequestError(
            f"{folder / 'config.json'} says truncated_vocab_size: {str(said)[:40]} and the target "
            f"has {vocabulary} tokens; correct it"
        )
    held = layout.stripped.get(_MAP)
    if drafted == vocabulary and held is not None:
        raise RequestError(
            f"{folder} holds a token_map, which loaders leave out because config.json does not say "
            "truncated_vocab_size; add it, or save the heads without the map"
        )
    if drafted == vocabulary:
        return drafted, None, {}
    if held is None or layout.checkpoint.tensors[held].dtype != "I64":
        raise RequestError(
            f"{folder} drafts {drafted} of {vocabulary} tokens and has no token_map of 64-bit "
            "numbers that says which; save the heads with it"
        )
    return drafted, held, {held: (drafted,)}


def _scale(folder: Path, config: Mapping[str, Any]) -> float:
    scale = config.get("logit_scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < 1e6:
        raise RequestError(
            f"{folder / 'config.json'} says logit_scale: {str(scale)[:40]}, which is no positive "
            "number; correct it"
        )
    return float(scale)
