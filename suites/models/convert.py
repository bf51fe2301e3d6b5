"""Converts checkpoints into the forms that other engines load, in a folder of each checkpoint named
like the form.

    python suites/models/convert.py gguf                     # the embedded text checkpoints
    python suites/models/convert.py onnx models/my-target    # any that the builder knows

`gguf` needs the packages gguf, safetensors and torch and writes Llama checkpoints; `onnx` needs
onnxruntime-genai, onnx, onnx_ir, torch and transformers; `openvino` needs optimum-intel (a Python
of its own: --python). MTP layers are left out, weights are float32. A form that was made of the
same weights is left as it is.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gguf_form import write_gguf

from pytest_specdec.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pytest_specdec.engines.adapters.converted import is_current, write_stamp

HERE = Path(__file__).parent
PAIR = (HERE / "text-target", HERE / "text-draft", HERE / "text-target-eos")


def write_onnx(checkpoint: Checkpoint, folder: Path, python: str) -> None:
    with tempfile.TemporaryDirectory() as cache:
        source = ["-i", str(checkpoint.folder), "-o", str(folder), "-c", cache]
        run(python, "-m", "onnxruntime_genai.models.builder", *source, "-p", "fp32", "-e", "cpu")


def write_openvino(checkpoint: Checkpoint, folder: Path, python: str) -> None:
    export = ["--task", "text-generation-with-past", "--weight-format", "fp32", str(folder)]
    run(
        python,
        "-m",
        "optimum.commands.optimum_cli",
        "export",
        "openvino",
        "-m",
        str(checkpoint.folder),
        *export,
    )


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


CONVERTERS = {"gguf": write_gguf, "onnx": write_onnx, "openvino": write_openvino}


def convert(form: str, folder: Path, python: str) -> None:
    """Write one checkpoint's form, at once or not at all."""
    checkpoint, place = open_checkpoint(folder.resolve()), folder / form
    if is_current(place, checkpoint):
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{form}-") as made:
        CONVERTERS[form](checkpoint, Path(made), python)
        write_stamp(Path(made), checkpoint)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(made, place)
        place.chmod(0o755)
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    print(f"{place}: {size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("form", choices=sorted(CONVERTERS))
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=PAIR,
        help="checkpoints (default: the embedded text pair)",
    )
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="the Python with the converter's packages (default: this one)",
    )
    arguments = parser.parse_args()
    for folder in arguments.folders:
        convert(arguments.form, folder, arguments.python)


if __name__ == "__main__":
    main()
