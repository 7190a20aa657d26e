"""The board under gunicorn, replaced in the ways that gunicorn's manual names; and who publishes meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sse_threaded.testing import request
from sse_threaded.testing.errors import ServerFailed
from sse_threaded.testing.processes import POLL_SECONDS, ChildProcess, process_table

from ..compare.servers import ROOT

CONFIG = ROOT / "deploy" / "gunicorn.conf.py"
TASKS = "/boards/board-1/tasks"

# As the README starts it; what "python -m gunicorn" was started as cannot be started anew by SIGUSR2.
_GUNICORN = Path(sysconfig.get_path("scripts")) / "gunicorn"

# What systemd does for a service that has a .socket unit (sd_listen_fds(3)): the socket is descriptor 3. It takes
# the number of the socket that it inherits, and the arguments of the Python that it becomes.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""

# Seconds that starting, ending and one answer may take.
_SECONDS = 30.0


class Publisher:
    """Publishes at a steady rate over one connection, from a thread; a context manager.

    :param port: of a server on 127.0.0.1.
    :param rate: events a second.

    :ivar ids: of the events that were answered, in order.
    :ivar refused: connections that were refused.
    :ivar cut: new connections that were closed before an answer.
    :ivar failure: what ended the thread, ``None`` while nothing has.
    """

    def __init__(self, port: int, rate: float) -> None:
        self._port = port
        self._rate = rate
        self._connection: http.client.HTTPConnection | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.ids: list[str] = []
        self.refused = self.cut = 0
        self.failure: BaseException | None = None

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._disconnect()

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                due += 1 / self._rate
                while not self._post() and not self._stopping.wait(POLL_SECONDS):
                    pass
        except BaseException as error:
            self.failure = error

    def _post(self) -> bool:
        fresh = self._connection is None
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            self._connection.request("POST", TASKS, b'{"title":"New"}', {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            answer.read()
        except ConnectionRefusedError:
            self.refused += 1
            self._disconnect()
            return False
        except (OSError, http.client.HTTPException):
            # A server may end a connection between two requests (RFC 9112, section 9.5); not before the first.
            self.cut += fresh
            self._disconnect()
            return False
        if answer.status != 201:
            raise AssertionError(f"a task was answered with {answer.status}")
        self.ids.append(answer.headers["Last-Event-ID"])
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Service:
    """The board under gunicorn, and how it is replaced; a context manager.

    :param directory: for its files.
    :param log_url: where events are kept.
    :param retry: the reconnection time, milliseconds.
    :param activated: whether the listening socket is kept here, as systemd does.
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
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        others = ("GUNICORN", "LISTEN", "SSE_THREADED")  # what would make it another server
        kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        bind = f"127.0.0.1:{self.port}"
        own = {"SSE_THREADED_URL": log_url, "SSE_THREADED_RETRY": str(retry), "SSE_THREADED_BIND": bind}
        self._env = {**kept, **own, "PYTHONPATH": path}
        self._child: ChildProcess | None = None

    def __enter__(self) -> Service:
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
        command = [str(_GUNICORN), "-c", str(CONFIG), "--pid", str(self._directory / "pid"), "--backlog", "4096"]
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
        """SIGHUP: the same master, new workers."""
        before = self._workers(self._pid())
        os.kill(self._pid(), signal.SIGHUP)
        self._await("the old workers' end", lambda: not before & self._workers(self._pid()))

    def usr2(self, looks: float) -> float:
        """SIGUSR2: a new master beside the old one, which is then ended; returns when that was (monotonic).

        :param looks: seconds in between.
        """
        old = self._pid()
        workers = self._workers(old)
        os.kill(old, signal.SIGUSR2)
        pid = self._directory / "pid.2"
        self._await("the new master", lambda: pid.exists() and pid.read_text().strip())
        new = int(pid.read_text())
        self._await("its workers", lambda: len(self._workers(new)) == len(workers))
        time.sleep(looks)
        ended = time.monotonic()
        # gunicorn's manual has SIGWINCH first, which ends the workers alone; it heeds that as a daemon only.
        os.kill(old, signal.SIGTERM)
        self._await("the old master's end", lambda: old not in self._living())
        return ended

    def restart(self) -> None:
        """As ``systemctl restart`` does where a .socket unit keeps the listening socket."""
        assert self._child is not None
        self._child.signal(signal.SIGTERM)
        self._await("its end", lambda: self._child is not None and self._child.poll() is not None)
        self._start()
        self._await("an answer", self._answers)

    def _pid(self) -> int:
        return int((self._directory / "pid").read_text())

    @staticmethod
    def _living() -> set[int]:
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
