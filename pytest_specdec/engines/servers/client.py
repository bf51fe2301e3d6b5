"""HTTP to the user's server: bounded in time and size, with retries after passing faults, and with
an error for every other fault.

Only the given URL's host is contacted: redirects are refused and proxy settings of the environment
are not read.
"""

from __future__ import annotations

import dataclasses
import errno
import http.client
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import msgspec

from ...common.errors import MeasurementError, RequestError, naming_extras
from ...common.printable import KEY, printable, redacted_url, without_secrets
from ...common.strict_json import JsonError, parse_json
from ...common.urls import check_server_url
from .deadline import Deadline, connections

with naming_extras():
    import urllib3

Answer = TypeVar("Answer")

_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that another try may cure."""
_UNREACHABLE = (ConnectionRefusedError, socket.gaierror)
_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH)
"""Faults of a connection that was never made."""
_CHUNK = 1 << 16
_KEPT = 64
"""Connections kept open at most."""
_EXCERPT = 120
"""Characters of a bad answer that its error quotes."""


class ServerError(MeasurementError):
    """A server does not answer, or not with what was requested. The message names the URL and what
    to do.
    """

    status: int | None = None
    """The HTTP status, where one other than 200 is what is wrong."""
    refusal: str = ""
    """Path, status and how the answer begins, where the server refuses what was asked for."""


class _PassingError(Exception):
    """A fault that another try may cure."""

    unreachable = False
    """Whether no connection was made."""


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """How long a server is waited for; seconds."""

    timeout: float = 120.0
    """Of one answer, from connecting to its last byte."""
    tries: int = 5
    backoff: float = 0.5
    """Before the second try; doubled before each further one."""
    sleep: Callable[[float], None] = time.sleep


class Client:
    """Requests to one server; safe to share among threads.

    `size_limit` is the largest answer in bytes. `key` goes out as a bearer token, to this server
    alone.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: RetryPolicy | None = None,
        size_limit: int = 256 << 20,
        key: str | None = None,
    ) -> None:
        check_server_url(url)
        self.url = self._base = url.rstrip("/")
        self._patience, self._size_limit = patience or RetryPolicy(), size_limit
        self._headers, self._secrets = (
            {"Accept": "application/json"} | _authorization(key),
            (key,) if key else (),
        )
        self._pools = connections(_KEPT)
        self.close = weakref.finalize(self, self._pools.clear)
        """Close every connection; happens by itself when the client is no longer used."""
        self._lock = threading.Lock()
        self._lost = 0
        self._unreachable: str | None = None
        """What was wrong where no try reached the server: it is not waited for again."""

    @property
    def lost(self) -> int:
        """Requests to generate that were sent again: a server may have counted rounds for the
        answers that were lost.
        """
        return self._lost

    def get_text(self, path: str) -> str:
        """A page as text. Raises ServerError, also where it is not UTF-8."""
        raw = self._request("GET", path, None)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self._error(
                path, " answers with text that is not UTF-8; is this the engine's own URL?"
            ) from None

    def get_json(self, path: str, shape: type[Answer]) -> Answer:
        """A JSON answer of a given shape. Raises ServerError for every other answer."""
        return self._decoded(path, self._request("GET", path, None), shape)

    def post_json(self, path: str, body: Mapping[str, Any], shape: type[Answer]) -> Answer:
        """Send JSON, read JSON of a given shape. Raises ServerError for every other answer."""
        return self._decoded(path, self._request("POST", path, msgspec.json.encode(body)), shape)

    def post_events(self, path: str, body: Mapping[str, Any], shape: type[Answer]) -> list[Answer]:
        """Send JSON, read a stream of server-sent events to its end. Raises ServerError for an
        event of another shape.
        """
        # Servers close a connection after a stream without notice; the next request on it would be
        # lost.
        raw = self._request("POST", path, msgspec.json.encode(body), {"Connection": "close"})
        events = [self._decoded(path, event, shape) for event in _events(raw)]
        if not events:
            self._refuse(path, raw, "a stream without events")
        return events

    def _request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Try until there is an answer that another try would not improve."""
        wait, fault, unreachable = self._patience.backoff, "", False
        if self._unreachable is not None:
            raise self._error(path, self._unreachable)
        for attempt in range(self._patience.tries):
            if attempt:
                self._patience.sleep(wait)
                wait *= 2
                if method == "POST":
                    with self._lock:
                        self._lost += 1
            try:
                status, answer, location = self._once(method, path, body, headers or {})
                self._judge(path, status, answer, location)
                return answer
            except _PassingError as passing:
                fault, unreachable = str(passing), passing.unreachable
        message = (
            f": {fault}, in {self._patience.tries} tries; see that the server runs and look into "
            "its log"
        )
        if unreachable:
            self._unreachable = message
        raise self._error(path, message)

    def _judge(self, path: str, status: int, answer: bytes, location: str | None) -> None:
        """Raises _PassingError or ServerError unless the status is 200."""
        if status == 200:
            return
        if status in _PASSING:
            raise _PassingError(f"HTTP {status} ({self._excerpt(answer)})")
        refusal = ""
        if 300 <= status < 400:
            to = (
                "nowhere"
                if location is None
                else self._shown(redacted_url(without_secrets(location, self._secrets)))
            )
            message = f" redirects to {to}, which is not followed; name the final URL"
        elif status in (401, 403):
            message = f": HTTP {status}, access refused; set {KEY} to the server's key"
        else:
            refusal = f"HTTP {status} ({self._excerpt(answer)})"
            message = f": {refusal}; is this the engine that was named, and its own URL?"
        error = self._error(path, message)
        error.status, error.refusal = status, refusal and f"{path}: {refusal}"
        raise error

    def _once(
        self, method: str, path: str, body: bytes | None, extra: Mapping[str, str]
    ) -> tuple[int, bytes, str | None]:
        """One request: status, body, Location. Raises _PassingError, ServerError for size."""
        timeout = self._patience.timeout
        headers = (
            self._headers
            | ({"Content-Type": "application/json"} if body is not None else {})
            | dict(extra)
        )
        with Deadline(timeout) as deadline:
            try:
                response = self._pools.request(
                    method,
                    self._base + path,
                    body=body,
                    headers=headers,
                    # Half, so that a first address that swallows packets leaves time for another.
                    timeout=urllib3.Timeout(connect=timeout / 2, read=timeout),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                )
                answer = self._read(path, response)
            except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
                raise self._passing(error, expired=deadline.expired) from None
            if deadline.expired:  # an answer that ends with its connection looks complete
                raise self._passing(TimeoutError(), expired=True)
        return response.status, answer, response.headers.get("Location")

    def _read(self, path: str, response: urllib3.BaseHTTPResponse) -> bytes:
        """The whole body, within the size limit."""
        parts, size = [], 0
        try:
            while part := response.read(_CHUNK, decode_content=False):
                parts.append(part)
                size += len(part)
                if size > self._size_limit:
                    raise self._error(
                        path,
                        f" answers with more than {self._size_limit} bytes; is this the engine's "
                        "own URL?",
                    )
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return b"".join(parts)

    def _passing(self, error: Exception, *, expired: bool) -> _PassingError:
        """A fault of the connection as an error that another try may cure."""
        cause = _cause(error)
        if expired or isinstance(cause, TimeoutError):
            return _PassingError(f"no full answer within {self._patience.timeout:g} s")
        if isinstance(cause, urllib3.exceptions.IncompleteRead):
            return _PassingError(f"the answer ends after {cause.partial} bytes")
        if isinstance(cause, http.client.IncompleteRead):
            return _PassingError("the answer ends within a chunk")
        passing = _PassingError(f"no answer ({type(cause).__name__}: {self._shown(str(cause))})")
        passing.unreachable = (
            isinstance(cause, _UNREACHABLE) or getattr(cause, "errno", None) in _NO_ROUTE
        )
        return passing

    def _decoded(self, path: str, raw: bytes, shape: type[Answer]) -> Answer:
        try:
            return msgspec.convert(parse_json(raw.decode()), shape, str_keys=True)
        except JsonError as error:
            self._refuse(path, raw, f"{error.problem} on line {error.line}")
        except msgspec.ValidationError as error:
            self._refuse(path, raw, str(error))
        except UnicodeDecodeError:
            self._refuse(path, raw, "not UTF-8")

    def _refuse(self, path: str, raw: bytes, why: str) -> NoReturn:
        if raw.lstrip()[:1] == b"<":
            raise self._error(
                path, " answers with a web page, not with JSON; is this the engine's own URL?"
            )
        raise self._error(
            path,
            f" answers with JSON that cannot be read: {why} ({self._excerpt(raw)}); "
            "check the engine and its version against docs/engines.md",
        )

    def _error(self, path: str, message: str) -> ServerError:
        return ServerError(f"{self.url}{path}{message}")

    def _excerpt(self, raw: bytes) -> str:
        """How an answer begins, for an error message."""
        # Secrets first: half of one would not be known again.
        text = " ".join(
            without_secrets(raw.decode(errors="replace"), self._secrets)[: 4 * _EXCERPT].split()
        )
        return self._shown((text[:_EXCERPT] + "...") if len(text) > _EXCERPT else text or "empty")

    def _shown(self, text: str) -> str:
        return printable(text, secrets=self._secrets)


def _cause(error: BaseException) -> BaseException:
    """The cause that urllib3's own errors wrap."""
    while isinstance(error, urllib3.exceptions.HTTPError):
        inner = [error.__cause__, *error.args]
        below = next((cause for cause in inner if isinstance(cause, BaseException)), None)
        if below is None:
            waited = isinstance(error, urllib3.exceptions.TimeoutError)
            return TimeoutError() if waited else error
        error = below
    return error


def _authorization(key: str | None) -> dict[str, str]:
    """The header that carries a key. Raises RequestError for one that no header can carry, without
    quoting it.
    """
    if key and not (key.isascii() and key.isprintable()):
        raise RequestError(
            f"{KEY} holds a character that no HTTP header can carry, for example a line break at "
            "its end; set it to the bare key"
        )
    return {"Authorization": f"Bearer {key}"} if key else {}


def _events(raw: bytes) -> Iterator[bytes]:
    """Data of each server-sent event, without the closing [DONE]."""
    for line in raw.splitlines():
        if line.startswith(b"data:") and (data := line[5:].strip()) != b"[DONE]":
            yield data
