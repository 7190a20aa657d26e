"""The servers that are measured: how each is started, and what it has."""

from __future__ import annotations

import os
import resource
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sse_threaded.testing.errors import ServerFailed
from sse_threaded.testing.processes import POLL_SECONDS, ChildProcess

from .peers import APPS, Peers

ROOT = APPS.parents[2]
THREADS = (100, 1000)
_START_SECONDS = 30.0
_CONNECTIONS = 20_000


@dataclass(frozen=True)
class Start:
    """What a server is started with.

    :param port: to listen on, 127.0.0.1.
    :param workers: processes.
    :param streams: how many there will be.
    :param directory: for its files.
    """

    port: int
    workers: int
    streams: int
    directory: Path


@dataclass(frozen=True)
class Server:
    """One line of the tables.

    :ivar key: its name in options and in the JSON.
    :ivar title: its name in tables.
    :ivar command: the arguments and the environment's additions, for a start; raises ``Missing``.
    :ivar streams: numbers of streams it is measured with, ``None`` for all.
    :ivar workers: how many processes it may have and still deliver every event to all.
    :ivar replays: whether it can resume after a last event ID.
    :ivar bulk: whether its app can publish many events in one request.
    :ivar note: what a reader must know.
    """

    key: str
    title: str
    command: Callable[[Peers, Start], tuple[list[str], dict[str, str]]]
    streams: tuple[int, ...] | None = None
    workers: int = 1
    replays: bool = False
    bulk: bool = True
    note: str = ""


