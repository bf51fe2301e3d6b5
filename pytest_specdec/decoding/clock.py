"""Times on the device that works: CUDA events on a GPU, which let the CPU run ahead, else the wall
clock.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

import torch

Mark = float | torch.cuda.Event


def mark(device: torch.device) -> Mark:
    """A point in time, after all work queued on the device so far."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def elapsed_ms(begin: Mark, end: Mark) -> float:
    """Milliseconds between two marks of one device; waits until the device has passed both."""
    if isinstance(begin, float):
        assert isinstance(end, float)
        return (end - begin) * 1e3
    assert isinstance(end, torch.cuda.Event)
    end.synchronize()
    return float(begin.elapsed_time(end))


class Rounds(Protocol):
    """What drafts and verifies in turn."""

    def draft(self) -> None: ...

    def verify(self) -> None: ...


class Lap(NamedTuple):
    """The marks around one round's parts; its times wait for the device, so ask for them when all
    is queued.
    """

    begun: Mark
    drafted: Mark
    verified: Mark

    @classmethod
    def of(cls, rounds: Rounds, device: torch.device) -> Lap:
        """Run the next round."""
        begun = mark(device)
        rounds.draft()
        drafted = mark(device)
        rounds.verify()
        return cls(begun, drafted, mark(device))

    @property
    def draft_ms(self) -> float:
        return elapsed_ms(self.begun, self.drafted)

    @property
    def verify_ms(self) -> float:
        return elapsed_ms(self.drafted, self.verified)
