"""What the session's engine measured, each case once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..cases.case import Case
from ..engines.model_checks import oracle
from ..engines.protocol import Engine
from .comparison import Run
from .costs import SessionCosts

if TYPE_CHECKING:
    from ..cases.texts import Text
    from ..engines.counting.oracle import Agreement


class Measurements:
    """Asks the engine on first use and keeps its answers."""

    def __init__(
        self, plan: Mapping[Case, Sequence[Case]], engine: Engine, costs: SessionCosts
    ) -> None:
        """`plan` holds the runs that are measured for each case, one seed each."""
        self._plan, self._engine, self._costs = plan, engine, costs
        self._runs: dict[Case, Run] = {}
        self._asked: set[Case] = set()
        self._agreements: dict[Case, Agreement] = {}
        self._texts_read: set[Case] = set()

    def run(self, case: Case) -> Run:
        """The session's run of a case, asked for by a test."""
        run = self.beside(case)
        self._asked.add(case)
        return run

    def beside(self, case: Case) -> Run:
        """The session's run of a case, to judge others beside it; reports leave it out until a test
        asks for it.
        """
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

    def texts(self, case: Case) -> tuple[Text, ...]:
        """The texts that the engine emits for a case, at least one."""
        texts = tuple(self._engine.emitted(case))
        self._texts_read.add(case)
        return texts

    def include(self, case: Case) -> bool:
        """Whether a test asked for a case's run or texts, so that reports show it."""
        return case in self._asked or case in self._texts_read
