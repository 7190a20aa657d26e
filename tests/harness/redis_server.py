"""A real redis-server on a free port, for tests: started, killed, paused, started again."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sse_threaded.testing.processes import ChildProcess
from tests.support import missing, reserved_port, wait_until

_names = itertools.count()

# Which server is started; Debian's packages have the same names.
program = "redis-server"


class RedisServer:
    """A server of its own, on the loopback interface, until :meth:`close`.

    :param flags: further arguments of redis-server, such as ``"--appendonly", "yes"``.
    :param host: the address to listen on; default 127.0.0.1.
    :param port: default a free one.
    :param sentinel: a configuration file with which it is a Sentinel; default ``None``.
    """

    def __init__(
        self, *flags: str, host: str = "127.0.0.1", port: int | None = None, sentinel: str | None = None
    ) -> None:
        path = shutil.which(program)
        if path is None:
            missing(f"{program} (apt-get install {program})")
        self._directory = tempfile.TemporaryDirectory(prefix="sse_threaded-redis-", ignore_cleanup_errors=True)
        self.host = host
        # While the server is down nobody else may have its port: the clients that wait for it would talk to them.
        self._reserved = reserved_port(host, port or 0)
        self.port: int = self._reserved.getsockname()[1]
        kind = ["--save", ""] if sentinel is None else ["--sentinel"]
        self._command = [path, *([sentinel] if sentinel else []), *kind, "--bind", host]
        self._command += ["--port", str(self.port), "--dir", self._directory.name]
        self._command += ["--protected-mode", "no", *flags]
        self._child: ChildProcess | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    def url(self, scheme: str = "redis", prefix: str | None = None) -> str:
        """A URL of this server, by default with a prefix that nobody has had."""
        return f"{scheme}://{self.host}:{self.port}/0?prefix={prefix or f't{next(_names)}'}"

    def client(self) -> redis.Redis:
        """A client of the driver's, for looking. A command is sent once: sent again it could come too late."""
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host=self.host, port=self.port, socket_timeout=30, retry=once, protocol=2)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (Path(self._directory.name) / "output").open("ab") as output:
            self._child = ChildProcess(
                self._command, output=output, env=dict(os.environ), cwd=self._directory.name
            )
        wait_until(self._answers, timeout=20, message=f"{program} answers")

    def _answers(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            raise AssertionError((Path(self._directory.name) / "output").read_text())
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._child is not None:
            self._child.kill()

    def tear(self, mark: bytes) -> None:
        """Once it is down, let its append-only file end within the last command that has ``mark`` in it."""
        files = [path for path in Path(self._directory.name).rglob("appendonly.aof*") if path.suffix == ".aof"]
        path = max(files, key=lambda path: path.name.count("incr"))
        os.truncate(path, path.read_bytes().rindex(mark) + len(mark))

    def pause(self) -> None:
        """Let it hang: it takes connections and answers nothing."""
        assert self._child is not None
        self._child.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it work again."""
        assert self._child is not None
        self._child.signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and remove its files; may be called twice."""
        self.kill()
        self._reserved.close()
        self._directory.cleanup()
