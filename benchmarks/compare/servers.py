"""The servers that are compared: how each is started, and what it can do."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sse_threaded.testing import GunicornServer, request
from sse_threaded.testing.errors import ServerFailed
from sse_threaded.testing.processes import POLL_SECONDS, ChildProcess
from tests.harness.redis_server import RedisServer
from tests.support import free_port

from ..common.file_limit import raise_file_limit
from ..common.paths import python_path
from .peers import APPS, Peers

THREADS = (100, 1000)
_START_SECONDS = 30.0
_CONNECTIONS = 20_000

# A channel that no measured stream is in.
_START_CHANNEL = 9999


@dataclass(frozen=True)
class Setup:
    """The settings of a start.

    :ivar workers: how many processes it has.
    :ivar streams: how many streams there will be.
    :ivar directory: for its files.
    """

    workers: int
    streams: int
    directory: Path


@dataclass(frozen=True)
class RunningServer:
    """A server that runs.

    :ivar pids: the ids of its main processes; the first is the server's own.
    :ivar url: its address, without a slash at the end.
    """

    pids: tuple[int, ...]
    url: str


Starter = Callable[[Peers, Setup], AbstractContextManager[RunningServer]]


@dataclass(frozen=True)
class Server:
    """One line of the tables.

    :ivar key: its name in options and in the JSON.
    :ivar title: its name in tables.
    :ivar start: starts it, and ends it when the ``with`` is left; raises ``Missing`` or ``ServerFailed``.
    :ivar streams: the numbers of streams with which it is measured; ``None``: all.
    :ivar workers: how many processes it may have and still deliver every event to all streams.
    :ivar replays: whether it can resume after a last event ID.
    :ivar bulk: whether its app can publish many events in one request.
    :ivar note: what a reader must know about it.
    """

    key: str
    title: str
    start: Starter
    streams: tuple[int, ...] | None = None
    workers: int = 1
    replays: bool = False
    bulk: bool = True
    note: str = ""


@contextmanager
def running(server: Server, peers: Peers, *, workers: int, streams: int) -> Iterator[RunningServer]:
    """Start a server, wait until its app has published an event, and end it.

    :raises Missing: it cannot be installed.
    :raises ServerFailed: it does not start.
    """
    raise_file_limit()  # the server inherits it
    with (
        tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True) as name,
        server.start(peers, Setup(workers, streams, Path(name))) as started,
    ):
        yield started


def gunicorn(app: str, *flags: str, log: str | None = None, threads: int | None = None) -> Starter:
    """Return a function that starts one of our apps under gunicorn.

    :param app: ``module:name`` in ``apps``.
    :param flags: further flags of gunicorn.
    :param log: the URL of the log; default ``None``: a SQLite file.
    :param threads: how many threads; default ``None``: a thread for each stream.
    """

    @contextmanager
    def start(peers: Peers, setup: Setup) -> Iterator[RunningServer]:
        # With a thread for each stream, the hooks keep an eighth of the pool for ordinary requests.
        count = threads or setup.streams + setup.streams // 7 + 64
        args = ["--chdir", str(APPS), "--workers", str(setup.workers), "--threads", str(count)]
        args += ["--worker-connections", str(_CONNECTIONS), "--backlog", "4096", "--log-level", "warning", *flags]
        env = {"PYTHONPATH": python_path(), "BENCH_LOG": log or f"sqlite:///{setup.directory}/log.db"}
        with GunicornServer(app, args=args, env=env, cwd=setup.directory, timeout=_START_SECONDS) as server:
            _wait_until_it_publishes(server.url, lambda: not server.worker_pids(), server.output)
            try:
                yield RunningServer((server.pid,), server.url)
            finally:
                server.kill()  # its streams need no farewell

    return start


def parked(app: str = "ours:app", log: str | None = None) -> Starter:
    """Return a function that starts an app under the worker that parks streams."""
    return gunicorn(app, "-k", "sse_threaded.worker.ThreadWorker", log=log, threads=8)


@contextmanager
def _with_redis(peers: Peers, setup: Setup) -> Iterator[RunningServer]:
    peers.redis()
    with (
        closing(RedisServer("--appendonly", "yes", "--loglevel", "warning")) as redis,
        parked(log=redis.url())(peers, setup) as server,
    ):
        yield RunningServer((*server.pids, redis.pid), server.url)


def _program(command: Callable[[Peers, Setup, int], tuple[Sequence[str], dict[str, str]]]) -> Starter:
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


def _uvicorn(app: str) -> Starter:
    def command(peers: Peers, setup: Setup, port: int) -> tuple[list[str], dict[str, str]]:
        flags = ["--loop", "uvloop", "--http", "httptools", "--backlog", "4096", "--timeout-keep-alive", "60"]
        flags += ["--log-level", "warning", "--no-access-log", "--app-dir", str(APPS), "--port", str(port)]
        return [peers.python(), "-m", "uvicorn", *flags, app], {}

    return _program(command)


def _node(program: str) -> Starter:
    def command(peers: Peers, setup: Setup, port: int) -> tuple[list[str], dict[str, str]]:
        return ["node", str(APPS / program), str(port)], {"BENCH_NODE": peers.node()}

    return _program(command)


def _nchan(peers: Peers, setup: Setup, port: int) -> tuple[list[str], dict[str, str]]:
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


def _floor(peers: Peers, setup: Setup, port: int) -> tuple[list[str], dict[str, str]]:
    return [peers.floor(), str(port)], {}


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


SERVERS = (
    Server("floor", "floor: one C thread, bare send()", _program(_floor), note="no log, no replay, no heartbeat"),
    Server(
        "parked",
        "**sse_threaded, parked**",
        parked(),
        workers=2,
        replays=True,
        note="-k sse_threaded.worker.ThreadWorker --threads 8, gunicorn_h1c; SQLite log, synchronous=full",
    ),
    Server(
        "parked-memory",
        "**sse_threaded, parked, memory://**",
        parked(log="memory://"),
        (1000,),
        replays=True,
        note="the same with its log in memory, which is lost when it ends, like nchan's",
    ),
    Server(
        "parked-redis",
        "**sse_threaded, parked, redis://**",
        _with_redis,
        (1000,),
        workers=2,
        replays=True,
        note="the same with its log in Redis, appendfsync=everysec; includes the processor time of Redis",
    ),
    Server(
        "plain",
        "**sse_threaded, plain gthread**",
        gunicorn("ours:app", "-k", "gthread", "-c", str(APPS / "hooks.py")),
        THREADS,
        workers=2,
        replays=True,
        note="a thread for each stream, so at most 1000 streams; gunicorn_h1c; SQLite log, synchronous=full",
    ),
    Server(
        "nchan",
        "nchan in nginx",
        _program(_nchan),
        workers=2,
        replays=True,
        bulk=False,
        note="history in shared memory, lost when nginx ends; it has no app, so each event is a POST",
    ),
    Server("node", "node http, raw", _node("node_raw.mjs"), note="no history"),
    Server("better-sse", "better-sse on node", _node("with_better_sse.mjs"), note="its history is not used"),
    Server("uvicorn", "uvicorn, raw ASGI", _uvicorn("raw_asgi:app"), note="uvloop, httptools; no history"),
    Server("sse-starlette", "sse-starlette on uvicorn", _uvicorn("with_sse_starlette:app"), note="no history"),
    Server(
        "naive",
        "gthread, naive",
        gunicorn("naive:app", "-k", "gthread"),
        THREADS,
        note="a thread and a queue for each stream, so at most 1000 streams; no history",
    ),
)

PARKED = next(server for server in SERVERS if server.key == "parked")
