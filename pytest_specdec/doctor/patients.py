"""What can be examined, by what the command is given."""

from __future__ import annotations

from collections.abc import Sequence

from ..cases.case import Sampling
from ..cases.drafter import OWN_HEADS
from ..cases.texts import Text
from ..decoding.loading import LoadedModel
from ..decoding.replay import Progress
from .checks import head_folder
from .eagle3_patient import Eagle3Patient
from .mtp_patient import MtpPatient


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
    return Eagle3Patient(target, head_folder(drafter), texts, sampling, k, progress)
