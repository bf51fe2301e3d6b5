"""What the session's engine measured, each case once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..cases.case import Case
from ..engines.model_checks import oracle
from ..engines.protocol import Engine
from ..speech import Decoder, Speech
from .comparison import Run
from .costs import SessionCosts

if TYPE_CHECKING:
    from ..engines.counting.oracle import Agreement


class Measurements:
    """Asks the engine on first use and keeps its answers."""

    def __init__(
        self, plan: Mapping[Case, Sequence[Case]], engine: Engine, costs: SessionCosts
    ) -> None:
        """`plan` holds the runs that are measured for each case, one seed each."""
        self._plan, self._engine, self._costs = plan, engine, costs
        self._runs: dict[Case, Run] = {}
        self._agreements: dict[Case, Agreement] = {}
        self._spoken: dict[tuple[Case, str | None], Speech] = {}

    def run(self, case: Case) -> Run:
        """The session's run of a case."""
        if case not in self._runs:
            seeds = self._plan[case]
            self._runs[case] = Run(
                case,
                [self._engine.measure(seeded) for seeded in seeds],
                engine=self._engine.name,
                costs=self._costs.of(case),
                seed=seeds[0].texts.seed,
            )
        return self._runs[case]

    def oracle(self, case: Case, level: float) -> Agreement:
        """Whether the engine counts what its models imply; a correct engine fails with probability
        `level`.
        """
        if case not in self._agreements:
            self._agreements[case] = oracle(self._engine, case, level)
        return self._agreements[case]

    def speech(self, case: Case, decoder: Decoder) -> Speech:
        """The engine's first text for a case as sound, decoded once; reports show it."""
        key = case, case.speech  # equal cases may name different decoders
        if key not in self._spoken:
            text = self._engine.emitted(case)[0]
            self._spoken[key] = Speech.of(
                decoder, text.ids, "".join(self._engine.models.words(case, text.ids))
            )
        return self._spoken[key]

    def spoken(self, case: Case) -> Speech | None:
        """The sound that a test decoded for a case; None where none did."""
        return self._spoken.get((case, case.speech))

    def include(self, case: Case) -> bool:
        """Whether a case was measured or decoded to sound, so that reports show it."""
        return case in self._runs or self.spoken(case) is not None
