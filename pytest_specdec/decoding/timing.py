"""What a round's parts take on this machine, measured on the decoder itself in a steady state."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch

from ..cases.case import Sampling, default_rule
from ..cases.drafter import (
    DRAFT,
    LOOKUP,
    OWN_HEADS,
    DrafterSpec,
    OwnHeadsSpec,
    PromptLookupSpec,
    RegisteredSpec,
)
from ..common.errors import RequestError
from ..speedup.cost_profile import CostProfile
from .batch import Batch, BatchRow, DecodingPlan
from .clock import Lap
from .environment import environment
from .loading import LoadedModel
from .timed_turns import SEGMENT, Budget, Laps, Progress, TurnTimes, in_turn
from .verification import rule_named

_WARM_UP, _PLAIN_WARM_UP = 1, 32
"""Rounds of a text before those: in the first the drafter reads the prompt, and steps of plain
decoding alone, which are short, get a quarter faster over the first few dozen of a text.
"""


_Track = tuple[str, int, int]
"""The drafter's name in a profile, depth and k."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What times are measured at; they are compared only within one."""

    batch_size: int = 1
    context: int = 128
    """Tokens cached before the first timed round."""
    temperature: float = 1.0
    dtype: str = "float32"

    def plan(
        self, target: LoadedModel, drafter: LoadedModel | DrafterSpec | None, k: int, depth: int
    ) -> DecodingPlan:
        """Seeded decoding at this temperature that nothing ends."""
        return DecodingPlan(
            target=target,
            drafter=drafter,
            k=k,
            depth=depth,
            sampling=Sampling(self.temperature),
            rule=rule_named(default_rule(self.temperature)),
            generator=torch.Generator(target.device).manual_seed(0),
        )

    def machine(self, target: LoadedModel) -> str:
        """Machine and setting in words."""
        where = environment(target.device, self.dtype)
        return (
            f"{where.device}, {where.threads} threads, {where.dtype}, batch {self.batch_size}, "
            f"context {self.context}, "
            f"temperature {self.temperature:g}"
        )

    def software(self, target: LoadedModel) -> str:
        """Versions in words."""
        where = environment(target.device, self.dtype)
        return f"torch {where.torch}, transformers {where.transformers}"


class SteadyRounds:
    """Endless rounds of one decoder after about `context` cached tokens, drafting and verifying in
    turn.

    Texts start with what the target itself emits and never end. The first rounds of a text are not
    for timing.
    """

    def __init__(self, plan: DecodingPlan, setting: Setting, starts: list[list[int]]) -> None:
        self._plan, self._setting, self._starts = plan, setting, starts
        self._left, self._drafted = 0, False

    def describe(self, part: Literal["draft", "verify"]) -> dict[str, object]:
        """What a benchmark of `draft` or `verify` keeps in its `extra_info["specdec"]` to be read
        as a cost.
        """
        k, depth = self._plan.k, self._plan.depth
        drafter = self._plan.drafter
        name = DRAFT if isinstance(drafter, LoadedModel) else str(drafter)
        if isinstance(drafter, RegisteredSpec):
            name = drafter.name
        if part == "verify":
            name, depth = "verify" if k else "target", 0
        return {
            "part": name,
            "k": k,
            "depth": depth,
            "batch_size": self._setting.batch_size,
            "machine": self._setting.machine(self._plan.target),
            "software": self._setting.software(self._plan.target),
        }

    @property
    def device(self) -> torch.device:
        return self._plan.target.device

    def ready_to_draft(self) -> None:
        """Bring the texts, untimed, to where the next round drafts."""
        if self._drafted:
            self.verify()
        if self._left == 0:
            warm_up = _WARM_UP if self._plan.k else _PLAIN_WARM_UP
            longest = (SEGMENT + warm_up) * (self._plan.k + 1) + 1
            self._batch = Batch(
                self._plan, [BatchRow([*start], len(start) + longest) for start in self._starts]
            )
            self._left = SEGMENT
            for _ in range(warm_up):
                self._batch.draft()
                self._batch.verify()

    def ready_to_verify(self) -> None:
        """Bring the texts, untimed, to where the next round's drafts wait for the target."""
        if not self._drafted:
            self.ready_to_draft()
            self.draft()

    def draft(self) -> None:
        """Draft k tokens a row; needs `ready_to_draft`."""
        self._batch.draft()
        self._drafted = True

    def verify(self) -> None:
        """The rest of the round; needs `ready_to_verify`. With k = 0 it is a step of plain
        decoding.
        """
        self._batch.verify()
        self._left -= 1
        self._drafted = False

    def segment(self, rounds: int = SEGMENT) -> list[Lap]:
        """The next rounds of new texts, `SEGMENT` at most; they have run when this returns.

        Consecutive rounds find the models' weights in the processor's caches, as decoding does.
        """
        self._left, self._drafted = 0, False
        self.ready_to_draft()
        laps = [Lap.of(self, self.device) for _ in range(rounds)]
        _ = laps[-1].verify_ms  # waits for the device
        return laps


def steady_rounds(
    target: LoadedModel,
    drafter: LoadedModel | DrafterSpec | None,
    k: int,
    depth: int,
    setting: Setting,
    starts: list[list[int]],
) -> SteadyRounds:
    """Rounds of one drafter, or with None and k = 0 of plain decoding."""
    return SteadyRounds(setting.plan(target, drafter, k, depth), setting, starts)


