"""URLs of servers, checked as soon as they are given. No message repeats a part that may hold a
secret.
"""

from __future__ import annotations

import urllib.parse
from typing import NamedTuple

from .errors import RequestError

_EXAMPLE = "write for example --specdec-url=http://localhost:8000"


class ServerUrl(NamedTuple):
    """Where a server is."""

    scheme: str
    host: str
    port: int | None
    path: str
    """Without the slash at its end."""


def parse_server_url(url: str) -> ServerUrl:
    """The parts of an http or https URL of a server.

    Raises RequestError for anything else, for a query or fragment, and for a user name or password,
    which would end up in logs.
    """
    named = "the given URL" if set(url) & set("@?#") else _shortened(url)
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise RequestError(f"{named} is not a server's URL; {_EXAMPLE}") from None
    if parts.username is not None or parts.password is not None:
        raise RequestError(
            "a URL with a password in it would end up in logs; set SPECDEC_API_KEY instead"
        )
    # urlsplit() drops line ends and tabs without a word, and lets spaces and controls pass.
    odd = any(character <= " " or character == "\x7f" for character in url) or not url.isascii()
    if (
        parts.scheme not in ("http", "https")
        or not host
        or port == 0
        or odd
        or parts.query
        or parts.fragment
    ):
        raise RequestError(f"{named} is not a server's URL; {_EXAMPLE}")
    return ServerUrl(parts.scheme, host, port, parts.path.rstrip("/"))


def _shortened(url: str) -> str:
    return repr(url if len(url) <= 60 else url[:57] + "...")
