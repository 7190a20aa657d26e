"""The board under gunicorn, and the ways to replace its server that gunicorn's manual describes.

``sse_threaded.testing.GunicornServer`` cannot do this: it starts ``python -m gunicorn``, which SIGUSR2 cannot
start again, and it hands no listening socket over.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from sse_threaded.testing import request
from sse_threaded.testing.errors import ServerFailed
from sse_threaded.testing.processes import POLL_SECONDS, ChildProcess, process_table

from ..common.paths import BOARD_CONFIG, python_path

# The program that the README starts.
_GUNICORN = Path(sysconfig.get_path("scripts")) / "gunicorn"

# Starts a Python program as systemd starts a service with a .socket unit (sd_listen_fds(3)): the listening socket
# is descriptor 3. Its arguments: the number of the inherited socket, then the arguments of Python.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""

# Seconds that starting, ending and one answer may take.
_SECONDS = 30.0


class BoardServer:
    """The board under gunicorn, and the ways to replace it; a context manager.

    :param directory: for its files.
    :param log_url: the URL of the log.
    :param retry: the reconnection time in milliseconds.
    :param activated: whether this process keeps the listening socket, as systemd does.
    """

    def __init__(self, directory: Path, log_url: str, retry: int, *, activated: bool = False) -> None:
        self._directory = directory
        self._activated = activated
        self._resources = contextlib.ExitStack()
        self._listener = self._resources.enter_context(socket.socket())
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        if activated:
            self._listener.listen(4096)  # as systemd does
        self.port: int = self._listener.getsockname()[1]
        others = ("GUNICORN", "LISTEN", "SSE_THREADED")  # they would change the settings of the server
        kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        bind = f"127.0.0.1:{self.port}"
        own = {"SSE_THREADED_URL": log_url, "SSE_THREADED_RETRY": str(retry), "SSE_THREADED_BIND": bind}
        self._env = {**kept, **own, "PYTHONPATH": python_path()}
        self._child: ChildProcess | None = None

    def __enter__(self) -> BoardServer:
        try:
            self._start()
            self._await("an answer", self._answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._child is not None:
            self._child.kill()
        self._resources.close()

    def _start(self) -> None:
        command = [
            str(_GUNICORN),
            "-c",
            str(BOARD_CONFIG),
            "--pid",
            str(self._directory / "pid"),
            "--backlog",
            "4096",
        ]
        if self._activated:
            command = ["-c", ACTIVATE, str(self._listener.fileno()), *command]
        with (self._directory / "output").open("ab") as output:
            self._child = ChildProcess(
                [sys.executable, *command],
                output=output,
                env=self._env,
                cwd=self._directory,
                pass_fds=[self._listener.fileno()] if self._activated else [],
            )

    def hup(self) -> None:
        """Send SIGHUP: the same master starts new workers; wait until the old ones have ended."""
        master = self._pid()  # it writes its file anew, which is not there for a moment
        before = self._workers(master)
        os.kill(master, signal.SIGHUP)
        self._await("the old workers' end", lambda: not before & self._workers(master))

    def usr2(self, wait: float) -> float:
        """Send SIGUSR2: a new master starts beside the old one. Then end the old one.

        Returns when the old master got SIGTERM (monotonic seconds).

        :param wait: seconds between the start of the new workers and that SIGTERM.
        """
        old = self._pid()
        workers = self._workers(old)
        os.kill(old, signal.SIGUSR2)
        pid = self._directory / "pid.2"
        self._await("the new master", lambda: pid.exists() and pid.read_text().strip())
        new = int(pid.read_text())
        self._await("its workers", lambda: len(self._workers(new)) == len(workers))
        time.sleep(wait)
        ended = time.monotonic()
        # gunicorn's manual sends SIGWINCH first, which ends only the workers. But only a daemon obeys it.
        os.kill(old, signal.SIGTERM)
        self._await("the old master's end", lambda: old not in self._running_pids())
        return ended

    def restart(self) -> None:
        """Restart it as ``systemctl restart`` does, while a .socket unit keeps the listening socket."""
        assert self._child is not None
        self._child.signal(signal.SIGTERM)
        self._await("its end", lambda: self._child is not None and self._child.poll() is not None)
        self._start()
        self._await("an answer", self._answers)

    def _pid(self) -> int:
        return int((self._directory / "pid").read_text())

    @staticmethod
    def _running_pids() -> set[int]:
        return {process.pid for process in process_table()}

    @staticmethod
    def _workers(master: int) -> set[int]:
        return {process.pid for process in process_table() if process.parent == master}

    def _answers(self) -> bool:
        try:
            return request("GET", f"http://127.0.0.1:{self.port}/healthz", timeout=5).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _await(self, what: str, condition: Callable[[], object], seconds: float = _SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                said = (self._directory / "output").read_text(errors="replace")[-5000:]
                raise ServerFailed(f"not in {seconds:g} s: {what}\n{said}")
            time.sleep(POLL_SECONDS)
