"""A server that is a program of its own: started, waited for, ended. The base of nginx, Caddy, redis-server.

A test makes one for any other command::

    port = free_port()
    with ServerProgram("cheroot", command, directory, answers_http(f"http://127.0.0.1:{port}/healthz")) as server:
        ...
    print(server.output())
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sse_threaded.testing import request
from sse_threaded.testing.processes import ChildProcess
from tests.support import reserved_port, wait_until

Self = TypeVar("Self", bound="ServerProgram")

_SECONDS = 30


def answers_http(url: str) -> Callable[[], bool]:
    """A function that tells whether a GET of ``url`` is answered with 200."""

    def answers() -> bool:
        try:
            return request("GET", url).status == 200
        except (OSError, http.client.HTTPException):
            return False

    return answers


class ServerProgram:
    """A program in a process group of its own, until the ``with`` is left.

    :param name: for messages.
    :param command: the program and its arguments.
    :param directory: its working directory; the file ``output`` in it has all that the program prints.
    :param answers: tells whether it is ready; default: a subclass has :meth:`is_answering`.
    :param env: its environment; default: this process's.
    :param timeout: seconds within which it must answer after a start; default 30.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        answers: Callable[[], bool] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = _SECONDS,
    ) -> None:
        self.name = name
        self._timeout = timeout
        self._command = list(command)
        self._directory = directory
        self._answers = answers
        self._env = dict(os.environ if env is None else env)
        self._child: ChildProcess | None = None
        self._reserved: list[socket.socket] = []

    @property
    def pid(self) -> int:
        """The process id of the one last started."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child.pid

    def reserve_port(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """A port, by default a free one, that nobody else gets until :meth:`close`, also while it is down."""
        self._reserved.append(reserved_port(host, port))
        number: int = self._reserved[-1].getsockname()[1]
        return number

    def output(self) -> str:
        """All that it has printed, through all its starts."""
        return (self._directory / "output").read_text(errors="replace")

    def is_answering(self) -> bool:
        """Whether it is ready for clients."""
        assert self._answers is not None
        return self._answers()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._directory / "output").open("ab") as output:
            self._child = ChildProcess(self._command, output=output, env=self._env, cwd=self._directory)
        wait_until(self._is_ready, timeout=self._timeout, message=f"{self.name} to answer")

    def _is_ready(self) -> bool:
        if self.poll() is not None:
            raise AssertionError(f"{self.name} has ended: {self.output()}")
        return self.is_answering()

    def poll(self) -> int | None:
        """Its exit status, or ``None`` while it runs."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child.poll()

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended."""
        if self._child is not None:
            self._child.signal(number)

    def wait(self, timeout: float = _SECONDS) -> int:
        """Wait until it has ended by itself; returns its exit status.

        :param timeout: seconds; default 30.
        """
        wait_until(lambda: self.poll() is not None, timeout=timeout, message=f"{self.name} to end")
        status = self.poll()
        assert status is not None
        return status

    def kill(self) -> None:
        """End it at once, as a crash would; may be called twice."""
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """End it, and give its ports back; may be called twice."""
        self.kill()
        for each in self._reserved:
            each.close()

    def __enter__(self: Self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def replaced(path: Path, changes: Mapping[str, str]) -> str:
    """The text of a configuration file, with other text in the place of some of it.

    :raises AssertionError: the file has no such text.
    """
    text = path.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{path.name} has no {old!r}"
        text = text.replace(old, new)
    return text
