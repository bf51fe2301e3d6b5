"""One of several processes that divide a session's work."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Shard:
    """Shard `number` of `shards`: `2/4` on the command line."""

    number: int
    """From 1 on."""
    shards: int

    def __str__(self) -> str:
        return f"{self.number}/{self.shards}"

    def units(self, total: int) -> range:
        """Its share of so many units of work."""
        return range(self.number - 1, total, self.shards)
