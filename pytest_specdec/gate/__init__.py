"""Judging a measured record against a stored one."""

from .accumulation import judge_night
from .verdict import Verdict, judge

__all__ = ["Verdict", "judge", "judge_night"]
