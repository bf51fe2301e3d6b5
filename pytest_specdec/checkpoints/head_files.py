"""What the folders of all kinds of drafter heads have in common: weights that are no pickle, each
tensor once and of the shape that config.json implies, and the target that they were trained for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from ..common.errors import RequestError
from .checkpoint import Checkpoint
from .config_checks import count_of
from .folder_kinds import PICKLES
from .safetensors_header import read_header

FLOATS = ("F64", "F32", "F16", "BF16")
"""Number formats of weights that are not quantised, as safetensors names them."""
_TRAINING = ("verifier_norm.", "verifier_lm_head.")
"""What speculators saves for training alone."""
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")
_WIDTHS = ("hidden_size", "n_embd", "d_model")
_CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file; save_file({n: t.clone() '
    "for n, t in torch.load('%s', map_location='cpu', weights_only=True).items()}, "
    "'model.safetensors')\""
)

Shape = tuple[int, ...]


def check_pickle(folder: Path) -> None:
    """Raises RequestError where there is no folder, or its weights are a pickle."""
    if not folder.is_dir():
        raise RequestError(f"no head at {folder}; check the path")
    names = sorted(path.name for path in folder.iterdir())
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles and not any(name.endswith(".safetensors") for name in names):
        raise RequestError(
            f"{folder} holds a pickle ({pickles[0]}), which is never opened, because it can run "
            f"any code; convert it in that folder, on a machine where you trust it: "
            f"{_CONVERT % pickles[0]}"
        )


def check_once(checkpoint: Checkpoint) -> None:
    """Raises RequestError for a tensor in two files, of which a loader takes one or the other."""
    held: dict[str, Path] = {}
    for path in checkpoint.weight_files:
        for name in read_header(path):
            if (other := held.setdefault(name, path)) != path:
                raise RequestError(
                    f"{checkpoint.folder} holds the tensor {name[:80]!r} in {other.name} and in "
                    f"{path.name}; remove the file that is not the head's"
                )


def check_shapes(
    checkpoint: Checkpoint, needed: Mapping[str, Shape], kind: str, ids: Collection[str] = ()
) -> None:
    """Raises RequestError unless the tensors are those of `needed`, of these shapes and not
    quantised, those that hold `ids` excepted. `kind` names the heads in messages.
    """
    folder, tensors = checkpoint.folder, checkpoint.tensors
    for name, shape in needed.items():
        if name not in tensors:
            raise RequestError(
                f"{folder} lacks the tensor {name}, which config.json implies; save the whole head"
            )
        if tensors[name].shape != shape:
            raise RequestError(
                f"{name} of {folder} has the shape {list(tensors[name].shape)} and config.json and "
                f"the target imply {list(shape)}; name the target that the head was trained for, "
                "or correct config.json"
            )
        if tensors[name].dtype not in FLOATS and name not in ids:
            raise RequestError(
                f"{name} of {folder} is stored as {tensors[name].dtype}, and quantised heads are "
                "not supported; use a copy in bfloat16 or float16"
            )
    for name in tensors:
        if name not in needed:
            raise RequestError(
                f"{folder} holds the tensor {name[:80]!r}, which {kind} of its config.json do not "
                "have and loaders leave out; correct config.json, or save the heads without it"
            )


def check_tensors(
    checkpoint: Checkpoint,
    needed: Mapping[str, Shape],
    optional: Mapping[str, Shape],
    *,
    kind: str,
    maps: Collection[str] = (),
) -> None:
    """Raises RequestError unless a folder holds all `needed` tensors and nothing beside them, the
    `optional` ones and the `maps` of vocabularies, each of its shape and as floating-point numbers.

    `kind` names the head in messages.
    """
    folder, tensors = checkpoint.folder, checkpoint.tensors
    for name in needed:
        if name not in tensors:
            raise RequestError(
                f"{folder} lacks the tensor {name}, which config.json implies; save the whole head"
            )
    for name, tensor in tensors.items():
        if name.startswith(_TRAINING) or name.endswith("rotary_emb.inv_freq") or name in maps:
            continue
        if (shape := needed.get(name, optional.get(name, ()))) == ():
            raise RequestError(
                f"{folder} holds the tensor {name[:80]!r}, which no supported {kind} has; "
                "use a head without it, or correct config.json"
            )
        if tensor.shape != shape:
            raise RequestError(
                f"{name} of {folder} has the shape {list(tensor.shape)} and config.json implies "
                f"{list(shape)}; save the head again, or correct config.json"
            )
        if tensor.dtype not in FLOATS:
            raise RequestError(
                f"{name} of {folder} is stored as {tensor.dtype}, and quantised heads are not "
                "supported; use a copy in bfloat16 or float16"
            )


def check_verifier(
    path: Path, verifier: str | None, classes: tuple[str, ...], target: Checkpoint
) -> None:
    """Raises RequestError where the target is known to be another than the head was trained for:
    another class of models, or another name on the hub.

    `verifier` and `classes` are what the config.json at `path` says of that target.
    """
    theirs = target.config.get("architectures")
    theirs = theirs if isinstance(theirs, list) else []
    cure = (
        f"name that target, or correct speculators_config.verifier in {path} if the head was "
        "trained for this one"
    )
    if classes and theirs and not set(theirs) & set(classes):
        raise RequestError(
            f"the head {path.parent} was trained for {verifier or 'a target'} "
            f"({', '.join(classes)}), and {target.folder} is "
            f"{', '.join(map(str, theirs))}; {cure}"
        )
    name = hub_name(target.folder)
    if verifier and name and name.lower() != verifier.lower():
        raise RequestError(
            f"the head {path.parent} was trained for {verifier}, and the target is {name}; {cure}"
        )


def check_trained_for(folder: Path, named: object, target: Checkpoint) -> None:
    """Raises RequestError where `named`, the hub id of the target that a head was trained for, is
    not that of the target.
    """
    name = hub_name(target.folder)
    if isinstance(named, str) and named and name and name.lower() != named.lower():
        raise RequestError(
            f"the heads in {folder} were trained for {named[:80]}, and the target is {name}; name "
            "that target, or correct base_model_name_or_path in config.json"
        )


def hub_name(folder: Path) -> str | None:
    """The hub id of a snapshot in the hub's cache, `models--owner--name/snapshots/...`."""
    for part in folder.parts[-3:]:
        if part.startswith("models--") and part.count("--") >= 2:
            return part.removeprefix("models--").replace("--", "/", 1)
    return None


