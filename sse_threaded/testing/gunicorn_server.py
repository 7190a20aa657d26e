"""The real gunicorn as a child process on a free port. A test can kill it and restart it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO

from gunicorn import version_info

from .errors import ServerFailed
from .processes import POLL_SECONDS, ChildProcess, process_table

_HOST = "127.0.0.1"

# Leaving the ``with`` first sends SIGTERM, so that the app can clean up, and after this time SIGKILL. An app whose
# streams ignore SIGTERM would otherwise take gunicorn's graceful_timeout.
_GOODBYE_SECONDS = 3.0

# This is not a request line. A worker that has loaded the app answers it with 400 and does not call the app. With
# the setting ``proxy_protocol`` gunicorn first waits for 12 bytes.
_PROBE = b"?" * 12 + b"\r\n\r\n"
_PROBE_SECONDS = 1.0

# The control socket came with gunicorn 25.1. By default all servers of a user share its path.
NO_CONTROL_SOCKET = ("--no-control-socket",) if version_info >= (25, 1) else ()

# How many bytes from the end of the output an error shows.
_SHOWN_BYTES = 20_000

# Variables that would change gunicorn's address or its settings.
_NOT_INHERITED = {"GUNICORN_CMD_ARGS", "GUNICORN_FD", "GUNICORN_PID", "LISTEN_FDS", "LISTEN_PID"}


class GunicornServer:
    """gunicorn, run by this Python as a child process; a context manager. Needs Linux (``/proc``).

    Entering returns when a worker answers. ``kill`` and ``restart`` keep the port; while the server is down,
    connections are refused. When an error leaves the ``with``, the output of gunicorn is written to standard
    error. No process is left behind, in whatever way the ``with`` or this process ends.

    ::

        with GunicornServer("shop.web:create_app()", args=["-k", "gthread", "--threads", "8"]) as server:
            request("GET", server.url + "/healthz")
            server.kill()
            server.restart()

    :param app: ``module:name`` or ``module:factory()``; default ``None``: the ``wsgi_app`` of ``config``.
    :param config: a configuration file; default ``None``: gunicorn's own default, ``gunicorn.conf.py`` in
        ``cwd`` if there is one.
    :param args: further arguments. The address comes after them and overrides theirs.
    :param env: environment variables, in addition to those of this process.
    :param cwd: the working directory, from which modules are imported; default ``None``: that of this process.
    :param timeout: seconds that starting may take, and each wait without its own timeout; default 30.
    :ivar port: the port; known inside the ``with``.
    """

    def __init__(
        self,
        app: str | None = None,
        *,
        config: str | os.PathLike[str] | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.port = 0
        self.timeout = timeout
        self._app = app
        self._config = config
        self._args = list(args)
        self._env = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        self._env["PYTHONUNBUFFERED"] = "1"  # the output of the app appears at once
        self._env.update(env or {})
        self._cwd = cwd
        self._resources = contextlib.ExitStack()
        self._output: IO[bytes] | None = None
        self._last_output = ""  # the content of the output when it was closed
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``, without a slash at the end."""
        return f"http://{_HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the master that was started last."""
        return self._running().pid

    def worker_pids(self) -> list[int]:
        """Return the process ids of the running children of the master, in ascending order."""
        return sorted(process.pid for process in process_table() if process.parent == self.pid)

    def output(self) -> str:
        """Return the output of the server so far, of all its starts; also after the ``with``."""
        if self._output is None:
            return self._last_output
        # pread, because the children write at the offset of the file, which they share with this process.
        descriptor = self._output.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Wait until a worker answers. Entering and ``restart`` call this.

        :param timeout: seconds; default ``None``: the timeout of the server.
        :raises ServerFailed: no worker answers in time, or the server ends.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self._answers():
            status = self._running().poll()
            if status is not None:
                raise self._failed(f"gunicorn ended with status {status} before it answered")
            if time.monotonic() > deadline:
                raise self._failed("gunicorn does not answer in time")
            time.sleep(POLL_SECONDS)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the server has ended, workers too; return the exit status of the master.

        :param timeout: seconds; default ``None``: the timeout of the server.
        :raises ServerFailed: it has not ended in time.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while (status := self._running().poll()) is None:
            if time.monotonic() > deadline:
                raise self._failed("gunicorn has not ended in time")
            time.sleep(POLL_SECONDS)
        return status

    def terminate(self) -> None:
        """Send SIGTERM: the master ends gracefully. Call ``wait`` to wait for its end."""
        self._running().signal(signal.SIGTERM)

    def hup(self) -> None:
        """Send SIGHUP: the master reloads its configuration and starts new workers with a new app."""
        self._running().signal(signal.SIGHUP)

    def kill(self) -> None:
        """Kill master and workers (SIGKILL); wait until they have ended."""
        self._running().kill()

    def restart(self) -> None:
        """End the server (SIGTERM) if it runs, start it on the same port, and wait until it answers.

        :raises ServerFailed: it does not end, or does not answer, in time.
        """
        self.terminate()
        self.wait()
        self._start()

    def __enter__(self) -> GunicornServer:
        with contextlib.ExitStack() as resources:
            self._output = resources.enter_context(tempfile.TemporaryFile())
            resources.callback(self._keep_output)
            # This process binds the port, and only gunicorn listens on it. So no other program can get the port
            # while the server is down. Connections are then refused, as after a real crash. With an
            # inherited listening socket (--bind fd://N) clients could connect to a dead server.
            reservation = resources.enter_context(socket.socket())
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reservation.bind((_HOST, 0))
            self.port = reservation.getsockname()[1]
            resources.callback(self._stop)
            self._start()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        if error is not None and not isinstance(error, ServerFailed):  # its text has the output already
            sys.stderr.write(f"\n{self._shown_output()}\n")
        self._resources.close()

    def _keep_output(self) -> None:
        self._last_output, self._output = self.output(), None

    def _start(self) -> None:
        command = [sys.executable, "-m", "gunicorn"]
        if self._config is not None:
            command += ["--config", os.fspath(self._config)]
        command += [*self._args, *NO_CONTROL_SOCKET, "--bind", f"{_HOST}:{self.port}"]
        if self._app is not None:
            command.append(self._app)
        assert self._output is not None
        self._child = ChildProcess(command, output=self._output, env=self._env, cwd=self._cwd)
        self.wait_until_ready()

    def _stop(self) -> None:
        if self._child is None:
            return
        self._child.signal(signal.SIGTERM)
        deadline = time.monotonic() + _GOODBYE_SECONDS
        while self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self._child.kill()

    def _running(self) -> ChildProcess:
        if self._child is None:
            raise ServerFailed("the server was not started: use it as a context manager")
        return self._child

    def _answers(self) -> bool:
        try:
            with socket.create_connection((_HOST, self.port), _PROBE_SECONDS) as probe:
                probe.sendall(_PROBE)
                return bool(probe.recv(1))
        except OSError:
            return False

    def _shown_output(self) -> str:
        tail = self.output()[-_SHOWN_BYTES:].rstrip()
        return f"--- output of gunicorn on {self.url}\n{tail}\n--- end of output"

    def _failed(self, what: str) -> ServerFailed:
        return ServerFailed(f"{what}\n{self._shown_output()}")
