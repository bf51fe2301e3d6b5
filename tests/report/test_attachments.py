"""What a suite may attach to a case, and what is refused with which advice."""

from __future__ import annotations

import base64
from typing import Any

import pytest

import pytest_specdec
from pytest_specdec.common.errors import RequestError
from pytest_specdec.report.attachments import (
    MAX_BYTES,
    MEDIA_TYPES,
    Attachment,
    attachment_rows,
)


def attachment(**changes: Any) -> Attachment:
    fields = {
        "title": "An utterance",
        "media_type": "audio/wav",
        "content": b"RIFF",
        "alternative_text": "speech",
    }
    return Attachment(**(fields | changes))


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_the_content_comes_back_as_it_was(media_type: str) -> None:
    (row,) = attachment_rows([attachment(media_type=media_type)])
    assert base64.b64decode(row["content"]) == b"RIFF"
    assert (row["title"], row["alternative_text"]) == ("An utterance", "speech")
    assert row["media_type"] == media_type


def test_the_class_is_public() -> None:
    assert pytest_specdec.Attachment is Attachment


@pytest.mark.parametrize("size", [MAX_BYTES, 1])
def test_content_up_to_the_limit_is_accepted(size: int) -> None:
    assert attachment_rows([attachment(content=b"\0" * size)])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"title": " "}, "it has no title; pass a line of text"),
        ({"title": None}, "it has no title; pass a line of text"),
        ({"media_type": "text/html"}, "'text/html' is not shown; use one of audio/mpeg"),
        ({"media_type": "image/svg+xml"}, r"'image/svg\+xml' is not shown; use one of"),
        ({"media_type": None}, "None is not shown; use one of"),
        ({"content": b""}, "content must be bytes, and not empty; pass the file's bytes"),
        ({"content": "RIFF"}, "content must be bytes"),
        ({"content": b"\0" * (MAX_BYTES + 1)}, "are more than .*; attach something smaller"),
        (
            {"media_type": "text/plain", "content": b"\xff"},
            r"is not UTF-8; encode it with \.encode\('utf-8'\)",
        ),
        ({"alternative_text": ""}, "no alternative text; describe what it shows or says"),
        ({"alternative_text": None}, "no alternative text; describe what it shows or says"),
    ],
)
def test_what_cannot_be_shown_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        attachment_rows([attachment(**change)])


@pytest.mark.parametrize("value", [None, "text", b"RIFF", {"title": "a"}])
def test_anything_else_is_named_by_its_type(value: object) -> None:
    with pytest.raises(
        RequestError,
        match=f"{type(value).__name__} is not an attachment; return pytest_specdec.Attachment",
    ):
        attachment_rows([value])
