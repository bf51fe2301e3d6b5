"""An engine's own form of a checkpoint: GGUF, ONNX or OpenVINO files that were converted from its
safetensors.

They lie in the checkpoint's folder or in a folder inside it named like the form, as on the hub:
`onnx/`, `openvino/`, `gguf/`. A `source.json` beside them names the weights that they were made of,
so that a file left from other weights is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

from ...checkpoints.checkpoint import Checkpoint
from ...common.errors import RequestError

Form = Literal["gguf", "onnx", "openvino"]
_FILES: dict[Form, str] = {
    "gguf": "*.gguf",
    "onnx": "genai_config.json",
    "openvino": "openvino_model.xml",
}
"""The file that identifies the form; of GGUF it is loaded itself, else its folder."""
_CONVERTERS: dict[Form, str] = {
    "gguf": "llama.cpp's convert_hf_to_gguf.py --outtype f32",
    "onnx": "python -m onnxruntime_genai.models.builder -p fp32 -e cpu",
    "openvino": "optimum-cli export openvino --task text-generation-with-past --weight-format fp32",
}
STAMP = "source.json"


class Stamp(msgspec.Struct, frozen=True):
    """What a form was converted from."""

    model_fingerprint: str


def form_of(checkpoint: Checkpoint, form: Form) -> Path:
    """The file (GGUF) or folder of a checkpoint's form. Raises RequestError where it is missing,
    ambiguous or stale.
    """
    inside = checkpoint.folder / form
    places = [
        place for place in (checkpoint.folder, inside) if next(place.glob(_FILES[form]), None)
    ]
    if not places:
        raise RequestError(
            f"{checkpoint.folder} has no {_FILES[form]}; convert it into {inside}: "
            f"{_CONVERTERS[form]}"
        )
    files = sorted(places[0].glob(_FILES[form]))
    if len(files) > 1:
        raise RequestError(
            f"{places[0]} holds {len(files)} files {_FILES[form]}; leave one of them there"
        )
    _check_stamp(places[0] / STAMP, checkpoint)
    return files[0] if form == "gguf" else places[0]


def write_stamp(folder: Path, checkpoint: Checkpoint) -> None:
    """Note what a form was converted from."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAMP).write_text(
        json.dumps({"model_fingerprint": checkpoint.model_fingerprint}) + "\n", encoding="utf-8"
    )


def is_current(folder: Path, checkpoint: Checkpoint) -> bool:
    """Whether a form was converted from these very weights."""
    return _stamp(folder / STAMP) == Stamp(checkpoint.model_fingerprint)


def _stamp(path: Path) -> Stamp | None:
    try:
        stamp: Any = msgspec.json.decode(path.read_bytes(), type=Stamp)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise RequestError(
            f"{path} cannot be read ({error}); convert the checkpoint again"
        ) from None
    return Stamp(stamp.model_fingerprint)


def _check_stamp(path: Path, checkpoint: Checkpoint) -> None:
    stamp = _stamp(path)
    if stamp is not None and stamp.model_fingerprint != checkpoint.model_fingerprint:
        raise RequestError(
            f"{path.parent} was converted from other weights ({stamp.model_fingerprint}) than "
            f"{checkpoint.folder} holds "
            f"({checkpoint.model_fingerprint}); convert it again"
        )
