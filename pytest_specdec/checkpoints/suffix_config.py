"""The settings of suffix decoding, from a folder's config.json in vLLM's names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..acceptance.suffix import MOST_DEPTH, SuffixSettings
from ..common.errors import RequestError
from .checkpoint import Checkpoint

_PREFIX = "suffix_decoding_"
_FIELDS = {
    "max_tree_depth": ("depth", f"a whole number from 2 to {MOST_DEPTH}"),
    "max_spec_factor": ("factor", "a number above 0"),
    "min_token_prob": ("least_share", "a number from 0 to 1"),
    "max_cached_requests": ("cached", "a whole number, 0 for none and -1 for all"),
}


def read_suffix_settings(folder: Path | None) -> SuffixSettings:
    """vLLM's defaults, and what config.json of a folder says instead. Raises RequestError.

    >>> read_suffix_settings(None).name
    'suffix-d24-f1-p0.1-c10000'
    """
    if folder is None:
        return SuffixSettings()
    config = Checkpoint(folder).config
    named = {name.removeprefix(_PREFIX): value for name, value in config.items()}
    known = {*_FIELDS, "method", "num_speculative_tokens"}
    if unknown := sorted(named.keys() - known):
        raise RequestError(
            f"{folder / 'config.json'} has the field {unknown[0][:60]!r}, which suffix decoding "
            f"does not have; its fields are {', '.join(_PREFIX + name for name in _FIELDS)}"
        )
    if named.get("method", "suffix") != "suffix":
        raise RequestError(
            f"{folder / 'config.json'} says method: {str(named['method'])[:40]}; write suffix"
        )
    values: dict[str, Any] = {}
    for field, (ours, form) in _FIELDS.items():
        if field in named:
            if not _fits(ours, named):
                raise RequestError(
                    f"{folder / 'config.json'} says {_PREFIX}{field}: {str(named[field])[:40]}; "
                    f"write {form}"
                )
            values[ours] = named[field]
    return SuffixSettings(**values)


def _fits(ours: str, named: Mapping[str, Any]) -> bool:
    field = next(name for name, (setting, _) in _FIELDS.items() if setting == ours)
    value = named[field]
    whole = isinstance(value, int) and not isinstance(value, bool)
    number = whole or isinstance(value, float)
    if ours == "depth":
        return whole and 2 <= value <= MOST_DEPTH
    if ours == "cached":
        return whole and value >= -1
    return number and (0 <= value <= 1 if ours == "least_share" else 0 < value < 1e3)
