"""Judging a measured record against a stored one."""

from .verdict import Verdict, judge

__all__ = ["Verdict", "judge"]
