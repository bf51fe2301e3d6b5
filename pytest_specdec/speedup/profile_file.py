"""The fields of a stored cost profile, with the ranges of their values."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..cases.drafter import DRAFT, LOOKUP, OWN_HEADS
from ..common.limits import MOST_DEPTH, MOST_K

_Ms = Annotated[float, Meta(gt=0, le=1e9)]
_K = Annotated[int, Meta(ge=1, le=MOST_K)]
PlainLine = Annotated[str, Meta(max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""Text without control characters."""
_Row = dict[_K, _Ms]
_Table = dict[Annotated[int, Meta(ge=0, le=MOST_DEPTH)], _Row]


class _Profile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """As `CostProfile` writes it; the names are its own."""

    schema: int
    verify: _Row
    draft: _Table
    target_ms: _Ms | None = None
    own_heads: dict[Annotated[int, Meta(ge=1, le=MOST_DEPTH)], _Row] = {}
    lookup: _Row = {}
    drafters: dict[PlainLine, _Table] = {}
    batch_size: Annotated[int, Meta(ge=1, le=2**20)] = 1
    machine: PlainLine = "unknown"
    software: PlainLine = ""
    spread: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    error: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    samples: Annotated[int, Meta(ge=0, le=2**53)] = 0
    extrapolated: tuple[_K, ...] = ()


def profile_fields(data: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `CostProfile` from parsed JSON.

    Raises ValueError for a missing or unknown field, a value of another type or out of range, a k
    or depth that is not written in plain digits, `drafters` that have a field of their own, and
    extrapolated k without a verify time.
    """
    tables = [data.get(name) for name in ("verify", "lookup")]
    drafters = data.get("drafters")
    of_types = drafters.values() if isinstance(drafters, dict) else ()
    for table in (data.get("draft"), data.get("own_heads"), *of_types):
        if isinstance(table, dict):
            tables += [table, *table.values()]
    keys = [key for table in tables if isinstance(table, dict) for key in table]
    if odd := next(
        (key for key in keys if not (key.isascii() and key.isdigit()) or str(int(key[:9])) != key),
        None,
    ):
        raise ValueError(f"{odd[:40]!r} is not a k or depth in plain digits")
    try:
        stored = msgspec.convert(data, _Profile, str_keys=True)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    if twice := stored.drafters.keys() & {DRAFT, OWN_HEADS, LOOKUP}:
        raise ValueError(f"drafters names {min(twice)}, whose times are a field of their own")
    if strange := set(stored.extrapolated) - set(stored.verify):
        raise ValueError(f"extrapolated names k = {min(strange)}, which has no verify time")
    fields = msgspec.structs.asdict(stored)
    del fields["schema"]
    return fields
