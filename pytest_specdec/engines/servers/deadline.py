"""HTTP connections with a total time limit: sending, headers, chunk sizes and trailers included.

urllib3 and the socket know one time limit for each wait, so a server that sends a byte now and
then holds a client for ever. Here the socket is shut down when the whole time is up, whatever part
of the exchange is under way.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Any

from ...common.errors import naming_extras

with naming_extras():
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

_IDLE = 2.0
"""Seconds after which a kept connection is not trusted: servers close idle ones, and a request on a
closed one is lost.
"""
_current = threading.local()


class Deadline:
    """The time limit of one exchange of this thread, in seconds from entering the context on."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        _current.deadline = self
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        self._socket = _current.deadline = None

    def watch(self, sock: socket.socket) -> None:
        """Shut this socket down when the time is up. Raises TimeoutError where it is."""
        self._socket = sock
        if self.expired:
            raise TimeoutError("the time is up")

    def _expire(self) -> None:
        self.expired = True
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own method, which is not to be called while another thread reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Timed(HTTPConnection):
    """A connection that the deadline of the thread that uses it can end."""

    _answered = 0.0

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _current.deadline.watch(sock)
        return sock

    def request(self, *args: Any, **options: Any) -> None:
        if time.monotonic() - self._answered > _IDLE:
            self.close()
        if self.sock is not None:
            _current.deadline.watch(self.sock)
        super().request(*args, **options)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        response = super().getresponse()
        self._answered = time.monotonic()
        return response


class _TimedTls(_Timed, HTTPSConnection):
    """The same over TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Timed


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TimedTls


def connections(most: int) -> urllib3.PoolManager:
    """Connections that threads share, of which at most so many are kept; only for use within a
    `Deadline`.
    """
    pools = urllib3.PoolManager(maxsize=most)
    pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return pools
