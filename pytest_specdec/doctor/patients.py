"""What can be examined, by what the command is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..cases.case import Sampling
from ..cases.drafter import RegisteredSpec, parse_drafter
from ..cases.texts import Text
from ..checkpoints.checkpoint import Checkpoint, check_pair
from ..checkpoints.drafter_folders import recognised
from ..checkpoints.eagle3_checks import read_head
from ..common.errors import RequestError
from ..decoding.loading import LoadedModel
from ..decoding.replay import Progress
from .eagle3_patient import Eagle3Patient
from .mtp_patient import MtpPatient

EAGLE3 = "eagle3"
"""The type of EAGLE-3 heads in the registry of drafters."""
OWN_HEADS = "mtp"
"""The name of the target's own MTP layers."""


def check_patient(target: Checkpoint, drafter: str) -> None:
    """Raises RequestError for what cannot be examined, by files alone."""
    if drafter == OWN_HEADS:
        if not target.mtp_layers:
            raise RequestError(
                f"{target.folder} has no MTP layers; name the folder of an EAGLE-3 head"
            )
        check_pair(target, None, 1)
        return
    read_head(target, _folder(drafter))


def patient_of(
    target: LoadedModel,
    drafter: str,
    texts: Sequence[Text],
    sampling: Sampling,
    k: int,
    progress: Progress | None = None,
) -> Eagle3Patient | MtpPatient:
    """The drafter, examined on texts that the target emitted under `sampling`."""
    if drafter == OWN_HEADS:
        return MtpPatient(target, texts, sampling, k, progress)
    return Eagle3Patient(target, _folder(drafter), texts, sampling, k, progress)


def _folder(drafter: str) -> Path:
    """Raises RequestError for anything but a head's folder."""
    spec = recognised(parse_drafter(drafter))
    if isinstance(spec, RegisteredSpec) and spec.name == EAGLE3 and spec.folder is not None:
        return spec.folder
    raise RequestError(
        f"{drafter} is no EAGLE-3 head; name the folder of one, or {OWN_HEADS} for the MTP layers "
        "of the target"
    )
