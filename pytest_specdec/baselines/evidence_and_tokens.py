"""The stored files that hold no record and no texts: evidence, and acceptance by token.

`Record` and `TextSet` are stored as they are. How files are written is in `writing`; the numbers
that they may hold are in the types and in `identities`.
"""

from __future__ import annotations

import msgspec

from ..records.accumulated import AccumulatedRun

READABLE = (1, 2)
"""Schemas that are read. Files of schema 1 have no digest, and their records name neither case nor
seed.
"""


class EvidenceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `--specdec-accumulate` has gathered against one baseline."""

    schema: int
    baseline: str
    """Hash of the baseline; evidence against another baseline starts again."""
    runs: tuple[AccumulatedRun, ...] = msgspec.field(name="nights")


class TokenRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Acceptance of each new token of one text, as `acceptance.token_acceptance` encodes it."""

    text: str
    accept: str


class TokenMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One head's acceptance by token: it explains failures and never decides them."""

    schema: int
    drafter: str
    """Fingerprint of the drafter that it was measured on."""
    tokens: dict[str, TokenRow]
