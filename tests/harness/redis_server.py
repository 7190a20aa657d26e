"""A real redis-server on a free port, for tests and benchmarks: started, killed, paused, started again."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from pathlib import Path

from tests.harness.server_program import ServerProgram
from tests.support import missing

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError:  # RedisServer says so
    redis = None  # type: ignore[assignment]

_names = itertools.count()

# Which server is started; Debian's packages have the same names.
program = "redis-server"


class RedisServer(ServerProgram):
    """A server of its own, on the loopback interface, from its making until :meth:`close`.

    :param flags: further arguments of redis-server, such as ``"--appendonly", "yes"``.
    :param host: the address to listen on; default 127.0.0.1.
    :param port: default a free one.
    :param sentinel: a configuration file with which it is a Sentinel; default ``None``.
    """

    def __init__(
        self, *flags: str, host: str = "127.0.0.1", port: int | None = None, sentinel: str | None = None
    ) -> None:
        if redis is None:
            missing("redis (pip install '.[redis]')")
        path = shutil.which(program)
        if path is None:
            missing(f"{program} (apt-get install {program})")
        self._files = tempfile.TemporaryDirectory(prefix="sse_threaded-redis-", ignore_cleanup_errors=True)
        kind = ["--save", ""] if sentinel is None else ["--sentinel"]
        command = [path, *([sentinel] if sentinel else []), *kind, "--bind", host]
        super().__init__(program, command, Path(self._files.name))
        self.host = host
        # While the server is down nobody else may have its port: the clients that wait for it would talk to them.
        self.port = self.reserve_port(host, port or 0)
        self._command += ["--port", str(self.port), "--dir", self._files.name, "--protected-mode", "no", *flags]
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RedisServer:
        return self  # it was started when it was made

    def url(self, scheme: str = "redis", prefix: str | None = None) -> str:
        """A URL of this server, by default with a prefix that nobody has had."""
        return f"{scheme}://{self.host}:{self.port}/0?prefix={prefix or f't{next(_names)}'}"

    def client(self) -> redis.Redis:
        """A client of the driver's, for looking. A command is sent once: sent again it could come too late."""
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host=self.host, port=self.port, socket_timeout=30, retry=once, protocol=2)

    def is_answering(self) -> bool:
        """Whether it answers a PING, if only that it wants a password."""
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def tear(self, mark: bytes) -> None:
        """Once it is down, let its append-only file end within the last command that has ``mark`` in it."""
        files = [path for path in self._directory.rglob("appendonly.aof*") if path.suffix == ".aof"]
        path = max(files, key=lambda path: path.name.count("incr"))
        os.truncate(path, path.read_bytes().rindex(mark) + len(mark))

    def pause(self) -> None:
        """Let it hang: it takes connections and answers nothing."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it work again."""
        self.signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and remove its files; may be called twice."""
        super().close()
        self._files.cleanup()
