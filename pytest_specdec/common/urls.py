"""URLs of servers, checked as soon as they are given. No message repeats a part that may hold a
secret.
"""

from __future__ import annotations

import urllib.parse

from .errors import RequestError
from .printable import KEY, redacted_url


def check_server_url(url: str) -> None:
    """Accept an http or https URL of a server.

    Raises RequestError for anything else, for a query or fragment, and for a user name or password,
    which would end up in logs.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:  # UnicodeError, too
        raise _refused(url) from None
    if "@" in parts.netloc:
        raise RequestError(f"a URL with a password in it would end up in logs; set {KEY} instead")
    # urlsplit() drops line breaks and tabs, and keeps spaces and control characters.
    plain = url.isascii() and url.isprintable() and not set(url) & set(" ?#")
    if parts.scheme not in ("http", "https") or not host or port == 0 or not plain:
        raise _refused(url)


def _refused(url: str) -> RequestError:
    shown = redacted_url(url)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return RequestError(
        f"{shown!r} is not a server's URL; write for example --specdec-url=http://localhost:8000"
    )
