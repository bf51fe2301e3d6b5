"""A server on loopback that plays what it is given: recorded answers, damaged ones, faults."""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pytest_specdec.engines.servers.client import Client, RetryPolicy

PAYLOADS = Path(__file__).parents[1] / "engines" / "payloads"


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer to play."""

    body: str | bytes = "{}"
    status: int = 200
    location: str | None = None
    wait: float = 0.0
    """Seconds before the answer."""
    drip: float = 0.0
    """Seconds between its bytes."""
    cut: int | None = None
    """Bytes after which the connection closes, with a longer body announced."""
    reset: bool = False
    """Close without any answer."""


Play = Answer | Callable[[dict[str, Any]], Answer]


class Stage:
    """Plays, by path: the first answer first, the last one again and again."""

    def __init__(self, plays: dict[str, list[Play]]) -> None:
        self.plays, self.seen = plays, list[tuple[str, dict[str, Any]]]()
        self.lock, self.url = threading.Lock(), ""
        self.server: _Server | None = None
        self.restarts = 0
        self.headers: list[dict[str, str]] = []

    def next(self, path: str, body: dict[str, Any]) -> Answer:
        with self.lock:
            self.seen.append((path, body))
            waiting = self.plays.get(path, [Answer("not here", status=404)])
            play = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return play if isinstance(play, Answer) else play(body)

    def restart(self, pause: float = 0.2) -> None:
        """End the server as the end of its process would, and start it at the same address after so
        many seconds.
        """
        self.end()
        time.sleep(pause)
        self.restarts += 1
        self.begin(int(self.url.rpartition(":")[2]))

    def begin(self, port: int = 0) -> None:
        """Serve at a port, or at any that is free."""
        server = self.server = _Server(("127.0.0.1", port), _Handler)
        server.stage = self
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        serve = {"target": server.serve_forever, "kwargs": {"poll_interval": 0.02}}
        server.thread = threading.Thread(**serve, daemon=True)  # type: ignore[arg-type]
        server.thread.start()

    def end(self) -> None:
        """Close the listener and every connection."""
        server, self.server = self.server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        server.hang_up()
        server.thread.join()

    def request_count(self, path: str) -> int:
        return sum(requested == path for requested, _ in self.seen)

    def client(self, **patience: Any) -> Client:
        return Client(
            self.url,
            patience=RetryPolicy(**({"timeout": 5.0, "sleep": lambda seconds: None} | patience)),
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._play({})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self._play(json.loads(raw))

    def _play(self, body: dict[str, Any]) -> None:
        self.server.stage.headers.append(dict(self.headers))
        answer = self.server.stage.next(self.path, body)
        time.sleep(answer.wait)
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        data = answer.body.encode() if isinstance(answer.body, str) else answer.body
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(data)))
        if answer.location:
            self.send_header("Location", answer.location)
        self.end_headers()
        try:
            if answer.drip:
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(answer.drip)
            elif answer.cut is not None:
                self.wfile.write(data[: answer.cut])
                self.close_connection = True
            else:
                self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def finish(self) -> None:
        with suppress(ValueError, OSError):  # closed on purpose
            super().finish()

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    stage: Stage
    thread: threading.Thread
    daemon_threads = True

    def __init__(self, *given: Any) -> None:
        self.open = set[socket.socket]()
        super().__init__(*given)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for request in list(self.open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        pass


@contextmanager
def playing(plays: dict[str, list[Play]]) -> Iterator[Stage]:
    """A server that plays until the block ends."""
    stage = Stage(plays)
    stage.begin()
    try:
        yield stage
    finally:
        stage.end()


@contextmanager
def raw_server(
    parts: Sequence[bytes], *, drip: float, pause: float = 0.0, reads: bool = True
) -> Iterator[str]:
    """The address of a server that answers one connection by the letter.

    With `drip`, the first part comes at once and the rest byte by byte, so many seconds apart;
    without, each part answers one request, `pause` seconds after it. A server that does not read
    takes no request either.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                if not reads:
                    over.wait()
                elif drip:
                    connection.recv(1 << 16)
                    connection.sendall(parts[0])
                    for byte in b"".join(parts[1:]):
                        if over.wait(drip):
                            return
                        connection.sendall(bytes([byte]))
                else:
                    for part in parts:
                        connection.recv(1 << 16)
                        over.wait(pause)
                        connection.sendall(part)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.close()
        thread.join(5)


def payload(name: str) -> str:
    """A recorded answer of a real server."""
    return (PAYLOADS / name).read_text()
