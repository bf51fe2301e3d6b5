"""One way to read the folder of an EAGLE-3 head, and the others that its tensors allow."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

from ..checkpoints.eagle3_checks import Eagle3Files
from ..checkpoints.eagle3_config import usual_states
from ..checkpoints.eagle3_rotary import EAGLE_THETA
from .eagle3_tokens import VocabularyMap, maps_of

InputNorm = Literal["none", "joined", "each"]
_THETAS = (10000.0, 500000.0, 1000000.0)
"""Rotary bases of published heads and of their targets."""
_FEW = 40
"""Readings that are tried in any case."""
_MOST_SETS = 120
"""Sets of states that are all tried where the ids are wrong."""
_PARTS = {
    "offsets": "d2t holds offsets",
    "absolute": "d2t holds the target's ids",
    "first": "no d2t: draft ids are the target's",
    "ascending": "d2t's tokens in ascending order",
    "t2d": "the tokens of t2d in ascending order",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eagle3Reading:
    """How a head is run. Two readings that are equal give the same drafts."""

    states: tuple[int, ...]
    """The target's states by number, in the order of `fc`'s columns; N + 1 is the last one after
    the target's last norm.
    """
    norm_before_residual: bool
    input_norm: InputNorm
    """Norms before `fc`: none, `input_norm` over all states together, or an `fc_norm` each."""
    norm_output: bool
    """A draft step hands on the state after the last norm."""
    logits_norm: bool = True
    """`lm_head` reads the state after the last norm."""
    theta: float
    rotated: int
    interleaved: bool
    qk_norms: bool
    """Norms of queries and keys are applied where the folder has them."""
    tokens: VocabularyMap
    """Which token of the target each draft token is."""
    own_embeddings: bool
    state_first: bool = False
    """Attention reads [state; embedding] and not [embedding; state]."""
    later_positions: int = 0
    """Added to the positions of draft steps after the first."""
    turned_back: bool = False
    """The target's states are turned by the rotation between its embeddings and the head's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eagle3Choices:
    """The readings that a folder allows."""

    files: Eagle3Files
    layers: int
    """The target's decoder layers, N."""
    joined: int
    """Number of states that `fc` joins."""
    target_theta: float | None
    same_width: bool
    """Whether the target's embeddings are as wide as the head."""
    rotation: bool
    """Whether the head's embeddings are the target's, turned."""
    kept: frozenset[int]
    """The states that are at hand."""

    def written(self) -> Eagle3Reading:
        """As loaders read the folder. Where config.json announces a norm whose tensor is missing,
        its weights are 1; where it names no states that the target has, the usual ones are read.
        """
        config, tensors = self.files.config, self.files.checkpoint.tensors
        return Eagle3Reading(
            states=self.files.aux_layers or self._usual() or self._spread(),
            norm_before_residual=config.norm_before_residual,
            input_norm=(
                "joined" if config.norm_before_fc else "each" if config.fc_norm else "none"
            ),
            norm_output=config.norm_output,
            theta=config.theta or EAGLE_THETA,
            rotated=config.rotated,
            interleaved=config.interleaved,
            qk_norms=any(name.endswith(".q_norm.weight") for name in tensors),
            tokens="offsets" if "d2t" in tensors else "first",
            own_embeddings=self.files.own_embeddings,
        )

    def neighbours(self, reading: Eagle3Reading) -> list[Eagle3Reading]:
        """The readings that differ from this one in one respect."""
        found = dict.fromkeys([*self._other_states(reading), *self._other_fields(reading)])
        return [other for other in found if other != reading]

    def further(self, reading: Eagle3Reading, *, lost: bool) -> list[Eagle3Reading]:
        """Those that read one of the states from elsewhere, wherever that is: where config.json
        does not say from where, where no other reading helps, or where there are few.
        """
        few = self.joined * len(self.kept) <= _FEW
        if not (lost or few or not self.files.aux_layers or self.files.config.layer_ids is None):
            return []
        found = []
        for slot, number in itertools.product(range(self.joined), sorted(self.kept)):
            states = (*reading.states[:slot], number, *reading.states[slot + 1 :])
            if number != reading.states[slot] and self._legal(states):
                found.append(dataclasses.replace(reading, states=states))
        return found

    def taken_back(self, reading: Eagle3Reading) -> list[Eagle3Reading]:
        """The reading with one of its differences from the written one taken back, each in turn."""
        written = self.written()
        return [
            dataclasses.replace(reading, **{name: getattr(written, name)})
            for name in _differing(written, reading)
        ]

    def revised(self, reading: Eagle3Reading) -> list[Eagle3Reading]:
        """Those with another value where it differs from the written one, and nowhere else. Of the
        states all sets are tried in the order of `fc`'s blocks, or, where these are too many, what
        `neighbours` and `further` try and two states at most two layers away.
        """
        changed = set(_differing(self.written(), reading))
        found = [
            other
            for other in self.neighbours(reading)
            if changed.issuperset(_differing(reading, other))
        ]
        if "states" in changed:
            found += self._other_sets(reading)
        return [other for other in dict.fromkeys(found) if other != reading]

    def _other_sets(self, reading: Eagle3Reading) -> Iterator[Eagle3Reading]:
        numbers, states = sorted(self.kept), reading.states
        if math.comb(len(numbers), self.joined) <= _MOST_SETS:
            ranks = [sorted(states).index(number) for number in states]
            sets = [
                tuple(chosen[rank] for rank in ranks)
                for chosen in itertools.combinations(numbers, self.joined)
            ]
        else:
            yield from self.further(reading, lost=False)
            sets = [
                tuple(
                    number + {first: step, second: other}.get(slot, 0)
                    for slot, number in enumerate(states)
                )
                for first, second in itertools.combinations(range(self.joined), 2)
                for step, other in itertools.product((-2, -1, 1, 2), repeat=2)
            ]
        for chosen in sets:
            if self._legal(chosen):
                yield dataclasses.replace(reading, states=chosen)

    def _other_states(self, reading: Eagle3Reading) -> Iterator[Eagle3Reading]:
        states, last = reading.states, self.layers
        raw = self.files.config.layer_ids or ()
        candidates: list[Sequence[int]] = [
            [number + 1 for number in states],
            [number - 1 for number in states],
            raw,
            [number + 1 for number in raw],
            self._usual(),
            [last + 1 if number == last else number for number in states],
            [last if number == last + 1 else number for number in states],
            *(
                [*states[:slot], number + step, *states[slot + 1 :]]
                for slot, number in enumerate(states)
                for step in (-1, 1)
            ),
        ]
        if self.joined <= 4:
            candidates += itertools.permutations(states)
        for candidate in candidates:
            if self._legal(tuple(candidate)):
                yield dataclasses.replace(reading, states=tuple(candidate))

    def _other_fields(self, reading: Eagle3Reading) -> Iterator[Eagle3Reading]:
        tensors, config = self.files.checkpoint.tensors, self.files.config
        norms: list[InputNorm] = ["none"]
        if config.norm_before_fc or "input_norm.weight" in tensors:
            norms.append("joined")
        if config.fc_norm or "fc_norm.0.weight" in tensors:
            norms.append("each")
        thetas = dict.fromkeys((config.theta, self.target_theta, *_THETAS))
        rotated = {config.head_dim, config.rotated, config.head_dim // 2}
        changes: dict[str, Sequence[object]] = {
            "norm_before_residual": (False, True),
            "input_norm": norms,
            "norm_output": (False, True),
            "logits_norm": (False, True),
            "theta": [theta for theta in thetas if theta],
            "rotated": sorted(number for number in rotated if number % 2 == 0),
            "interleaved": (False, True),
            "qk_norms": (False, True) if self.written().qk_norms else (),
            "tokens": maps_of(self.files),
            "own_embeddings": (
                (False, True) if self.files.own_embeddings and self.same_width else ()
            ),
            "state_first": (False, True),
            "later_positions": (-1, 0, 1),
            "turned_back": (False, True) if self.rotation else (),
        }
        for name, values in changes.items():
            for value in values:
                yield dataclasses.replace(reading, **{name: value})  # type: ignore[arg-type]

    def _usual(self) -> tuple[int, ...]:
        usual = usual_states(self.layers)
        return usual if len(usual) == self.joined and self._legal(usual) else ()

    def _spread(self) -> tuple[int, ...]:
        """As many states as `fc` joins, evenly over the layers."""
        last = self.joined - 1
        return tuple(
            round(self.layers * slot / last) if last else self.layers for slot in range(last + 1)
        )

    def _legal(self, states: tuple[int, ...]) -> bool:
        return (
            len(states) == self.joined
            and len(set(states)) == len(states)
            and self.kept.issuperset(states)
            and states.count(self.layers) + states.count(self.layers + 1) < 2
        )


def _differing(one: Eagle3Reading, other: Eagle3Reading) -> list[str]:
    names = [field.name for field in dataclasses.fields(one)]
    return [name for name in names if getattr(one, name) != getattr(other, name)]


def differences(
    written: Eagle3Reading, reading: Eagle3Reading, layers: int, head_dim: int
) -> list[str]:
    """What is another in a reading, in words of a few syllables."""
    words = []
    if reading.states != written.states:
        words.append(f"states {named_states(reading.states, layers)}")
    texts = {
        "norm_before_residual": _said("norm_before_residual", reading.norm_before_residual),
        "input_norm": {
            "none": "no norm before fc",
            "joined": "norm_before_fc: true",
            "each": "fc_norm: true",
        }[reading.input_norm],
        "norm_output": _said("norm_output", reading.norm_output),
        "logits_norm": "lm_head without the last norm",
        "theta": f"rope_theta: {plain(reading.theta)}",
        "rotated": f"partial_rotary_factor: {reading.rotated / head_dim:g}",
        "interleaved": (
            "rotary pairs of neighbours" if reading.interleaved else "rotary pairs of halves"
        ),
        "qk_norms": "no norms of queries and keys",
        "tokens": _PARTS[reading.tokens],
        "own_embeddings": "the target's embeddings",
        "state_first": "[state; embedding]",
        "later_positions": {
            -1: "step 2 at the position of step 1",
            0: "positions from step to step",
            1: "step 2 two positions after step 1",
        }[reading.later_positions],
        "turned_back": "the target's states turned back",
    }
    for name, text in texts.items():
        if getattr(reading, name) != getattr(written, name):
            words.append(text)
    return words


def _said(name: str, value: bool) -> str:
    return f"{name}: {str(value).lower()}"


def named_states(states: Sequence[int], layers: int) -> str:
    """States by number; the last one after the target's last norm as such."""
    return ", ".join(
        f"{layers} after the last norm" if number == layers + 1 else str(number)
        for number in states
    )


def plain(number: float) -> str:
    """A number as config.json may hold it: 1000000, not 1e+06."""
    return f"{number:.15g}"