def emitted_starts(
    target: LoadedModel, setting: Setting, budget: Budget | None = None
) -> list[list[int]]:
    """(batch size) texts of `context` tokens that the target emits after nothing but a first token.

    Raises RequestError where that takes more than a budget.
    """
    first = target.tokenizer.bos_token_id or 0
    rows = [BatchRow([first], setting.context) for _ in range(setting.batch_size)]
    batch = Batch(setting.plan(target, None, 0, 0), rows)
    while batch.running:
        batch.draft()
        batch.verify()
        if budget is not None:
            emitted = min(len(row.tokens) for row in rows) - 1
            left = budget.spent * (setting.context - 1 - emitted) / max(emitted, 1)
            budget.check(f"emitting a context of {setting.context} tokens", left)
    return [row.tokens for row in rows]


def measure_costs(
    target: LoadedModel,
    drafter: LoadedModel | None,
    *,
    ks: Iterable[int],
    depths: Iterable[int],
    setting: Setting = Setting(),
    repeats: int = 40,
    own_heads: bool = True,
    lookup: bool = False,
    registered: Sequence[RegisteredSpec] = (),
    max_seconds: float | None = None,
    progress: Progress = lambda what, done, total: None,
    announce: Callable[[str], None] = lambda line: None,
) -> CostProfile:
    """Median milliseconds of the target's step, of verification and of drafting, of the decoder's
    own rounds.

    Runs of a few rounds of each are timed in turn, at least `repeats` rounds and two turns in all,
    so that a slow moment of the machine meets them all. Verification is everything in a round
    after its drafts; where several drafters are timed, that of the first at the k. Drafters of
    registered types are timed at depth 0, one of each type.

    `max_seconds` bounds the measurement: fewer turns are timed where it does not hold them all, at
    least two. `progress` is called as (what, done, total), `announce` with a line on what the
    measurement takes. Raises RequestError where nothing drafts, or where not even two turns fit.
    """
    ks, depths, budget = sorted(set(ks)), sorted(set(depths)), Budget(max_seconds)
    named = list(_drafters(target, drafter, depths, own_heads, lookup))
    named += [(spec.name, 0) for spec in registered if 0 in depths]
    if not named:
        raise RequestError(
            "nothing drafts, so there is no round to time; pass a draft model, or a depth of the "
            "target's own heads"
        )
    starts = emitted_starts(target, setting, budget)
    rounds = functools.partial(steady_rounds, target, setting=setting, starts=starts)
    tracks: dict[_Track, SteadyRounds] = {("target", 0, 0): rounds(None, 0, 0)}
    drafters: dict[str, LoadedModel | DrafterSpec | None] = {spec.name: spec for spec in registered}
    drafters |= {DRAFT: drafter, OWN_HEADS: OwnHeadsSpec(), LOOKUP: PromptLookupSpec()}
    for name, depth in named:
        tracks |= {(name, depth, k): rounds(drafters[name], k, depth) for k in ks}
    laps = in_turn(tracks, repeats, budget, name=_name, progress=progress, announce=announce)
    return _profile(laps, setting, target)


def _profile(laps: Mapping[_Track, Laps], setting: Setting, target: LoadedModel) -> CostProfile:
    verify: dict[int, TurnTimes] = {}
    for (_, _, k), track_laps in laps.items():
        verify.setdefault(k, track_laps.verify)
    drafted = {track: times.draft for track, times in laps.items() if track[0] != "target"}
    rows: dict[str, dict[int, dict[int, float]]] = {DRAFT: {}, OWN_HEADS: {}, LOOKUP: {}}
    for (name, depth, k), times in drafted.items():
        rows.setdefault(name, {}).setdefault(depth, {})[k] = times.median
    timed = [*verify.values(), *(times for track, times in drafted.items() if track[0] != LOOKUP)]
    return CostProfile(
        verify={k: times.median for k, times in verify.items() if k},
        draft=rows.pop(DRAFT),
        target_ms=verify[0].median,
        own_heads=rows.pop(OWN_HEADS),
        lookup=rows.pop(LOOKUP).get(0, {}),
        drafters=rows,
        machine=setting.machine(target),
        software=setting.software(target),
        batch_size=setting.batch_size,
        spread=round(max(times.spread for times in timed), 4),
        error=round(
            _root_mean_square(
                times.error_beside(verify[0]) for times in timed if times is not verify[0]
            ),
            4,
        ),
        samples=verify[0].count,
    )


def _name(track: _Track) -> str:
    """A part in words."""
    name, depth, k = track
    if not k:
        return "the target's step"
    return f"{name} at k {k}" + f", depth {depth}" * (name != LOOKUP)


def _drafters(
    target: LoadedModel,
    drafter: LoadedModel | None,
    depths: list[int],
    own_heads: bool,
    lookup: bool,
) -> Iterator[tuple[str, int]]:
    if drafter is not None:
        yield from ((DRAFT, depth) for depth in depths)
    if own_heads:
        yield from (
            (OWN_HEADS, depth) for depth in depths if 0 < depth <= target.checkpoint.mtp_layers
        )
    if lookup:
        yield LOOKUP, 0


def _root_mean_square(values: Iterable[float]) -> float:
    return math.sqrt(statistics.mean(value**2 for value in values))