def width_of(target: Checkpoint) -> int:
    """The width of the target's hidden states. Raises RequestError where config.json lacks it."""
    width = known_width(target)
    if width is None:
        raise RequestError(
            f"{target.folder / 'config.json'} does not say how wide the target is; save the target "
            "again"
        )
    return width


def known_width(target: Checkpoint) -> int | None:
    """The width of the target's hidden states; None where config.json lacks it."""
    return _first(target, _WIDTHS)


def layers_of(target: Checkpoint) -> int:
    """The number of the target's decoder layers. Raises RequestError where it is not known."""
    layers = _first(target, _LAYER_COUNTS)
    if layers is None:
        raise RequestError(
            f"{target.folder / 'config.json'} does not say how many layers the target has; save "
            "the target again"
        )
    return layers


def vocabulary_size(target: Checkpoint) -> int:
    """The number of the target's tokens. Raises RequestError where config.json lacks it."""
    if target.vocabulary is None:
        raise RequestError(
            f"{target.folder / 'config.json'} does not say how many tokens the target has; save "
            "the target again"
        )
    return target.vocabulary


def _first(target: Checkpoint, names: tuple[str, ...]) -> int | None:
    counts = (count_of(target.text_config.get(name)) for name in names)
    return next((count for count in counts if count), None)
