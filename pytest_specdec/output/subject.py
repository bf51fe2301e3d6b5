"""What the checks of an engine's output look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..cases.case import SERVED, Case
from ..cases.prompts import Prompt
from ..common.errors import RequestError
from ..engines.adapter_api import Progress, no_progress
from ..engines.protocol import Engine

if TYPE_CHECKING:
    from .served_soak import SoakLimits
    from .text_server import TextServer

CONCURRENCY = (1, 4, 16)
"""Texts decoded at once by default."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputSubject:
    """An engine's output, by as many ways as there are to get it."""

    name: str
    """What is checked, for the page."""
    prompts: tuple[Prompt, ...]
    new_tokens: int
    engine: Engine | None = None
    """Decodes and counts the cases; None where only texts can be had."""
    cases: tuple[Case, ...] = ()
    server: TextServer | None = None
    """Where users get its texts; None for an engine in this process."""
    reference: TextServer | None = None
    """A server of the same model without a drafter."""
    concurrency: tuple[int, ...] = CONCURRENCY
    alpha: float = 0.01
    """The probability with which the texts of a right engine fail."""
    soak: SoakLimits | None = None
    """How long a server is asked the same again; None for no soak."""
    report: Progress = no_progress
    own_options: Mapping[str, str] | None = None
    """What the command that asks has for options of pytest; None where pytest asks."""

    @property
    def weights_here(self) -> bool:
        """Whether the target's weights can judge the texts that the engine emits."""
        return bool(self.cases) and self.cases[0].target != SERVED

    def needs_server(self) -> TextServer:
        """The server. Raises RequestError without one."""
        if self.server is None:
            raise RequestError("only a server streams texts and calls tools")
        return self.server

    def needs_cases(self) -> tuple[Engine, Sequence[Case]]:
        """The engine and its cases. Raises RequestError without them."""
        if self.engine is None or not self.cases:
            raise RequestError(
                "the engine's own counts are needed; name its draft tokens per round by --k, and "
                "use an engine that counts them"
            )
        return self.engine, self.cases
