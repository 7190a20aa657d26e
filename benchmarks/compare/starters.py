"""How the compared servers are started, each as a child process on a free port of the loopback interface."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sse_threaded.testing import GunicornServer, request
from sse_threaded.testing.errors import ServerFailed
from sse_threaded.testing.processes import POLL_SECONDS, ChildProcess
from tests.harness.postgres_server import PostgresServer
from tests.harness.redis_server import RedisServer
from tests.support import free_port

from ..common.paths import python_path
from .peers import APPS, Peers

_START_SECONDS = 30.0
_CONNECTIONS = 20_000

# A channel that no measured stream is in.
_START_CHANNEL = 9999

# The worker that parks streams.
PARKING_WORKER = "sse_threaded.worker.ThreadWorker"

# Threads for requests, where streams need none.
REQUEST_THREADS = 8


@dataclass(frozen=True)
class Setup:
    """The settings of a start.

    :ivar workers: how many processes it has.
    :ivar streams: how many streams there will be.
    :ivar directory: for its files.
    :ivar package: the checkout with this package; default ``None``: the one that measures.
    """

    workers: int
    streams: int
    directory: Path
    package: Path | None = None

    @property
    def threads(self) -> int:
        """How many threads a server needs that holds a thread for each stream.

        The hooks of gunicorn keep an eighth of the pool for ordinary requests.
        """
        return self.streams + self.streams // 7 + 64


@dataclass(frozen=True)
class RunningServer:
    """A server that runs.

    :ivar pids: the ids of its main processes; the first is the server's own.
    :ivar url: its address, without a slash at the end.
    """

    pids: tuple[int, ...]
    url: str


Starter = Callable[[Peers, Setup], AbstractContextManager[RunningServer]]
Command = Callable[[Peers, Setup, int], tuple[Sequence[str], dict[str, str]]]


def gunicorn(app: str, *flags: str, log: str | None = None, threads: int | None = None) -> Starter:
    """Return a function that starts one of our apps under gunicorn.

    :param app: ``module:name`` in ``apps``.
    :param flags: further flags of gunicorn.
    :param log: the URL of the log; default ``None``: a SQLite file.
    :param threads: how many threads; default ``None``: a thread for each stream.
    """

    @contextmanager
    def start(peers: Peers, setup: Setup) -> Iterator[RunningServer]:
        args = ["--chdir", str(APPS), "--workers", str(setup.workers), "--threads", str(threads or setup.threads)]
        args += ["--worker-connections", str(_CONNECTIONS), "--backlog", "4096", "--log-level", "warning", *flags]
        env = _environment(setup, log)
        with GunicornServer(app, args=args, env=env, cwd=setup.directory, timeout=_START_SECONDS) as server:
            _wait_until_it_publishes(server.url, lambda: not server.worker_pids(), server.output)
            try:
                yield RunningServer((server.pid,), server.url)
            finally:
                server.kill()  # its streams need no farewell

    return start


def parked(app: str = "ours:app", log: str | None = None) -> Starter:
    """Return a function that starts an app under the worker that parks streams."""
    return gunicorn(app, "-k", PARKING_WORKER, log=log, threads=REQUEST_THREADS)


@contextmanager
def with_redis(peers: Peers, setup: Setup) -> Iterator[RunningServer]:
    """Start the worker that parks streams with its log in Redis, and this Redis."""
    peers.redis()
    with (
        closing(RedisServer("--appendonly", "yes", "--loglevel", "warning")) as redis,
        parked(log=redis.url())(peers, setup) as server,
    ):
        yield RunningServer((*server.pids, redis.pid), server.url)


@contextmanager
def with_postgres(peers: Peers, setup: Setup) -> Iterator[RunningServer]:
    """Start the worker that parks streams with its log in PostgreSQL, and this PostgreSQL."""
    peers.postgres()
    with (
        closing(PostgresServer({"fsync": "on", "shared_buffers": "128MB"})) as postgres,
        parked(log=postgres.url())(peers, setup) as server,
    ):
        yield RunningServer((*server.pids, postgres.pid), server.url)


def board(query: str = "") -> Starter:
    """Return a function that starts the task board under the worker that parks streams.

    :param query: the query of the URL of its log, a SQLite file.
    """

    @contextmanager
    def start(peers: Peers, setup: Setup) -> Iterator[RunningServer]:
        env = {"PYTHONPATH": python_path(setup.package)}
        env["SSE_THREADED_URL"] = f"sqlite:///{setup.directory}/log.db{query}"
        args = ["--workers", str(setup.workers), "--threads", str(REQUEST_THREADS), "--log-level", "warning"]
        config = "python:sse_threaded.board.gunicorn_conf"
        with GunicornServer(
            config=config, args=args, env=env, cwd=setup.directory, timeout=_START_SECONDS
        ) as server:
            yield RunningServer((server.pid,), server.url)

    return start


def program(command: Command) -> Starter:
    """Return a function that starts a program.

    :param command: returns its arguments and environment variables, for a port of 127.0.0.1.
    """

    @contextmanager
    def start(peers: Peers, setup: Setup) -> Iterator[RunningServer]:
        port = free_port()
        arguments, env = command(peers, setup, port)
        path = setup.directory / "output"
        with path.open("w+b") as output:
            child = ChildProcess(arguments, output=output, env={**os.environ, **env}, cwd=setup.directory)
            try:
                server = RunningServer((child.pid,), f"http://127.0.0.1:{port}")
                _wait_until_it_publishes(
                    server.url, lambda: child.poll() is not None, lambda: path.read_text(errors="replace")
                )
                yield server
            finally:
                child.kill()

    return start


def waitress(app: str, threads: int | None = None) -> Starter:
    """Return a function that starts one of our apps under waitress.

    :param app: ``module:name`` in ``apps``.
    :param threads: how many threads; default ``None``: a thread for each stream.
    """

    def command(peers: Peers, setup: Setup, port: int) -> tuple[list[str], dict[str, str]]:
        # By default it polls by select(), which ends at 1,024 sockets.
        flags = ["--asyncore-use-poll", f"--connection-limit={_CONNECTIONS}", "--backlog=4096"]
        flags += [f"--threads={threads or setup.threads}", f"--listen=127.0.0.1:{port}"]
        env = _environment(setup)
        env["PYTHONPATH"] = os.pathsep.join([str(APPS), env["PYTHONPATH"]])
        return [sys.executable, "-m", "waitress", *flags, app], env

    return program(command)


def m0serve(app: str, *flags: str) -> Starter:
    """Return a function that starts a WSGI app under m0serve, whose default is a pool of one thread for each core.

    :param app: ``module:name`` in ``apps``.
    :param flags: further flags of m0serve.
    """

    def command(peers: Peers, setup: Setup, port: int) -> tuple[list[str], dict[str, str]]:
        arguments = ["--host", "127.0.0.1", "--port", str(port), "--app-dir", str(APPS)]
        arguments += ["--max-keepalive-requests", "0"]  # by default it closes a connection after 1,000 requests
        if setup.workers > 1:  # a number of workers alone turns the pool off
            arguments += ["--workers", str(setup.workers), "--blocking-threads", str(os.cpu_count())]
        return [peers.m0serve(), "-m", "m0serve", *arguments, *flags, app], {}

    return program(command)


def uvicorn(app: str) -> Starter:
    """Return a function that starts an ASGI app under uvicorn."""

    def command(peers: Peers, setup: Setup, port: int) -> tuple[list[str], dict[str, str]]:
        flags = ["--loop", "uvloop", "--http", "httptools", "--backlog", "4096", "--timeout-keep-alive", "60"]
        flags += ["--log-level", "warning", "--no-access-log", "--app-dir", str(APPS), "--port", str(port)]
        return [peers.python(), "-m", "uvicorn", *flags, app], {}

    return program(command)


def node(module: str) -> Starter:
    """Return a function that starts a program of node."""

    def command(peers: Peers, setup: Setup, port: int) -> tuple[list[str], dict[str, str]]:
        return ["node", str(APPS / module), str(port)], {"BENCH_NODE": peers.node()}

    return program(command)


@program
def nchan(peers: Peers, setup: Setup, port: int) -> tuple[list[str], dict[str, str]]:
    """Start nginx with nchan."""
    nginx, module = peers.nginx()
    configuration = setup.directory / "nginx.conf"
    text = (APPS / "nchan.conf").read_text()
    filled = text.replace("{words in braces}", "{{words in braces}}").format(
        user="user root;" if os.geteuid() == 0 else "",  # otherwise its workers may not use the folder
        module=module,
        workers=setup.workers,
        files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        connections=_CONNECTIONS,
        directory=setup.directory,
        port=port,
    )
    configuration.write_text(filled)
    log = str(setup.directory / "error.log")
    return [nginx, "-e", log, "-p", str(setup.directory), "-c", str(configuration)], {}


@program
def floor(peers: Peers, setup: Setup, port: int) -> tuple[list[str], dict[str, str]]:
    """Start the floor."""
    return [peers.floor(), str(port)], {}


def _environment(setup: Setup, log: str | None = None) -> dict[str, str]:
    return {
        "PYTHONPATH": python_path(setup.package),
        "BENCH_LOG": log or f"sqlite:///{setup.directory}/log.db",
    }


def _wait_until_it_publishes(url: str, has_ended: Callable[[], bool], output: Callable[[], str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        if has_ended() or time.monotonic() > deadline:
            lines = output().strip().splitlines()
            raise ServerFailed(f"it does not start: {(lines or ['no output'])[-1]}")
        try:
            answer = request("POST", f"{url}/publish?channel={_START_CHANNEL}", body=b"hi", timeout=2)
        except OSError:
            pass
        else:
            if answer.status // 100 == 2:
                return
        time.sleep(POLL_SECONDS)
