"""Medusa or Hydra heads and their target as what is examined."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ..cases.case import Sampling
from ..cases.drafter import HYDRA
from ..cases.texts import Text
from ..checkpoints.drafter_folders import check_drafts
from ..checkpoints.head_files import layers_of
from ..checkpoints.hydra_checks import read_hydra
from ..checkpoints.medusa_checks import read_medusa
from ..decoding.drafters.protocol import TextBatch
from ..decoding.drafters.residual_heads import ResidualHeads
from ..decoding.loading import LoadedModel
from ..decoding.replay import Progress
from .measure import ReadingScore, first_drafts, knowing_nothing, measured
from .patient import EngineReading
from .target_states import target_states


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualReading:
    """How heads are run. Two readings that are equal give the same drafts."""

    state: int
    """The target's state that they read, numbered as `layer_states`; N + 1 after the last norm."""
    first: int = 0
    """The number of the head that drafts the first token."""
    biased: bool = True
    """Whether the biases of residual layers are added."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualChoices:
    """The readings that a folder's heads allow."""

    state: int
    """As config.json says."""
    layers: int
    """The target's decoder layers, N."""
    shiftable: bool
    """Whether the first head may have been trained for the token that the target emits itself."""
    biases: bool
    """Whether residual layers have biases."""

    @property
    def states(self) -> tuple[int, ...]:
        """The states near the last one, and near the written one."""
        near = {self.layers - 1, self.layers, self.layers + 1, self.state - 1, self.state + 1}
        return tuple(sorted(number for number in near if 0 <= number <= self.layers + 1))

    def written(self) -> ResidualReading:
        """As loaders read the folder."""
        return ResidualReading(state=self.state)

    def neighbours(self, reading: ResidualReading) -> list[ResidualReading]:
        """The readings that differ from this one in one respect."""
        changes: dict[str, Sequence[int | bool]] = {
            "state": self.states,
            "first": (0, 1) if self.shiftable else (),
            "biased": (False, True) if self.biases else (),
        }
        found = [
            dataclasses.replace(reading, **{name: value})  # type: ignore[arg-type]
            for name, values in changes.items()
            for value in values
        ]
        return [other for other in dict.fromkeys(found) if other != reading]

    def further(self, reading: ResidualReading, *, lost: bool) -> list[ResidualReading]:
        return []

    def taken_back(self, reading: ResidualReading) -> list[ResidualReading]:
        """The reading with one of its differences from the written one taken back, each in turn."""
        written = self.written()
        return [
            dataclasses.replace(reading, **{field.name: getattr(written, field.name)})
            for field in dataclasses.fields(written)
            if getattr(reading, field.name) != getattr(written, field.name)
        ]

    def revised(self, reading: ResidualReading) -> list[ResidualReading]:
        """States alone have more than two values."""
        return [
            dataclasses.replace(reading, state=state)
            for state in self.states
            if state != reading.state
        ]


class ResidualPatient:
    """A folder of heads, its target and texts of the target."""

    faults: Sequence[str] = ()

    def __init__(
        self,
        target: LoadedModel,
        kind: str,
        folder: Path,
        texts: Sequence[Text],
        sampling: Sampling,
        k: int,
        progress: Progress | None = None,
    ) -> None:
        """Run the target over the texts. Raises RequestError for a folder that loaders refuse, for
        more drafts than heads, or texts that the target cannot read.
        """
        read = read_hydra if kind == HYDRA else read_medusa
        self._files = read(target.checkpoint, folder)
        check_drafts(folder, k, self._files.heads)
        self._k, self._layers = k, layers_of(target.checkpoint)
        self._heads = ResidualHeads(self._files, target)
        offset = self._files.state_from_end
        self.readings = ResidualChoices(
            state=self._layers - offset if offset else self._layers + 1,
            layers=self._layers,
            shiftable=self._files.heads > k and not self._files.reads_tokens,
            biases="0.0.bias" in self._files.names,
        )
        self._seen = target_states(
            target,
            texts,
            sampling,
            layers=self._layers,
            numbers={*self.readings.states, self.readings.state},
            k=k,
            progress=progress,
        )
        vocabulary = target.model.get_input_embeddings().num_embeddings
        self.nothing = knowing_nothing(self._seen, vocabulary, k)

    @property
    def title(self) -> str:
        files = self._files
        return f"{files.heads} heads of {files.checkpoint.folder} ({files.packaging})"

    def measure(self, reading: ResidualReading) -> ReadingScore:
        return measured(lambda batch: self._steps(reading, batch, self._k), self._seen, self._k)

    def screen(self, reading: ResidualReading) -> float:
        return first_drafts(lambda batch: self._steps(reading, batch, 1), self._seen)

    def _steps(
        self, reading: ResidualReading, batch: TextBatch, k: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Of each draft step the first position that it scores and its logits from there on."""
        ids, length = batch.ids, batch.ids.shape[1]
        states = batch.layer_states[reading.state].to(ids.device)
        with self._heads.without_biases(not reading.biased):
            for step in range(k):
                first = max(batch.begin, step + 2)
                if first >= length:
                    return
                begin, end = first - step - 2, length - step - 2
                following = [ids[:, begin + after : end + after] for after in range(1, step + 2)]
                logits = self._heads.logits(step + reading.first, states[:, begin:end], following)
                yield first, logits

    def words(self, reading: ResidualReading) -> str:
        written = self.readings.written()
        return "; ".join(self._differences(written, reading)) or "as written"

    def _differences(self, written: ResidualReading, reading: ResidualReading) -> list[str]:
        words = []
        if reading.state != written.state:
            words.append(f"the target's state {self._named(reading.state)}")
        if reading.first != written.first:
            words.append(f"head {reading.first} drafts the first token")
        if reading.biased != written.biased:
            words.append("biases left out")
        return words

    def _named(self, state: int) -> str:
        if state > self._layers:
            return f"{self._layers} after the last norm"
        return f"{state}{' before the last norm' if state == self._layers else ''}"

    def cures(self, reading: ResidualReading) -> Sequence[str]:
        written, found = self.readings.written(), []
        if reading.state != written.state:
            offset = self._layers - reading.state if reading.state <= self._layers else 0
            sayable = self._files.packaging.endswith("Hydra") and reading.state != self._layers
            found.append(
                f"config.json: hidden_state_offset -> {offset}"
                if sayable
                else f"the heads were trained on the target's state {self._named(reading.state)}: "
                "hand that one on; no field of config.json says it"
            )
        if reading.first != written.first:
            found.append(
                "tensors: leave out head 0, which was trained for the token that the target emits "
                "itself, and number the others from 0 on"
            )
        if reading.biased != written.biased:
            found.append("tensors: leave the biases of residual layers out, or save trained ones")
        return found

    def engines(self, best: ResidualReading) -> Sequence[EngineReading[ResidualReading]]:
        """No engine is known that reads such a folder in another way and drafts with it."""
        return []
