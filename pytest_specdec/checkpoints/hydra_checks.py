"""A folder of Hydra heads against its own config.json and against its target, by files alone.

Ankner et al., arXiv 2402.05109. Head i reads the target's hidden state h_t and the embeddings of
the i + 1 tokens after it, and drafts the token x_{t+2+i}:

    z = [h_t; E(x_{t+1}); ...; E(x_{t+1+i})]
    y_0 = A z + a + SiLU(W_0 z + b_0),  y_j = y_{j-1} + SiLU(W_j y_{j-1} + b_j)
    logits = W_out y + b_out

Ungrounded heads read h_t alone. Packaging: zankner/Hydra's (`hydra_mlp.i.j.linear.weight`,
`hydra_lm_head.i.weight`).
"""

from __future__ import annotations

from pathlib import Path

from ..common.errors import RequestError
from .checkpoint import Checkpoint
from .config_checks import count_of
from .head_files import (
    Shape,
    check_once,
    check_pickle,
    check_shapes,
    check_trained_for,
    layers_of,
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

_KIND = "Hydra heads"


def check_hydra(target: Checkpoint, folder: Path | None, depth: int) -> None:
    """Raises RequestError for heads that cannot draft for the target, or not at this depth."""
    if folder is None:
        raise RequestError("hydra drafts with heads' files; name their folder: hydra:FOLDER")
    check_depth(depth, _KIND)
    read_hydra(target, folder)


def hydra_heads(folder: Path) -> int | None:
    """The number of heads that config.json announces: most draft tokens of a round."""
    return checked_count(folder, Checkpoint(folder).config, ("hydra_num_heads",))


def read_hydra(target: Checkpoint, folder: Path) -> ResidualHeadFiles:
    """The heads in a folder, if they can draft for the target.

    Raises
    ------
    RequestError
        For pickled weights, another architecture than `mlp`, tensors that do not fit config.json,
        or heads for another target.

    Examples
    --------
    >>> read_hydra(target, Path("heads/vicuna-hydra")).heads  # doctest: +SKIP
    4
    """
    check_pickle(folder)
    checkpoint = Checkpoint(folder)
    check_once(checkpoint)
    config = checkpoint.config
    _check_architecture(folder, config.get("hydra_head_arch", "mlp"))
    check_trained_for(folder, config.get("base_model_name_or_path"), target)
    grounded = config.get("grounded_heads", False)
    if not isinstance(grounded, bool):
        raise RequestError(
            f"{folder / 'config.json'} says grounded_heads: {str(grounded)[:40]}; write true or "
            "false"
        )
    layers = checked_count(folder, config, ("hydra_num_layers",)) or 1
    held = numbered(checkpoint.tensors, r"hydra_mlp\.(\d{1,4})\.")
    announced = checked_count(folder, config, ("hydra_num_heads",))
    heads = checked_heads(folder, announced, held, "hydra_num_heads")
    width, vocabulary = width_of(target), vocabulary_size(target)
    shapes = _shapes(heads, layers, width, vocabulary, grounded=grounded)
    needed = dict(shapes.values())
    check_shapes(checkpoint, needed, f"{_KIND}{' that are grounded' * grounded}")
    return ResidualHeadFiles(
        checkpoint=checkpoint,
        packaging="packed by zankner/Hydra",
        heads=heads,
        layers=layers,
        width=width,
        vocabulary=vocabulary,
        names={ours: theirs for ours, (theirs, _) in shapes.items()},
        reads_tokens=grounded,
        state_from_end=_offset(folder, config.get("hidden_state_offset", 0), layers_of(target)),
    )


def _check_architecture(folder: Path, architecture: object) -> None:
    """Raises RequestError for heads with attention of their own, which are other networks."""
    if architecture != "mlp":
        raise RequestError(
            f"{folder / 'config.json'} says hydra_head_arch: {str(architecture)[:40]}, heads with "
            "attention over earlier states, which are not supported; use heads of the kind mlp, or "
            "measure a server that drafts with them: --specdec-engine=vllm --specdec-url=URL"
        )


def _offset(folder: Path, offset: object, layers: int) -> int:
    """How many decoder layers before the last the state is taken. Raises RequestError."""
    count = count_of(offset)
    if count is None or not 0 <= count < layers:
        raise RequestError(
            f"{folder / 'config.json'} says hidden_state_offset: {str(offset)[:40]} and the target "
            f"has {layers} layers; correct it"
        )
    return count


def _shapes(
    heads: int, layers: int, width: int, vocabulary: int, *, grounded: bool
) -> dict[str, tuple[str, Shape]]:
    """By our name of each tensor, theirs and its shape."""
    shapes: dict[str, tuple[str, Shape]] = {}
    for head in range(heads):
        for layer in range(layers):
            block = f"hydra_mlp.{head}.{layer}"
            reads = width * (head + 2) if grounded and layer == 0 else width
            shapes[f"{head}.{layer}.weight"] = (f"{block}.linear.weight", (width, reads))
            shapes[f"{head}.{layer}.bias"] = (f"{block}.linear.bias", (width,))
            if reads != width:
                skip = f"{block}.res_connection"
                shapes[f"{head}.skip.weight"] = (f"{skip}.weight", (width, reads))
                shapes[f"{head}.skip.bias"] = (f"{skip}.bias", (width,))
        output = f"hydra_lm_head.{head}"
        shapes[f"{head}.out.weight"] = (f"{output}.weight", (vocabulary, width))
        shapes[f"{head}.out.bias"] = (f"{output}.bias", (vocabulary,))
    return shapes
