"""Runs short Python programs in processes of their own that have imported Werkzeug already.

``python -c`` takes 0.1 s to import the package, most of it for Werkzeug. Here one process imports Werkzeug, and
each program runs in a fork of that process. The fork has no threads and no open files. It imports the package
itself, because the package has memory that forks share. It ends as any Python program does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sqlite3  # noqa: F401  # for the forks
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

import werkzeug.test  # noqa: F401  # for the forks

_SECONDS = 60
_LONGEST_MESSAGE = 1 << 17

_running: _WarmPython | None = None


def run_python(code: str, *arguments: object, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a program, and wait until all its processes have closed their output.

    :param code: the program; it may be indented.
    :param arguments: what it finds in ``sys.argv[1:]``.
    :param stderr: as for :func:`subprocess.run`.
    """
    global _running
    if _running is None:
        _running = _WarmPython()
        unittest.addModuleCleanup(_stop)
    return _running.run(textwrap.dedent(code), [str(argument) for argument in arguments], stderr)


def _stop() -> None:
    global _running
    if _running is not None:
        _running.close()
    _running = None


class _WarmPython:
    """The process that is forked."""

    def __init__(self) -> None:
        # It keeps the bounds of messages.
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.harness.warm_python", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def run(self, code: str, arguments: list[str], stderr: int) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile() as errors, open(os.devnull, "wb") as nowhere:
            reader, writer = os.pipe()
            files = {subprocess.PIPE: errors.fileno(), subprocess.DEVNULL: nowhere.fileno()}
            message = json.dumps({"code": code, "arguments": arguments}).encode()
            try:
                try:
                    socket.send_fds(self._socket, [message], [writer, files.get(stderr, writer)])
                finally:
                    os.close(writer)
                printed = self._read(reader)
            finally:
                os.close(reader)
            status = int(self._socket.recv(_LONGEST_MESSAGE))
            errors.seek(0)
            return subprocess.CompletedProcess(code, status, printed.decode(), errors.read().decode())

    def _read(self, reader: int) -> bytes:
        pieces = []
        deadline = time.monotonic() + _SECONDS
        while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            pieces.append(os.read(reader, 1 << 16))
            if not pieces[-1]:
                return b"".join(pieces)
        raise AssertionError(f"the program has not ended in {_SECONDS} s; it printed {b''.join(pieces)!r}")

    def close(self) -> None:
        # It is killed because it may wait for a program that hangs.
        self._socket.close()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def _main() -> None:
    orders = socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, _LONGEST_MESSAGE, 2)
        if not message:
            return
        pid = os.fork()
        if not pid:
            break
        for descriptor in descriptors:
            os.close(descriptor)
        orders.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    orders.close()
    for descriptor, standard in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    order = json.loads(message)
    sys.argv[:] = ["-c", *order["arguments"]]
    exec(compile(order["code"], "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    _main()
