"""HTTP connections with a total time limit: each byte of an answer, headers and chunk sizes
included, must come within it.

`http.client` knows one time limit for each wait on the socket, so a server that sends a byte now
and then holds it for ever. Here every wait is given what is left of the whole time.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time
from typing import Any


class Deadline:
    """Until when an exchange must have ended; shared by a connection and its answers, set anew
    before each request.
    """

    def __init__(self) -> None:
        self._end = 0.0

    def start(self, seconds: float) -> None:
        """Let the time run from now on."""
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, above 0. Raises TimeoutError where none are left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is up")
        return left


class _TimedReader(io.RawIOBase):
    """What a socket receives, each wait bounded by what is left of the time."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadline: Deadline) -> None:
        self._socket, self._raw, self._deadline = sock, raw, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._deadline.left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """An answer that is read within a time."""

    def __init__(self, sock: socket.socket, *args: Any, deadline: Deadline, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_TimedReader(sock, self.fp.detach(), deadline))


class TimedConnection(http.client.HTTPConnection):
    """An http connection whose every step, from connecting on, is bounded by `deadline`.

    The look-up of the host's name is not: the system's resolver has a limit of its own.
    """

    def __init__(self, host: str, port: int | None) -> None:
        super().__init__(host, port)
        self.deadline = Deadline()
        self.response_class = functools.partial(_TimedResponse, deadline=self.deadline)  # type: ignore[assignment]
        self._create_connection = functools.partial(_connected, self.deadline)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.deadline.left)
        super().send(data)


class TimedTlsConnection(TimedConnection, http.client.HTTPSConnection):
    """The same over TLS."""


def _connected(deadline: Deadline, address: tuple[str, int], *_: Any) -> socket.socket:
    """A socket to the first of a host's addresses that answers, left with what remains of the time
    for a TLS handshake.
    """
    found = socket.getaddrinfo(*address, 0, socket.SOCK_STREAM)
    fault: OSError | None = None
    for number, (family, kind, protocol, _name, place) in enumerate(found):
        made = socket.socket(family, kind, protocol)
        try:
            # An address that swallows packets leaves time for the others.
            made.settimeout(deadline.left / (len(found) - number))
            made.connect(place)
            made.settimeout(deadline.left)
            return made
        except OSError as error:
            made.close()
            fault = error
    raise fault or OSError(f"{address[0]} has no address")
