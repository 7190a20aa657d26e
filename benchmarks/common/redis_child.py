"""A redis-server of one's own for a measurement."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sse_threaded.testing.errors import ServerFailed
from sse_threaded.testing.processes import POLL_SECONDS, ChildProcess

from ..compare.peers import Peers

_START_SECONDS = 20.0


@dataclass(frozen=True)
class RedisChild:
    """A server that runs.

    :ivar pid: its process id.
    :ivar url: of a log in it.
    """

    pid: int
    url: str


@contextmanager
def redis_server(directory: Path, *flags: str) -> Iterator[RedisChild]:
    """Start a redis-server on a free port of 127.0.0.1, and end it.

    :param directory: for its files.
    :param flags: further arguments.
    :raises Missing: there is none on this machine.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Peers(None).redis(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    command += ["--save", "", "--loglevel", "warning", *flags]
    with (directory / "redis-output").open("w+b") as output:
        child = ChildProcess(command, output=output, env=dict(os.environ), cwd=directory)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(port):
                if child.poll() is not None or time.monotonic() > deadline:
                    said = (directory / "redis-output").read_text(errors="replace")
                    raise ServerFailed(f"redis-server does not start: {said}")
                time.sleep(POLL_SECONDS)
            yield RedisChild(child.pid, f"redis://127.0.0.1:{port}/0")
        finally:
            child.kill()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"
    except OSError:
        return False
