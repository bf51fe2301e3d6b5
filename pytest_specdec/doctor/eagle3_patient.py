"""An EAGLE-3 head and its target as what is examined."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..cases.case import Sampling
from ..cases.texts import Text
from ..checkpoints.eagle3_checks import read_head
from ..checkpoints.eagle3_config import usual_states
from ..checkpoints.eagle3_rotary import theta_of
from ..checkpoints.head_files import layers_of
from ..decoding.loading import LoadedModel
from ..decoding.replay import Progress
from .eagle3_cures import cures, norm_to_announce, spellable
from .eagle3_reading import Eagle3Choices, Eagle3Reading, differences, named_states
from .eagle3_run import Eagle3Subject
from .eagle3_spelling import Eagle3Spelling
from .engines import EngineFact, engine_readings, trouble
from .measure import ReadingScore, knowing_nothing
from .patient import EngineReading
from .target_states import TargetStates, target_states

_MOST_NUMBERS = 1 << 29
"""Numbers of states that are kept; above it only those near the written ones."""


class Eagle3Patient:
    """A head's folder, its target and texts of the target."""

    def __init__(
        self,
        target: LoadedModel,
        folder: Path,
        texts: Sequence[Text],
        sampling: Sampling,
        k: int,
        progress: Progress | None = None,
    ) -> None:
        """Run the target over the texts. Raises RequestError for a folder whose tensors are no
        head for this target, or texts that the target cannot read.
        """
        self._files, faults = read_head(target.checkpoint, folder)
        self._k, self._layers = k, layers_of(target.checkpoint)
        self._subject = Eagle3Subject(self._files, target, k)
        advice = norm_to_announce(self._files, self._subject.weights)
        self.faults = (*map(str, faults), *([advice] if faults and advice else ()))
        kept = self._kept(target, texts)
        self._seen: TargetStates = target_states(
            target, texts, sampling, layers=self._layers, numbers=kept, k=k, progress=progress
        )
        theta = theta_of(target.checkpoint.text_config)
        embeddings = target.model.get_input_embeddings().weight
        self.readings = Eagle3Choices(
            files=self._files,
            layers=self._layers,
            joined=self._files.joined,
            target_theta=float(theta) if isinstance(theta, int | float) else None,
            same_width=embeddings.shape[1] == self._files.config.width,
            rotation=self._subject.rotation is not None,
            kept=kept,
        )
        self.nothing = knowing_nothing(self._seen, embeddings.shape[0], k)

    @property
    def title(self) -> str:
        files = self._files
        return f"EAGLE-3 head {files.checkpoint.folder} ({files.config.packaging})"

    def measure(self, reading: Eagle3Reading) -> ReadingScore:
        return self._subject.measure(reading, self._seen)

    def screen(self, reading: Eagle3Reading) -> float:
        return self._subject.screen(reading, self._seen)

    def words(self, reading: Eagle3Reading) -> str:
        written = self.readings.written()
        if reading != written:
            return "; ".join(self._differences(written, reading))
        said, spelling = Eagle3Spelling.of(self._files), ""
        if said.top is None:
            spelling = f" (config.json: {said.said()})"
        return f"as written: states {named_states(reading.states, self._layers)}{spelling}"

    def _differences(self, first: Eagle3Reading, second: Eagle3Reading) -> list[str]:
        return differences(first, second, self._layers, self._files.config.head_dim)

    def cures(self, reading: Eagle3Reading) -> Sequence[str]:
        return cures(self._files, self.readings.written(), reading, self._layers)

    def engines(self, best: Eagle3Reading) -> Sequence[EngineReading[Eagle3Reading]]:
        """Blocks of `fc` that are in another order than the states are put in order by the
        correction, so facts are applied to ascending states and taken back to the folder's order.
        """
        written = self.readings.written()
        said = Eagle3Spelling.of(self._files).corrected(written, best, self._layers)
        inner = spellable(written, best, self._layers)
        slots = sorted(range(len(inner.states)), key=lambda slot: inner.states[slot])
        corrected = dataclasses.replace(inner, states=tuple(sorted(inner.states)))
        if best == written:
            slots, corrected = list(range(len(slots))), inner
        return [
            self._engine(fact, corrected, reading, slots)
            for fact, reading in engine_readings(said, corrected, self._layers)
        ]

    def _engine(
        self,
        fact: EngineFact,
        corrected: Eagle3Reading,
        reading: Eagle3Reading,
        slots: Sequence[int],
    ) -> EngineReading[Eagle3Reading]:
        """`slots` are the places in the folder of the states in the corrected order."""
        words = "; ".join(self._differences(corrected, reading))
        folders: Eagle3Reading | None = None
        if why := trouble(reading.states, len(slots), self._layers):
            words = f"cannot read it: {why}"
        elif not self.readings.kept.issuperset(reading.states):
            words += ", not measured, since there are too many states to keep"
        else:
            states = dict(zip(slots, reading.states, strict=True))
            folders = dataclasses.replace(
                reading, states=tuple(states[slot] for slot in sorted(states))
            )
        return EngineReading(who=fact.who, does=fact.does, words=words, reading=folders)

    def _kept(self, target: LoadedModel, texts: Sequence[Text]) -> frozenset[int]:
        """All states, or those near the written ones where all are too many to keep."""
        everything = frozenset(range(self._layers + 2))
        width = int(target.model.config.get_text_config().hidden_size)
        tokens = sum(len(text.ids) for text in texts)
        if len(everything) * width * tokens <= _MOST_NUMBERS:
            return everything
        named = {
            *self._files.aux_layers,
            *(self._files.config.layer_ids or ()),
            *usual_states(self._layers),
            self._layers,
        }
        near = {number + step for number in named for step in (-2, -1, 0, 1, 2)}
        return everything & frozenset(near)
