"""Verification rules by name: those of ours, and those that other packages add."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..common.errors import RequestError
from ..common.extensions import RULES as GROUP
from ..common.extensions import extension, registered

RULES = ("rejection", "greedy", "sample-match", "block", "typical")
LOSSY_RULES = ("typical",)
"""Rules of ours whose output does not follow the target."""


def default_rule(temperature: float) -> str:
    """Greedy decoding is verified greedily, sampling by rejection."""
    return "rejection" if temperature > 0 else "greedy"


def known_rule(rule: str) -> str:
    """The rule itself. Raises RequestError for an unknown name."""
    if rule not in RULES and rule not in registered(GROUP):
        raise RequestError(
            f"verification rule {rule!r} is unknown; choose among "
            f"{', '.join([*RULES, *registered(GROUP)])}"
        )
    return rule


def checked_rule(rule: str | None, temperature: float) -> str:
    """The rule, or the temperature's own. Raises RequestError for an unknown one, and for greedy
    when sampling.
    """
    if rule is None:
        return default_rule(temperature)
    if known_rule(rule) == "greedy" and temperature > 0:
        raise RequestError(
            f"rule 'greedy' does not go with temperature {temperature:g}; greedy is temperature 0"
        )
    return rule


def is_lossy(rule: str) -> bool:
    """Whether the rule's output does not follow the target: such a rule is always labelled."""
    if rule in RULES:
        return rule in LOSSY_RULES
    added = rule_extension(rule)
    return added is None or not added.lossless


def rule_extension(rule: str) -> Any:
    """The `decoding.verification.Rule` of a rule that another package adds; None for others.

    Raises RequestError for an entry point that is not such a rule.
    """
    if rule in RULES or rule not in registered(GROUP):
        return None
    added = extension(GROUP, rule)
    if getattr(added, "name", None) != rule or not isinstance(
        getattr(added, "lossless", None), bool
    ):
        raise RequestError(
            f"the entry point {rule!r} of {GROUP} is not a Rule named {rule!r}; register a "
            "pytest_specdec.decoding.verification.Rule"
        )
    return added


def is_replayable(rule: str) -> bool:
    """Whether replay can measure the rule: a lossless one that accepts given tokens with a known
    probability.
    """
    return not is_lossy(rule) and (rule in RULES or token_acceptance(rule) is not None)


def token_acceptance(rule: str) -> Callable[..., Any] | None:
    """How a lossless rule of another package accepts tokens of given texts, `Rule.accepted`; None
    where it does not say, and for rules of ours.
    """
    added = rule_extension(rule)
    return None if added is None or not added.lossless else added.accepted
