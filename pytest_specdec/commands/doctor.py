"""`doctor`: for which reading of its folder a drafter was trained, from a few texts of its target.

Exit status 0: read as trained; 1: trained for another reading, or for none; 3: undecided; 2: an
error.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.limits import MOST_K
from ..common.progress import CommandProgress
from ..config.parsers import whole_number
from .costs import add_device_options
from .text_options import add_text_options

if TYPE_CHECKING:
    from ..cases.prompts import Prompt
    from ..doctor.diagnosis import Diagnosis


_ABOUT = """\
exit status:
  0  read as trained
  1  trained for another reading, contradictory, or no better than knowing nothing
  2  an error
  3  undecided: too few texts

It takes one pass of the target over each text, and one pass of the head for
each reading: 20 to 80 for most heads, two to four times that where the ids of
layers are wrong or no reading helps.
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    parser.add_argument(
        "drafter",
        metavar="HEAD",
        help="the folder of an EAGLE-3 head, a block drafter (DFlash, DSpark, Domino), Medusa or "
        "Hydra heads, or mtp for the target's own MTP layers",
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
        help="texts to sample from the target, a prompt each: N prompts spread evenly over the "
        "file, or all where there are fewer (default %(default)s)",
    )
    parser.add_argument(
        "--k",
        type=whole_number(1, MOST_K, example="4"),
        default=4,
        metavar="K",
        help="tokens to draft in a round (default %(default)s)",
    )
    add_text_options(parser, new_tokens=64)


def run(arguments: argparse.Namespace) -> int:
    # What can be refused is refused before torch is imported, which takes seconds.
    from ..doctor.checks import check_drafter, check_target, checked_texts

    prompts = checked_texts(
        arguments.prompts,
        arguments.texts,
        new_tokens=arguments.new_tokens,
        k=arguments.k,
        temperature=arguments.temperature,
    )
    checkpoint = check_target(arguments.target)
    if checkpoint is not None:
        check_drafter(checkpoint, arguments.drafter)
    from ..cases.prompts import read_prompts
    from ..doctor.diagnosis import DoctorOutcome
    from ..doctor.page import last_line, lines
    from ..report.layout import wrapped

    diagnosis = _examined(arguments, prompts)
    circumstances = (
        f"{len(prompts)} text{'s' * (len(prompts) > 1)} of the target {arguments.target}, "
        f"{arguments.new_tokens} new tokens each, temperature {arguments.temperature:g}, "
        f"k {arguments.k}"
    )
    print("\n".join(lines(diagnosis, circumstances)))
    left_out = len(read_prompts(arguments.prompts)) - len(prompts)
    if diagnosis.outcome is DoctorOutcome.UNDECIDED and left_out:
        more = (
            f"{arguments.prompts} has {left_out} more prompts: "
            f"--texts={left_out + len(prompts)} reads all"
        )
        print("\n" + "\n".join(wrapped(more, indent="")))
    print(f"\n{last_line(diagnosis)}")
    return diagnosis.outcome.status


def _examined(arguments: argparse.Namespace, prompts: Sequence[Prompt]) -> Diagnosis[Any]:
    from ..cases.case import Sampling
    from ..cases.texts import texts_of_prompts
    from ..checkpoints.checkpoint import open_checkpoint
    from ..decoding.loading import load_model, resolve
    from ..decoding.sampling import encode_prompts, sample_new_tokens
    from ..doctor.checks import check_drafter
    from ..doctor.diagnosis import diagnose
    from ..doctor.patients import patient_of

    check_drafter(open_checkpoint(resolve(arguments.target)), arguments.drafter)
    report = _Steps()
    report("loading the target", 0, 1)
    target = load_model(arguments.target, arguments.device, arguments.dtype)
    report("loading the target", 1, 1)
    sampling = Sampling(arguments.temperature)
    ids = encode_prompts(target.tokenizer, prompts)
    new = sample_new_tokens(
        target,
        ids,
        new_tokens=arguments.new_tokens,
        sampling=sampling,
        seed=arguments.seed,
        keys=[prompt.key for prompt in prompts],
        progress=lambda done, total: report("sampling texts", done, total),
    )
    patient: Any = patient_of(
        target,
        arguments.drafter,
        texts_of_prompts(prompts, ids, new),
        sampling,
        arguments.k,
        lambda done, total: report("reading texts", done, total),
    )
    return diagnose(patient, patient.nothing, report)


class _Steps(CommandProgress):
    """A bar for each step on terminals, and a line elsewhere as a step begins."""

    def __init__(self) -> None:
        super().__init__()
        self._said = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._file.isatty() and what != self._said:
            self._said = what
            self.say(f"doctor: {what}" + (f" ({total})" if total > 1 else ""))
        if done >= total:
            self._said = ""
        super().__call__(what, done, total)
