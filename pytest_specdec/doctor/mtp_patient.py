"""A target's own MTP layers as what is examined."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..cases.case import Sampling
from ..cases.texts import Text
from ..checkpoints.head_files import layers_of
from ..decoding.loading import LoadedModel
from ..decoding.replay import Progress
from .engines import mtp_engine_readings
from .measure import ReadingScore, first_drafts, knowing_nothing, measured
from .mtp_reading import MtpChoices, MtpReading, mtp_cures, mtp_differences, mtp_spellable
from .mtp_run import check_parts, mtp_steps
from .patient import EngineReading
from .target_states import target_states


class MtpPatient:
    """The MTP layers of a target and texts of the target."""

    faults: Sequence[str] = ()

    def __init__(
        self,
        target: LoadedModel,
        texts: Sequence[Text],
        sampling: Sampling,
        k: int,
        progress: Progress | None = None,
    ) -> None:
        """Run the target over the texts. Raises RequestError for a target without MTP layers that
        can be examined, or texts that it cannot read.
        """
        self._target, self._k = target, k
        self._heads, self._layers = target.heads, layers_of(target.checkpoint)
        check_parts(self._heads, target.checkpoint.folder)
        self._seen = target_states(
            target,
            texts,
            sampling,
            layers=self._layers,
            numbers=(self._layers, self._layers + 1),
            k=k,
            progress=progress,
        )
        has_norm = bool(self._heads.use_post_norm or self._heads.use_shared_post_norm)
        self.readings = MtpChoices(
            hidden_first=bool(getattr(self._heads.config, "mtp_hidden_states_first", False)),
            carry_normed=has_norm,
            has_norm=has_norm,
            k=k,
        )
        vocabulary = target.model.get_input_embeddings().num_embeddings
        self.nothing = knowing_nothing(self._seen, vocabulary, k)

    @property
    def title(self) -> str:
        count = len(self._heads.layers)
        return f"{count} MTP layer{'s' * (count > 1)} of {self._target.checkpoint.folder}"

    def measure(self, reading: MtpReading) -> ReadingScore:
        return measured(
            lambda batch: mtp_steps(self._heads, reading, batch, self._layers, self._k),
            self._seen,
            self._k,
        )

    def screen(self, reading: MtpReading) -> float:
        return first_drafts(
            lambda batch: mtp_steps(self._heads, reading, batch, self._layers, 1), self._seen
        )

    def words(self, reading: MtpReading) -> str:
        written = self.readings.written()
        if reading == written:
            return "as written"
        return "; ".join(mtp_differences(written, reading))

    def cures(self, reading: MtpReading) -> Sequence[str]:
        return mtp_cures(self.readings.written(), reading)

    def engines(self, best: MtpReading) -> Sequence[EngineReading[MtpReading]]:
        model_type = str(self._target.checkpoint.text_config.get("model_type"))
        ours = mtp_spellable(self.readings.written(), best)
        found = [
            EngineReading(
                who=fact.who,
                does=fact.does,
                words="; ".join(mtp_differences(ours, reading)),
                reading=reading,
            )
            for fact, reading in mtp_engine_readings(model_type, ours)
        ]
        if len(self._heads.layers) > 1 and self._k > 1:
            again = dataclasses.replace(ours, first_layer_again=True)
            found.append(
                EngineReading(
                    who="An engine at depth 1",
                    does="uses the first layer alone",
                    words="; ".join(mtp_differences(ours, again)),
                    reading=again,
                )
            )
        return found
