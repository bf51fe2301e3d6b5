"""An utterance as a WAV file: the first that a test of the session asked for."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from ..common.errors import RequestError
from .row import ReportRow


def render(rows: Iterable[ReportRow], language: str = "en") -> bytes:
    """The WAV file's bytes. Raises RequestError where no test made one."""
    made = [row["utterance"] for row in sorted(rows, key=lambda row: row["id"]) if row["utterance"]]
    if not made or made[0] is None:
        raise RequestError(
            "no test made an utterance for the .wav report; select one that uses the fixture "
            "specdec_speech"
        )
    return base64.b64decode(made[0]["wav"])
