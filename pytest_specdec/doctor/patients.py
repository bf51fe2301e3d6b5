"""What can be examined, by what the command is given."""

from __future__ import annotations

from collections.abc import Sequence

from ..cases.case import Sampling
from ..cases.drafter import DFLASH, DOMINO, DSPARK, EAGLE3, OWN_HEADS
from ..cases.texts import Text
from ..decoding.loading import LoadedModel
from ..decoding.replay import Progress
from .block_patient import BlockPatient
from .checks import head_of
from .eagle3_patient import Eagle3Patient
from .mtp_patient import MtpPatient
from .residual_patient import ResidualPatient


def patient_of(
    target: LoadedModel,
    drafter: str,
    texts: Sequence[Text],
    sampling: Sampling,
    k: int,
    progress: Progress | None = None,
) -> BlockPatient | Eagle3Patient | MtpPatient | ResidualPatient:
    """The drafter, examined on texts that the target emitted under `sampling`."""
    if drafter == OWN_HEADS:
        return MtpPatient(target, texts, sampling, k, progress)
    kind, folder = head_of(drafter)
    if kind in (DFLASH, DSPARK, DOMINO):
        return BlockPatient(target, kind, folder, texts, sampling, k, progress)
    if kind != EAGLE3:
        return ResidualPatient(target, kind, folder, texts, sampling, k, progress)
    return Eagle3Patient(target, folder, texts, sampling, k, progress)
