"""`variant`: a checkpoint with a LoRA adapter merged or with rounded weights, to be measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..common.errors import RequestError
from ..common.printable import printable
from ..common.progress import CommandProgress
from .costs import check_writable

WEIGHTS = ("bfloat16", "float16", "fp8", "int8", "int4")

_ABOUT = """\
The variant is a checkpoint folder: name it as --specdec-target or
--specdec-draft. Rounded weights are written in the number format that they
have: what is measured is the rounding of the weights and not that of
activations. Embeddings, output layer, norms and MTP layers stay as they are.
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    parser.add_argument("model", metavar="MODEL", help="a checkpoint folder or hub id")
    parser.add_argument(
        "--adapter",
        type=Path,
        metavar="FOLDER",
        help="a LoRA adapter as peft saves it, to be merged (default: none)",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        help="round the matrices of the layers: int8 with a scale for each row, int4 for each 128 "
        "columns of it, fp8 (e4m3) for each row (default: as they are)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder to write"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.adapter is None and arguments.weights is None:
        raise RequestError("nothing to change; name --adapter, --weights or both")
    check_writable(arguments.output / "config.json")
    from ..decoding.loading import resolve
    from ..decoding.variants import read_adapter, write_variant

    adapter = None if arguments.adapter is None else read_adapter(arguments.adapter)
    progress = CommandProgress()
    changed = write_variant(
        resolve(arguments.model),
        arguments.output,
        adapter=adapter,
        rounding=arguments.weights,
        progress=progress,
    )
    print(printable(f"wrote {arguments.output}: {changed} matrices changed"))
    return 0
