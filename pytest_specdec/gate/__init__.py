"""Judges a measured case against its baseline."""

from .accumulation import EarlierRun, judge_accumulated
from .judge import judge
from .verdict import Verdict

__all__ = ["EarlierRun", "Verdict", "judge", "judge_accumulated"]
