"""What a test suite attaches to a case for the .html report: pictures, sound and texts."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable

from ..common.errors import RequestError
from .row import AttachmentRow

MEDIA_TYPES = (
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/plain",
)
"""Those that a browser shows without running anything in them."""
MAX_BYTES = 8 * 2**20
"""Largest content of one attachment; a report holds it base64-encoded, a third larger."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attachment:
    """A picture, a sound or a text that the .html report shows with a case.

    Return some from the hook `pytest_specdec_attachments`.
    """

    title: str
    """Heading, at most a line."""
    media_type: str
    """One of `MEDIA_TYPES`, for example `image/png`."""
    content: bytes
    """The file's bytes, at most `MAX_BYTES`; a text is UTF-8."""
    alternative_text: str = ""
    """What it shows or contains, for readers who cannot see or hear it. Required but for texts."""


def attachment_rows(attachments: Iterable[object]) -> list[AttachmentRow]:
    """The attachments as plain data, for reports and other processes.

    Raises RequestError for anything but valid `Attachment`s.
    """
    return [_row(attachment) for attachment in attachments]


def _row(attachment: object) -> AttachmentRow:
    if not isinstance(attachment, Attachment):
        raise RequestError(
            f"{type(attachment).__name__} is not an attachment; return pytest_specdec.Attachment "
            "objects"
        )
    problem = _problem(attachment)
    if problem is not None:
        raise RequestError(f"attachment {attachment.title!r}: {problem}")
    return AttachmentRow(
        title=attachment.title,
        media_type=attachment.media_type,
        content=base64.b64encode(attachment.content).decode(),
        alternative_text=attachment.alternative_text,
    )


def _problem(attachment: Attachment) -> str | None:
    if not isinstance(attachment.title, str) or not attachment.title.strip():
        return "it has no title; pass a line of text"
    if attachment.media_type not in MEDIA_TYPES:
        return (
            f"media type {attachment.media_type!r} is not shown; use one of "
            f"{', '.join(MEDIA_TYPES)}"
        )
    content = attachment.content
    if not isinstance(content, bytes) or not content:
        return "content must be bytes, and not empty; pass the file's bytes"
    if len(content) > MAX_BYTES:
        return f"{len(content)} bytes are more than {MAX_BYTES}; attach something smaller"
    if attachment.media_type == "text/plain":
        try:
            content.decode("utf-8")
        except UnicodeDecodeError:
            return "the text is not UTF-8; encode it with .encode('utf-8')"
    elif not isinstance(attachment.alternative_text, str) or not attachment.alternative_text:
        return "it has no alternative text; describe what it shows or says"
    return None
