"""One way to run a target's own MTP layers, and the others that are in use."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class MtpReading:
    """How MTP layers are run. Two readings that are equal give the same drafts."""

    hidden_first: bool
    """`eh_proj` reads [hidden state; embedding] and not [embedding; hidden state]."""
    norms_swapped: bool = False
    """`enorm` is of the hidden state and `hnorm` of the embedding."""
    first_normed: bool = True
    """The first layer reads the target's last hidden state after its last norm."""
    carry_normed: bool
    """A layer hands on its state after the norm that its logits are read from."""
    first_layer_again: bool = False
    """Every step uses the first layer: another use, which may pay, and no misreading."""
    prompt_seen: bool = True
    """Attention reaches back into the prompt."""
    later_positions: int = 0
    """Added to the positions of draft steps after the first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MtpChoices:
    """The readings that a target's MTP layers allow."""

    hidden_first: bool
    """As config.json says, `mtp_hidden_states_first`."""
    carry_normed: bool
    """As transformers runs this class of models."""
    has_norm: bool
    """Whether the layers end in a norm."""
    k: int

    def written(self) -> MtpReading:
        """As transformers runs them."""
        return MtpReading(hidden_first=self.hidden_first, carry_normed=self.carry_normed)

    def neighbours(self, reading: MtpReading) -> list[MtpReading]:
        """The readings that differ from this one in one respect."""
        changes: dict[str, Sequence[object]] = {
            "hidden_first": (False, True),
            "norms_swapped": (False, True),
            "first_normed": (False, True),
            "carry_normed": (False, True) if self.has_norm and self.k > 1 else (),
            "prompt_seen": (False, True),
            "later_positions": (-1, 0, 1) if self.k > 1 else (),
        }
        found = [
            dataclasses.replace(reading, **{name: value})  # type: ignore[arg-type]
            for name, values in changes.items()
            for value in values
        ]
        return [other for other in dict.fromkeys(found) if other != reading]

    def further(self, reading: MtpReading, *, lost: bool) -> list[MtpReading]:
        return []

    def taken_back(self, reading: MtpReading) -> list[MtpReading]:
        """The reading with one of its differences from the written one taken back, each in turn."""
        written = self.written()
        return [
            dataclasses.replace(reading, **{field.name: getattr(written, field.name)})
            for field in dataclasses.fields(written)
            if getattr(reading, field.name) != getattr(written, field.name)
        ]

    def revised(self, reading: MtpReading) -> list[MtpReading]:
        """Positions of later steps alone have more than two values."""
        if reading.later_positions == 0:
            return []
        return [
            dataclasses.replace(reading, later_positions=number)
            for number in (-1, 0, 1)
            if number != reading.later_positions
        ]


_WORDS: dict[str, dict[bool | int, str]] = {
    "hidden_first": {True: "[hidden; embedding]", False: "[embedding; hidden]"},
    "norms_swapped": {True: "enorm and hnorm swapped", False: "enorm and hnorm as named"},
    "first_normed": {
        True: "the target's state after its last norm",
        False: "the target's state before its last norm",
    },
    "carry_normed": {
        True: "handed on after the layer's norm",
        False: "handed on before the layer's norm",
    },
    "first_layer_again": {True: "the first layer at every step", False: "a layer for each step"},
    "prompt_seen": {True: "the prompt seen", False: "the prompt not seen"},
    "later_positions": {
        -1: "step 2 at the position of step 1",
        0: "positions from step to step",
        1: "step 2 two positions after step 1",
    },
}
_CURES: dict[str, dict[bool | int, str]] = {
    "hidden_first": {
        True: "config.json: mtp_hidden_states_first -> true, or swap the halves of the columns of "
        "eh_proj.weight, which are for [hidden; embedding]",
        False: "config.json: mtp_hidden_states_first -> false, or swap the halves of the columns "
        "of eh_proj.weight, which are for [embedding; hidden]",
    },
    "norms_swapped": {True: "tensors: swap enorm.weight and hnorm.weight of each MTP layer"},
    "first_normed": {
        False: "the first MTP layer was trained on the target's last hidden state before the last "
        "norm: hand that one on; no field of config.json says it"
    },
    "carry_normed": {
        False: "the layers were trained to hand on the state before their last norm: hand that "
        "one on; no field of config.json says it",
        True: "the layers were trained to hand on the state after their last norm: hand that one "
        "on; no field of config.json says it",
    },
    "prompt_seen": {
        False: "the layers were trained without the prompt's keys; no field of config.json says it"
    },
    "later_positions": {
        -1: "the second step was trained at the position of the first; no field says it",
        1: "the second step was trained two positions after the first; no field says it",
    },
}


def mtp_differences(written: MtpReading, reading: MtpReading) -> list[str]:
    """What is another in a reading, in a few words each."""
    return [
        words[getattr(reading, name)]
        for name, words in _WORDS.items()
        if getattr(reading, name) != getattr(written, name)
    ]


def mtp_cures(written: MtpReading, reading: MtpReading) -> list[str]:
    """What to correct so that the layers are run as in another reading."""
    return [
        cures[getattr(reading, name)]
        for name, cures in _CURES.items()
        if getattr(reading, name) != getattr(written, name)
    ]


def mtp_spellable(written: MtpReading, best: MtpReading) -> MtpReading:
    """The best reading as far as config.json or tensors can say it; the rest stays as written."""
    return dataclasses.replace(
        written, hidden_first=best.hidden_first, norms_swapped=best.norms_swapped
    )
