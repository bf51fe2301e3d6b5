"""The options that decide verdicts and what is written."""

from __future__ import annotations

import dataclasses

from ..baselines.writing import dumps
from ..records.record import Record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """What a session's gate may promise and store."""

    alpha: float
    """False-alarm rate of the session."""
    inconclusive: str
    """`fail` or `warn`."""
    update: str | None
    """`new`, `changed` or `all`; None to store nothing."""
    subset: bool
    """Whether fewer prompts than the baseline's were requested."""
    accumulate: bool = False
    keeps_texts: bool = True
    """Whether texts and acceptance by token are stored and prompts quoted, or hashes alone."""
    shows_tokens: bool = False
    """Whether rows hold texts token by token, for a .html report."""
    costs_margin: float = 0.1
    """Relative fall of the speed-up from which new costs fail it."""

    @property
    def creates(self) -> bool:
        """Whether missing baselines are created."""
        return self.update in ("new", "all")

    @property
    def rewrites(self) -> bool:
        """Whether stored baselines are replaced."""
        return self.update in ("changed", "all")

    def renews(self, before: Record, now: Record) -> bool:
        """Whether a stored record is to be replaced; `changed` keeps one that differs only in its
        environment and last digits.
        """
        if not self.rewrites or self.subset:
            return False
        return dumps(before) != dumps(now) and (self.update == "all" or not before.repeated_by(now))
