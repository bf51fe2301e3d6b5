"""A case as `speculation_profile.json`, schema 1.0 of NVIDIA's ModelOpt: what a draft checkpoint
accepts, for simulators (dynamo, AIConfigurator) and vLLM's synthetic acceptance.

Source: https://github.com/NVIDIA/Model-Optimizer/pull/2247
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from .row import Number

SCHEMA_VERSION = "1.0"
_TOLERANCE = 0.02
"""Between the mean and the sum of the marginal rates."""
_METHODS = {"mtp": "mtp", "prompt-lookup": "ngram"}
_CHAINS = ("draft_model", "eagle", "eagle3")
"""Methods whose drafts for one k begin those for a larger one, so that one measurement serves
every smaller k.
"""
_DIGITS = 6
Row = Mapping[str, Any]
"""A case of a .json report."""


def method_of(row: Row) -> str | None:
    """The method of a drafter that needs no checkpoint of its own; None where it is not known."""
    return _METHODS.get(row["drafter"])


def speculation_profile(row: Row, rows: Iterable[Row], method: str) -> dict[str, Any]:
    """The profile of a measured case; `rows` are those of its report, for the lengths at other k.

    Standard errors, which the schema does not have, stand in `standard_errors`.
    """
    block = row["rule"] == "block"
    conditional, marginal = (_known(row[name]) for name in ("conditional", "survival"))
    chain = method in _CHAINS and row["depth"] == 0
    profile = {
        "schema_version": SCHEMA_VERSION,
        "measured": True,
        "method": method,
        "draft_checkpoint": {"id": _name(row["drafter"])},
        "target_model": {"id": _name(row["target"])},
        "num_speculative_tokens": row["k"],
        "block_size": None,
        "max_supported_k": row["k"],
        "verification_method": "block" if block else "longest_prefix",
        "conditional_accept_rates": None if block else conditional,
        "marginal_accept_rates": None if block else marginal,
        "mean_accept_length": _rounded(row["acceptance_length"]),
        "mean_accept_length_per_request": None,
        "accept_length_model": "chain_analytic" if chain else "measured_per_k",
        "accept_length_by_k": _by_k(row, rows),
        "acceptance_length_histogram": _histogram(row),
        "per_category": {
            name: {"mean_accept_length": _rounded(value)}
            for name, value in row["categories"].items()
            if value is not None
        },
        "measurement_conditions": _conditions(row),
        "validation": None if block else _validation(row["acceptance_length"], marginal),
        "standard_errors": {
            "mean_accept_length": row["acceptance_length_error"],
            "conditional_accept_rates": row["conditional_error"],
            "marginal_accept_rates": row["survival_error"],
        },
    }
    if block:
        profile["vectors_unavailable_reason"] = "block verification accepts no longest prefix"
    return profile


def _known(values: Sequence[Number]) -> list[float]:
    """Rates; 0 past the last position ever reached."""
    return [_rounded(value) for value in values]


def _rounded(value: Number) -> float:
    return round(value or 0.0, _DIGITS)


def _name(path: str) -> str:
    """The last two parts of a path: a profile is published, and shows no folders of a machine."""
    return "/".join(PurePath(path.replace("\\", "/")).parts[-2:]).lstrip("/")


def _by_k(row: Row, rows: Iterable[Row]) -> dict[str, float]:
    """The lengths of all k of the same pair under the same settings."""
    same = ("suite", "target", "drafter", "depth", "rule", "temperature", "engine", "judged")
    lengths = {
        other["k"]: _rounded(other["acceptance_length"])
        for other in rows
        if other["acceptance_length"] is not None
        and all(other[name] == row[name] for name in same)
        and _settings(other) == _settings(row)
    }
    return {str(k): length for k, length in sorted(lengths.items())}


def _settings(row: Row) -> str:
    """What a case's id names beside k."""
    return str(row["id"]).replace(f"-k{row['k']}-", "-")


def _histogram(row: Row) -> dict[str, float] | None:
    """Rounds by the tokens that they emitted, expectations where they are replayed; None where
    rounds draft different numbers of tokens, so that positions do not make rounds.
    """
    if abs(row["acceptance_length"] - 1 - sum(_known(row["survival"]))) > _TOLERANCE:
        return None
    reached = [1.0, *_known(row["survival"]), 0.0]
    return {
        str(length): round((share - after) * row["rounds"], _DIGITS)
        for length, (share, after) in enumerate(itertools.pairwise(reached), 1)
    }


def _conditions(row: Row) -> dict[str, Any]:
    return {
        "dataset": row["suite"],
        "num_samples": row["prompts"],
        "temperature": row["temperature"],
        "verification_rule": row["rule"],
        "mtp_depth": row["depth"],
        "engine": row["engine"],
        "environment": row["environment"],
        "definition": row["definition"],
        "produced_by": "pytest-specdec",
    }


def _validation(length: float, marginal: Sequence[float]) -> dict[str, Any]:
    """The two checks of the schema: the mean is 1 + the sum of the marginal rates, and these never
    rise.
    """
    implied = 1.0 + sum(marginal)
    rises = [
        {"position": place, "value": after, "previous": before}
        for place, (before, after) in enumerate(itertools.pairwise(marginal), 1)
        if after > before
    ]
    return {
        "mean_consistency": {
            "implied_mean_accept_length": round(implied, _DIGITS),
            "reported_mean_accept_length": round(length, _DIGITS),
            "abs_delta": round(abs(implied - length), _DIGITS),
            "tolerance": _TOLERANCE,
            "passed": abs(implied - length) <= _TOLERANCE,
        },
        "marginal_monotonicity": {"passed": not rises, "violations": rises},
    }
