"""The programs on the hosts of a network: the board under gunicorn, redis-server, Sentinel.

The harness of the tests starts servers on this host only, so it cannot start these.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import redis

from sse_threaded.testing import request
from sse_threaded.testing.errors import ServerFailed
from sse_threaded.testing.processes import POLL_SECONDS, ChildProcess

from ..common.paths import BOARD_CONFIG
from .network import Host, Network

PAUSE, RESUME, RELOAD = signal.SIGSTOP, signal.SIGCONT, signal.SIGHUP
_START_SECONDS = 30.0


class HostProgram:
    """A program on a host, which can be killed and started again; a context manager.

    :param command: the program and its arguments, from :meth:`Network.on`.
    :param port: the port that it listens on.
    :param answers: returns whether the program answers.
    :param env: environment variables, in addition to those of this process.
    :ivar port: as given.
    """

    def __init__(
        self, command: Sequence[str], port: int, answers: Callable[[], bool], env: Mapping[str, str] | None = None
    ) -> None:
        self.port = port
        self._command = list(command)
        self._answers = answers
        others = ("GUNICORN_", "LISTEN_", "SSE_THREADED_")  # they would change the settings of the server
        kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        self._env = {**kept, **(env or {})}
        self._resources = ExitStack()
        self._output: IO[bytes] | None = None
        self._child: ChildProcess | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        :raises ServerFailed: it does not answer in time.
        """
        assert self._output is not None
        self._child = ChildProcess(self._command, output=self._output, env=self._env, cwd=None)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"{self._command} does not answer\n{self.output()}")
            time.sleep(POLL_SECONDS)

    def output(self) -> str:
        """Return its output so far."""
        assert self._output is not None
        descriptor = self._output.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")

    def signal(self, number: int) -> None:
        """Send a signal to its first process; for gunicorn, that is the master."""
        assert self._child is not None
        self._child.signal(number)

    def kill(self) -> None:
        """Kill all its processes (SIGKILL), if it runs."""
        if self._child is not None:
            self._child.kill()

    def __enter__(self) -> HostProgram:
        with ExitStack() as resources:
            self._output = resources.enter_context(tempfile.TemporaryFile())
            resources.callback(self.kill)
            self.start()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()


def redis_on(network: Network, host: Host, directory: str, *flags: str) -> HostProgram:
    """Return a redis-server that keeps its files in ``directory``.

    :param flags: further arguments, such as ``"--appendfsync", "always"``.
    """
    port = network.port(host, 6379)
    return _redis(network, host, port, ["--dir", directory, "--save", "", "--appendonly", "yes", *flags])


def sentinel_on(network: Network, host: Host, directory: str, master: tuple[str, int]) -> HostProgram:
    """Return a Sentinel that watches ``master``, named ``board``, and replaces it after 0.5 s of silence."""
    file = Path(directory) / "sentinel.conf"
    lines = [
        f"sentinel monitor board {master[0]} {master[1]} 1",
        "sentinel down-after-milliseconds board 500",
        "sentinel failover-timeout board 1000",
    ]
    file.write_text("\n".join(lines) + "\n")
    return _redis(network, host, network.port(host, 26379), ["--dir", directory], str(file), "--sentinel")


def _redis(network: Network, host: Host, port: int, flags: Sequence[str], *first: str) -> HostProgram:
    def answers() -> bool:
        try:
            with redis_client(host, port) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    # All addresses: its clients use the back, this process uses the front.
    addresses = [host.back] if host.back == host.front else [host.back, host.front]
    own = ["--bind", *addresses, "--port", str(port), "--protected-mode", "no"]
    names = [] if "--sentinel" in first else ["--replica-announce-ip", host.back]
    return HostProgram(network.on(host, ["redis-server", *first, *own, *names, *flags]), port, answers)


def redis_client(host: Host, port: int) -> redis.Redis:
    """Return a client of the driver, to inspect the server through the front."""
    return redis.Redis(host=host.front, port=port, socket_timeout=5, socket_connect_timeout=1, protocol=2)


def app_on(network: Network, host: Host, url: str, **settings: str) -> HostProgram:
    """Return the board with ``deploy/gunicorn.conf.py``: two parking workers.

    :param url: the URL of the log, as ``host`` reaches it.
    :param settings: further environment variables, without ``SSE_THREADED_``.
    """
    port = network.port(host, 3000)

    def answers() -> bool:
        try:
            return request("GET", f"http://{host.front}:{port}/healthz", timeout=5).status == 200
        except OSError:
            return False

    env = {"SSE_THREADED_URL": url} | {f"SSE_THREADED_{name}": value for name, value in settings.items()}
    bind = f"{host.front}:{port}"
    command = [sys.executable, "-m", "gunicorn", "-c", str(BOARD_CONFIG), "--bind", bind, "--log-level", "warning"]
    return HostProgram(network.on(host, command), port, answers, env)
