"""Python processes that start as forks of one that has pytest and torch loaded.

Starting pytest and importing torch and transformers takes a new process seconds, and its own tests
a fraction of one. Tests that need processes of their own (workers of xdist, sessions that are
interrupted) start them through a `WarmPython`; what a process does after its start is the same.
Tests of the start itself take `sys.executable`.

This file is also the program of both sides, started without site-packages where only the standard
library is needed: `serve` keeps the loaded process, `start` stands for the interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import socket
import stat
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

READY = "ready"
LOADED = ("transformers.models.llama.modeling_llama", "scipy.stats")
"""Beside all modules of the package."""


class WarmPython(contextlib.AbstractContextManager["WarmPython"]):
    """While entered, `executable` starts Python processes for `-c CODE`, `-m MODULE` and scripts as
    forks, and with other options as the interpreter does.
    """

    def __init__(self, folder: Path) -> None:
        self.executable = folder / "warm-python"
        # A socket's path may have 107 characters; those of pytest's folders can be longer.
        self._sockets = tempfile.TemporaryDirectory(prefix="warm-")
        self._address = str(Path(self._sockets.name) / "socket")

    def __enter__(self) -> WarmPython:
        starter = f"'{sys.executable}' -IS '{__file__}' start '{self._address}'"
        command = f"exec {starter} '{self.executable}' \"$@\"\n"
        self.executable.write_text(f"#!/bin/sh\n{command}")
        self.executable.chmod(self.executable.stat().st_mode | stat.S_IXUSR)
        self._server = subprocess.Popen(
            [sys.executable, __file__, "serve", self._address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._sockets.name,
            text=True,
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline().strip() == READY
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.communicate()  # closes its standard input, at which it ends
        self._sockets.cleanup()


def serve(address: str) -> None:
    """Load what a session needs, then fork for every request until standard input ends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    _load()
    gc.freeze()  # a collection in a child would copy all pages
    print(READY, flush=True)
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _answer(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _load() -> None:
    """Import what takes long. Plugins of pytest are loaded by a session without tests, since pytest
    rewrites their assertions as it imports them.
    """
    import pytest

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir=.", "."])
    for name in LOADED:
        importlib.import_module(name)
    import_package()


def import_package() -> None:
    """Import all modules of the package."""
    import pytest_specdec

    for module in pkgutil.walk_packages(pytest_specdec.__path__, "pytest_specdec."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _answer(connection: socket.socket) -> NoReturn:
    """Become the process that was asked for; a process beside it waits and reports its status."""
    request, streams = _received(connection)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.executable = request["executable"]  # processes that it starts are warm, too
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    status = _status(request["arguments"])
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # tearing down all that was loaded would take longer than most tests


def _status(arguments: list[str]) -> int:
    """The exit status of running it."""
    try:
        _run(arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _received(connection: socket.socket) -> tuple[dict, list[int]]:
    """The request, and copies of the three standard streams of the process that made it."""
    text, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 16)
    return json.loads(text), streams


def _run(arguments: list[str]) -> None:
    """What the interpreter does with `-c CODE`, `-m MODULE` or a script; of other options -u alone."""
    places = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:] = [*places, *(place for place in sys.path[1:] if place not in places)]
    option, *rest = [argument for argument in arguments if argument != "-u"]
    if option == "-c":
        code, *rest = rest
        sys.argv, sys.path = ["-c", *rest], ["", *sys.path]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        return
    if not option.startswith("-"):
        sys.argv, sys.path = [option, *rest], [os.path.dirname(os.path.abspath(option)), *sys.path]
        runpy.run_path(option, run_name="__main__")
        return
    module, *rest = [option[2:], *rest] if option[2:] else rest
    sys.argv, sys.path = [module, *rest], [os.getcwd(), *sys.path]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def start(address: str, executable: str, *arguments: str) -> int:
    """Ask for a process with this one's arguments, environment, folder and streams, and wait for
    its exit status.
    """
    option = next((argument for argument in arguments if argument != "-u"), "-")
    if option.startswith("-") and not option.startswith(("-c", "-m")):
        os.execv(sys.executable, [sys.executable, *arguments])
    request = {
        "executable": executable,
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b" "], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        status = connection.recv(16)
    return int(status or 1)


if __name__ == "__main__":
    role, *given = sys.argv[1:]
    sys.exit({"serve": serve, "start": start}[role](*given))
