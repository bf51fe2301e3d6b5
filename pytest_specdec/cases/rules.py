"""Verification rules by name: those of ours, and those that other packages add."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..common.errors import RequestError
from ..common.extensions import Registry

_MODULE = "pytest_specdec.decoding.verification"
VERIFICATION_RULES = Registry(
    "pytest_specdec.rules",
    "verification rule",
    {
        "rejection": f"{_MODULE}:REJECTION",
        "greedy": f"{_MODULE}:GREEDY",
        "sample-match": f"{_MODULE}:SAMPLE_MATCH",
        "block": f"{_MODULE}:BLOCK",
        "typical": f"{_MODULE}:TYPICAL",
    },
)
"""All rules by name; each is a `decoding.verification.Rule`."""
RULES = tuple(VERIFICATION_RULES.built_in)
LOSSY_RULES = ("typical",)
"""Rules of ours whose output does not follow the target."""


def default_rule(temperature: float) -> str:
    """Greedy decoding is verified greedily, sampling by rejection."""
    return "rejection" if temperature > 0 else "greedy"


def known_rule(rule: str) -> str:
    """The rule itself. Raises RequestError for an unknown name."""
    if rule not in VERIFICATION_RULES:
        raise RequestError(
            f"verification rule {rule!r} is unknown; choose among {', '.join(VERIFICATION_RULES)}"
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
    return rule not in VERIFICATION_RULES or not load_rule(rule).lossless


def load_rule(rule: str) -> Any:
    """The `decoding.verification.Rule` of a known name, imported.

    Raises RequestError for an entry point of another package that is not such a rule.
    """
    loaded = VERIFICATION_RULES.load(rule)
    if rule not in RULES and not (
        getattr(loaded, "name", None) == rule
        and isinstance(getattr(loaded, "lossless", None), bool)
    ):
        raise VERIFICATION_RULES.fault(
            rule,
            f"is not a Rule named {rule!r} (pytest_specdec.decoding.verification.Rule)",
        )
    return loaded


def is_replayable(rule: str) -> bool:
    """Whether replay can measure the rule: a lossless one that accepts given tokens with a known
    probability.
    """
    return not is_lossy(rule) and (rule in RULES or token_acceptance(rule) is not None)


def token_acceptance(rule: str) -> Callable[..., Any] | None:
    """How a lossless rule of another package accepts tokens of given texts, `Rule.accepted`; None
    where it does not say, and for rules of ours.
    """
    if rule in RULES or rule not in VERIFICATION_RULES:
        return None
    added = load_rule(rule)
    return added.accepted if added.lossless else None
