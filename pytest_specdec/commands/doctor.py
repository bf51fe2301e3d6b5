"""`doctor`: for which reading of its folder a drafter was trained, from a few texts of its target.

Exit status 0: read as trained; 1: trained for another reading, or for none; 3: undecided; 2: an
error.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import RequestError
from ..common.limits import MOST_K, MOST_NEW_TOKENS
from ..common.progress import CommandProgress
from ..config.parsers import temperature, whole_number
from .costs import add_device_options

if TYPE_CHECKING:
    from ..doctor.diagnosis import Diagnosis


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "drafter",
        metavar="HEAD",
        help="the folder of an EAGLE-3 head, or mtp for the target's own MTP layers",
    )
    parser.add_argument(
        "--target", required=True, metavar="PATH", help="target: a checkpoint folder or hub id"
    )
    parser.add_argument(
        "--prompts",
        required=True,
        type=Path,
        metavar="FILE",
        help="prompts, one JSON object a line",
    )
    _add_texts(parser)
    add_device_options(parser)


def _add_texts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--texts",
        type=whole_number(2),
        default=32,
        metavar="N",
        help="texts to sample from the target, a prompt each: the first N prompts of the file, or "
        "all where there are fewer (default %(default)s)",
    )
    parser.add_argument(
        "--k",
        type=whole_number(1, MOST_K),
        default=4,
        metavar="K",
        help="tokens to draft in a round (default %(default)s)",
    )
    parser.add_argument(
        "--temperature",
        type=temperature,
        default=1.0,
        metavar="T",
        help="sampling temperature, above 0 (default %(default)s)",
    )
    parser.add_argument(
        "--new-tokens",
        type=whole_number(2, MOST_NEW_TOKENS),
        default=64,
        metavar="N",
        help="tokens of each text after its prompt (default %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="seed of the texts (default %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    from ..doctor.page import lines

    if arguments.temperature == 0:
        raise RequestError(
            "the doctor compares probabilities of acceptance, which are 0 or 1 at temperature 0; "
            "use --temperature above 0"
        )
    progress = CommandProgress()
    diagnosis, texts = _examined(arguments, progress)
    circumstances = (
        f"{texts} texts of the target {arguments.target}, {arguments.new_tokens} new tokens each, "
        f"temperature {arguments.temperature:g}, k {arguments.k}"
    )
    print("\n".join(lines(diagnosis, circumstances)))
    return diagnosis.outcome.status


def _examined(
    arguments: argparse.Namespace, progress: CommandProgress
) -> tuple[Diagnosis[Any], int]:
    from ..cases.case import Sampling
    from ..cases.prompts import read_prompts
    from ..cases.texts import texts_of_prompts
    from ..checkpoints.checkpoint import open_checkpoint
    from ..decoding.loading import load_model, resolve
    from ..decoding.sampling import encode_prompts, sample_new_tokens
    from ..doctor.diagnosis import diagnose
    from ..doctor.patients import check_patient, patient_of

    prompts = read_prompts(arguments.prompts)[: arguments.texts]
    check_patient(open_checkpoint(resolve(arguments.target)), arguments.drafter)
    progress("loading the target", 0, 1)
    target = load_model(arguments.target, arguments.device, arguments.dtype)
    progress("loading the target", 1, 1)
    sampling = Sampling(arguments.temperature)
    ids = encode_prompts(target.tokenizer, prompts)
    new = sample_new_tokens(
        target,
        ids,
        new_tokens=arguments.new_tokens,
        sampling=sampling,
        seed=arguments.seed,
        keys=[prompt.key for prompt in prompts],
        progress=lambda done, total: progress("sampling texts", done, total),
    )
    patient: Any = patient_of(
        target,
        arguments.drafter,
        texts_of_prompts(prompts, ids, new),
        sampling,
        arguments.k,
        lambda done, total: progress("reading them", done, total),
    )
    return diagnose(patient, patient.nothing), len(prompts)
