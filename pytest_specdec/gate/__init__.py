"""Judges a measured case against its baseline."""

from .accumulation import EarlierRun, judge_accumulated
from .verdict import Verdict, judge

__all__ = ["EarlierRun", "Verdict", "judge", "judge_accumulated"]