def _gunicorn(start: Start, app: str, *flags: str, log: str | None = None) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "gunicorn", "--chdir", str(APPS), "--bind", f"127.0.0.1:{start.port}"]
    command += ["--workers", str(start.workers), "--worker-connections", str(_CONNECTIONS), "--backlog", "4096"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {"PYTHONPATH": path, "BENCH_LOG": log or f"sqlite:///{start.directory}/log.db"}
    return [*command, "--no-control-socket", "--log-level", "warning", *flags, app], env


def _parked(log: str | None = None) -> Callable[[Peers, Start], tuple[list[str], dict[str, str]]]:
    def command(peers: Peers, start: Start) -> tuple[list[str], dict[str, str]]:
        return _gunicorn(start, "ours:app", "-k", "sse_threaded.worker.ThreadWorker", "--threads", "8", log=log)

    return command


def _with_redis(peers: Peers, start: Start) -> tuple[list[str], dict[str, str]]:
    port = _free_port()
    redis = [peers.redis(), "--port", str(port)]
    redis += ["--dir", str(start.directory), "--save", "", "--appendonly", "yes", "--loglevel", "warning"]
    command, env = _parked(f"redis://127.0.0.1:{port}")(peers, start)
    # Both in one group, so that what Redis takes is counted.
    return ["sh", "-c", f"{shlex.join(redis)} & exec {shlex.join(command)}"], env


def _threads(streams: int) -> str:
    # The hooks keep an eighth of the pool for ordinary requests.
    return str(streams + streams // 7 + 64)


def _plain(peers: Peers, start: Start) -> tuple[list[str], dict[str, str]]:
    hooks = str(APPS / "hooks.py")
    return _gunicorn(start, "ours:app", "-k", "gthread", "--threads", _threads(start.streams), "-c", hooks)


def _naive(peers: Peers, start: Start) -> tuple[list[str], dict[str, str]]:
    return _gunicorn(start, "naive:app", "-k", "gthread", "--threads", _threads(start.streams))


def _uvicorn(app: str) -> Callable[[Peers, Start], tuple[list[str], dict[str, str]]]:
    def command(peers: Peers, start: Start) -> tuple[list[str], dict[str, str]]:
        flags = ["--loop", "uvloop", "--http", "httptools", "--backlog", "4096", "--timeout-keep-alive", "60"]
        flags += ["--log-level", "warning", "--no-access-log", "--app-dir", str(APPS), "--port", str(start.port)]
        return [peers.python(), "-m", "uvicorn", *flags, app], {}

    return command


def _node(program: str) -> Callable[[Peers, Start], tuple[list[str], dict[str, str]]]:
    def command(peers: Peers, start: Start) -> tuple[list[str], dict[str, str]]:
        return ["node", str(APPS / program), str(start.port)], {"BENCH_NODE": peers.node()}

    return command


def _nchan(peers: Peers, start: Start) -> tuple[list[str], dict[str, str]]:
    nginx, module = peers.nginx()
    configuration = start.directory / "nginx.conf"
    text = (APPS / "nchan.conf").read_text()
    filled = text.replace("{words in braces}", "{{words in braces}}").format(
        user="user root;" if os.geteuid() == 0 else "",  # else its workers may not use the folder
        module=module,
        workers=start.workers,
        files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        connections=_CONNECTIONS,
        directory=start.directory,
        port=start.port,
    )
    configuration.write_text(filled)
    log = str(start.directory / "error.log")
    return [nginx, "-e", log, "-p", str(start.directory), "-c", str(configuration)], {}


def _floor(peers: Peers, start: Start) -> tuple[list[str], dict[str, str]]:
    return [peers.floor(), str(start.port)], {}


SERVERS = (
    Server("floor", "floor: one C thread, bare send()", _floor, note="no log, no replay, no heartbeat"),
    Server(
        "parked",
        "**sse_threaded, parked**",
        _parked(),
        workers=2,
        replays=True,
        note="-k sse_threaded.worker.ThreadWorker --threads 8, gunicorn_h1c; SQLite log, synchronous=full",
    ),
    Server(
        "parked-memory",
        "**sse_threaded, parked, memory://**",
        _parked("memory://"),
        (1000,),
        replays=True,
        note="the same with its log in memory, gone with it, as nchan's",
    ),
    Server(
        "parked-redis",
        "**sse_threaded, parked, redis://**",
        _with_redis,
        (1000,),
        workers=2,
        replays=True,
        note="the same with its log in Redis, appendfsync=everysec, whose processor time counts",
    ),
    Server(
        "plain",
        "**sse_threaded, plain gthread**",
        _plain,
        THREADS,
        workers=2,
        replays=True,
        note="a thread a stream, so up to 1000 of them; gunicorn_h1c; SQLite log, synchronous=full",
    ),
    Server(
        "nchan",
        "nchan in nginx",
        _nchan,
        workers=2,
        replays=True,
        bulk=False,
        note="history in shared memory, gone with nginx; each event is a POST, there is no app inside",
    ),
    Server("node", "node http, raw", _node("node_raw.mjs"), note="no history"),
    Server("better-sse", "better-sse on node", _node("with_better_sse.mjs"), note="no history used"),
    Server("uvicorn", "uvicorn, raw ASGI", _uvicorn("raw_asgi:app"), note="uvloop, httptools; no history"),
    Server("sse-starlette", "sse-starlette on uvicorn", _uvicorn("with_sse_starlette:app"), note="no history"),
    Server(
        "naive", "gthread, naive", _naive, THREADS, note="a thread and a queue a stream, so up to 1000; no history"
    ),
)


class Running:
    """A server that runs.

    :ivar pid: its main process's id, which is its group's.
    :ivar url: without a slash at the end.
    """

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.url = f"http://127.0.0.1:{port}"


@contextmanager
def running(server: Server, peers: Peers, *, workers: int, streams: int) -> Iterator[Running]:
    """Start a server and end it; raises ``Missing`` or ``ServerFailed``."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))  # the server inherits it
    with tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True) as name:
        port = _free_port()
        command, env = server.command(peers, Start(port, workers, streams, Path(name)))
        with (Path(name) / "output").open("w+b") as output:
            child = ChildProcess(command, output=output, env={**os.environ, **env}, cwd=name)
            try:
                _wait(child, port, Path(name) / "output")
                yield Running(child.pid, port)
            finally:
                child.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(child: ChildProcess, port: int, output: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    request = b"POST /publish?channel=9999 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
    while True:
        if child.poll() is not None or time.monotonic() > deadline:
            said = output.read_text(errors="replace").strip().splitlines()
            raise ServerFailed(f"it does not start: {(said or ['it says nothing'])[-1]}")
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as connection:
                connection.sendall(request)
                if connection.recv(12).startswith(b"HTTP/1.1 2"):
                    return
        except OSError:
            pass
        time.sleep(POLL_SECONDS)
