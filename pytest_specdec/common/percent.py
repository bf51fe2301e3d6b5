"""Relative changes as every message and report writes them."""

from __future__ import annotations


def signed_percent(change: float) -> str:
    """`-2.08 %` for -0.0208; never `-0.00 %`."""
    return f"{round(change * 100, 2) + 0.0:+.2f} %"


def percent(share: float) -> str:
    """`2.08 %` for 0.0208."""
    return f"{share * 100:.2f} %"
