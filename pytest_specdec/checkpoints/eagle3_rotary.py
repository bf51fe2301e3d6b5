"""The rotary embedding that an EAGLE-3 head's config.json describes, checked by the file alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError

EAGLE_THETA = 10000.0
"""The rotary base where config.json names none, in every loader of these heads."""
_PARTIAL, _THETA, _ORIGINAL = (
    "partial_rotary_factor",
    "rope_theta",
    "original_max_position_embeddings",
)
_NEEDED = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", _ORIGINAL),
    "yarn": ("factor", _ORIGINAL),
}
"""The parameters of each type of scaling."""
_OPTIONAL = ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim")


def rotary_of(
    path: Path, layer: Mapping[str, Any], head_dim: int
) -> tuple[float | None, Mapping[str, Any], int]:
    """What the fields of a layer say of its rotary embedding.

    Parameters
    ----------
    path
        config.json, for messages.
    layer
        The part of it that describes the decoder layer.
    head_dim
        Numbers of a query or key.

    Returns
    -------
    The base, None where none is named; transformers' `rope_parameters` without the base; and how
    many numbers of each query and key are rotated.

    Raises
    ------
    RequestError
        For types and parameters that no loader computes, and for fields that contradict each other.

    Examples
    --------
    >>> rotary_of(Path("config.json"), {"rope_theta": 500000}, 64)
    (500000.0, {'rope_type': 'default'}, 64)
    """
    given = _nested(path, layer)
    theta = _agreed(path, layer, given, _THETA)
    rope = {name: value for name, value in given.items() if name not in (_THETA, _PARTIAL, "type")}
    rope["rope_type"] = kind = _kind(path, given)
    for name in _NEEDED[kind]:
        if given.get(name) is None:
            raise RequestError(f"{path} says rope_type: {kind!r} without {name}; add it")
    for name in (*_NEEDED[kind], *_OPTIONAL):
        number_of(path, name, given.get(name), 1.0)
    if kind != "default" and number_of(path, "factor", given["factor"], 1.0) < 1:
        raise RequestError(f"{path} says factor: {given['factor']}, and a context is only widened")
    if kind == "llama3" and given["low_freq_factor"] >= given["high_freq_factor"]:
        raise RequestError(
            f"{path} says low_freq_factor: {given['low_freq_factor']}, which is not below "
            f"high_freq_factor: {given['high_freq_factor']}; correct them"
        )
    rotated = _rotated(path, _agreed(path, layer, given, _PARTIAL), head_dim)
    base = None if theta is None else number_of(path, _THETA, theta, EAGLE_THETA)
    return base, rope, rotated


def theta_of(config: Mapping[str, Any]) -> Any:
    """The rotary base that a configuration names, in the older or the newer form of transformers;
    None where it names none.
    """
    nested = config.get("rope_parameters")
    theta = nested.get(_THETA) if isinstance(nested, Mapping) else None
    return config.get(_THETA) if theta is None else theta


def number_of(path: Path, name: str, value: Any, default: float) -> float:
    """A positive number of config.json, the default for None. Raises RequestError for others."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        raise RequestError(
            f"{path} says {name}: {str(value)[:60]}, which no head has; save the head again"
        )
    return float(value)


def _nested(path: Path, layer: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters below `rope_scaling` and `rope_parameters` together."""
    together: dict[str, Any] = {}
    for field in ("rope_scaling", "rope_parameters"):
        parameters = layer.get(field)
        if parameters is None:
            continue
        if not isinstance(parameters, Mapping):
            raise RequestError(
                f"{path} says {field}: {str(parameters)[:60]}, which is no set of parameters; "
                "correct it, or remove it"
            )
        for name, value in parameters.items():
            if together.setdefault(name, value) != value:
                raise _contradiction(path, name, together[name], value)
    return together


def _agreed(path: Path, layer: Mapping[str, Any], nested: Mapping[str, Any], name: str) -> Any:
    """A field that may stand at the top, below, or at both places with one value."""
    top, below = layer.get(name), nested.get(name)
    if top is not None and below is not None and top != below:
        raise _contradiction(path, name, top, below)
    return below if top is None else top


def _kind(path: Path, given: Mapping[str, Any]) -> str:
    kind, older = given.get("rope_type"), given.get("type")
    if kind is not None and older is not None and kind != older:
        raise _contradiction(path, "rope_type", kind, older)
    named = kind or older or "default"
    if not isinstance(named, str) or named not in _NEEDED:
        raise RequestError(
            f"{path} says rope_type: {str(named)[:40]!r}, and only {', '.join(_NEEDED)} are "
            "supported; use another head"
        )
    return named


def _rotated(path: Path, factor: Any, head_dim: int) -> int:
    """How many numbers of each query and key are rotated; all where config.json does not say."""
    share = number_of(path, _PARTIAL, factor, 1.0)
    rotated = int(head_dim * share)
    if share > 1 or rotated < 2 or rotated % 2:
        raise RequestError(
            f"{path} says {_PARTIAL}: {str(factor)[:40]}, which rotates {rotated} of "
            f"{head_dim} numbers, and an even part of them can be; save the head again"
        )
    return rotated


def _contradiction(path: Path, name: str, one: Any, other: Any) -> RequestError:
    return RequestError(
        f"{path} says {name}: {str(one)[:40]} at one place and {str(other)[:40]} at another; "
        "remove the wrong one"
    )
