"""Foreign strings made fit to print: without characters that steer a terminal, and without
credentials.

Names, prompts, file names and answers of servers come from others. `printable` is applied where
they reach a terminal, a report or an error message; what is stored and compared stays as it is.
"""

from __future__ import annotations

import functools
import html
import json
import os
import re
import unicodedata
import urllib.parse
from collections.abc import Iterable

KEY = "SPECDEC_API_KEY"
"""Environment variable with the key that goes out to servers."""
HIDDEN = "***"
"""In the place of a secret."""

_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of control, format (bidirectional, zero-width) and surrogate characters, line
and paragraph separators.
"""
_SHORTEST_KEY = 4
"""Characters of a key from which on it is looked for: a shorter one would be found in ordinary
words.
"""
_URL = re.compile(r'(?:[A-Za-z][A-Za-z0-9+.-]{0,40}|[A-Za-z0-9+.-]{41}):/+[^\s<>"]*')
"""Looks back 41 characters for a scheme: with no bound, a long word takes quadratic time."""
_SCHEME = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:/+)?")
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")
_CLOSING = ";:,.!?')]}`"
"""Punctuation that ends a sentence or a quotation rather than a URL."""


def printable(text: str, *, keep: str = "", secrets: Iterable[str] = ()) -> str:
    """A text that a terminal shows as it is read here, and that holds no credentials.

    Control and format characters are written as Python writes them (`\\x1b`, `\\u202e`), those in
    `keep` (for example "\\n") excepted. The key in SPECDEC_API_KEY and `secrets` become `***`
    wherever they stand, as do user names, passwords, queries and fragments of URLs. Applying it
    twice changes nothing more.

    >>> printable("a\\x1b[31mb, see http://me:pw@host/?token=x")
    'a\\\\x1b[31mb, see http://***@host/?***'
    """
    return escaped(_URL.sub(_redacted_match, without_secrets(text, secrets)), keep)


def escaped(text: str, keep: str = "") -> str:
    """A text whose control and format characters, those in `keep` excepted, are written as
    escapes.
    """
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode()
        if letter not in keep and unicodedata.category(letter) in _STEERING
        else letter
        for letter in text
    )


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """A text with `***` in the place of SPECDEC_API_KEY's value and of `secrets`, also where these
    are quoted or encoded.
    """
    for secret in {os.environ.get(KEY, ""), *secrets}:
        for form in _forms(secret):
            text = text.replace(form, HIDDEN)
    return text


def redacted_url(url: str) -> str:
    """A URL, well formed or not, without user, password, query and fragment.

    Everything before the last `@` is taken for credentials, and so is a port that is not a number.
    Where a `?` or `#` comes before an `@`, a password cannot be distinguished from a query, and
    nothing but the scheme is left.

    >>> redacted_url("http://user:SECRET@host:80x0/v1?api_key=SECRET")
    'http://***@host:***/v1?***'
    """
    match = _SCHEME.match(url)
    scheme = match[0] if match else ""
    credentials, at, rest = url[len(scheme) :].rpartition("@")
    if "?" in credentials or "#" in credentials:
        return scheme + HIDDEN
    place = re.split("[?#&=]", rest, maxsplit=1)
    host, slash, path = place[0].partition("/")
    port = _HOST_AND_PORT.fullmatch(host)
    if port is None:
        host = f"{host.partition(':')[0]}:{HIDDEN}"
    return (
        scheme + (HIDDEN + "@") * bool(at) + host + slash + path + ("?" + HIDDEN) * (len(place) > 1)
    )


def _redacted_match(match: re.Match[str]) -> str:
    """A URL inside a text; the punctuation after it is the text's."""
    url = match[0].rstrip(_CLOSING)
    return redacted_url(url) + match[0][len(url) :]


@functools.lru_cache(maxsize=16)
def _forms(secret: str) -> tuple[str, ...]:
    """A secret as it may stand in a text: plain, in JSON, in a URL, in HTML; the longest first."""
    if len(secret) < _SHORTEST_KEY:
        return ()
    quoted = json.dumps(secret)[1:-1]
    forms = {
        secret,
        quoted,
        quoted.replace("/", "\\/"),
        urllib.parse.quote(secret, safe=""),
        html.escape(secret),
    }
    return tuple(sorted(forms, key=len, reverse=True))
