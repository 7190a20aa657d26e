"""The servers that are compared, and their abilities."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..common.file_limit import raise_file_limit
from . import starters
from .peers import APPS, Peers
from .starters import RunningServer, Setup, Starter

THREADS = (100, 900, 1000)

# Between the key of one of our servers and the name of another checkout of this package.
AT = "@"


@dataclass(frozen=True)
class Server:
    """One line of the tables.

    :ivar key: its name in options and in the JSON.
    :ivar title: its name in tables.
    :ivar start: starts it, and ends it when the ``with`` is left; raises ``Missing`` or ``ServerFailed``.
    :ivar streams: the numbers of streams with which it is measured; ``None``: all.
    :ivar bound: why it cannot have more streams; default: empty, if it can.
    :ivar workers: how many processes it may have and still deliver every event to all streams.
    :ivar replays: whether it can resume after a last event ID.
    :ivar bulk: whether its app can publish many events in one request.
    :ivar note: what a reader must know about it.
    :ivar needs: installs it; raises ``Missing``; ``None``: it needs only this package.
    :ivar ours: whether it runs this package. Another checkout of the package can then be measured too.
    :ivar package: the checkout; default ``None``: the one that measures.
    """

    key: str
    title: str
    start: Starter
    streams: tuple[int, ...] | None = None
    bound: str = ""
    workers: int = 1
    replays: bool = False
    bulk: bool = True
    note: str = ""
    needs: Callable[[Peers], object] | None = None
    ours: bool = False
    package: Path | None = None


@contextmanager
def running(server: Server, peers: Peers, *, workers: int, streams: int) -> Iterator[RunningServer]:
    """Start a server, wait until its app has published an event, and end it.

    :raises Missing: it cannot be installed.
    :raises ServerFailed: it does not start.
    """
    raise_file_limit()  # the server inherits it
    with (
        tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True) as name,
        server.start(peers, Setup(workers, streams, Path(name), server.package)) as started,
    ):
        yield started


def at_package(key: str, name: str) -> str:
    """Return the key of one of our servers, run from another checkout.

    :param name: the name of this checkout.
    """
    return f"{key}{AT}{name}"


def with_packages(servers: Iterable[Server], packages: Mapping[str, Path]) -> list[Server]:
    """Return the servers; after each of ours come those that run the package of another checkout.

    :param packages: the names of the other checkouts and their folders.
    """
    found = []
    for server in servers:
        found.append(server)
        for name, folder in packages.items() if server.ours else ():
            title = f"{server.title}, {name}"
            note = "the same of another checkout of this package"
            found.append(replace(server, key=at_package(server.key, name), title=title, note=note, package=folder))
    return found


SERVERS = (
    Server(
        "floor",
        "floor: one C thread, bare send()",
        starters.floor,
        note="no log, no replay, no heartbeat",
        needs=Peers.floor,
    ),
    Server(
        "parked",
        "**sse_threaded, parked**",
        starters.parked(),
        workers=2,
        replays=True,
        note="-k sse_threaded.worker.ThreadWorker --threads 8, gunicorn_h1c; SQLite log, synchronous=full",
        ours=True,
    ),
    Server(
        "parked-memory",
        "**sse_threaded, parked, memory://**",
        starters.parked(log="memory://"),
        (900, 1000),
        replays=True,
        note="the same with its log in memory, which is lost when it ends, like those of nchan and m0serve",
        ours=True,
    ),
    Server(
        "parked-redis",
        "**sse_threaded, parked, redis://**",
        starters.with_redis,
        (1000,),
        workers=2,
        replays=True,
        note="the same with its log in Redis, appendfsync=everysec; includes the processor time of Redis",
        needs=Peers.redis,
        ours=True,
    ),
    Server(
        "parked-postgres",
        "**sse_threaded, parked, postgresql://**",
        starters.with_postgres,
        (1000,),
        workers=2,
        replays=True,
        note="the same with its log in PostgreSQL, synchronous_commit=on; includes its processor time",
        needs=Peers.postgres,
        ours=True,
    ),
    Server(
        "parked-flask",
        "**sse_threaded, parked, in Flask**",
        starters.parked("with_flask:app"),
        (1000,),
        replays=True,
        note="the same; the app is two views of Flask, and one returns the stream",
        needs=lambda peers: peers.importable("flask"),
        ours=True,
    ),
    Server(
        "plain",
        "**sse_threaded, plain gthread**",
        starters.gunicorn("ours:app", "-k", "gthread", "-c", str(APPS / "hooks.py")),
        THREADS,
        bound="because each holds a thread",
        workers=2,
        replays=True,
        note="a thread for each stream, so at most 1000 streams; gunicorn_h1c; SQLite log, synchronous=full",
        ours=True,
    ),
    Server(
        "waitress",
        "**sse_threaded, plain, in waitress**",
        starters.waitress("ours:app"),
        (100,),
        bound="because its main thread looks at all connections for each chunk",
        replays=True,
        note="a thread for each stream; one process; SQLite log, synchronous=full",
        needs=lambda peers: peers.importable("waitress"),
        ours=True,
    ),
    Server(
        "nchan",
        "nchan in nginx",
        starters.nchan,
        workers=2,
        replays=True,
        bulk=False,
        note="history in shared memory, lost when nginx ends; it has no app, so each event is a POST",
        needs=Peers.nginx,
    ),
    Server(
        "m0serve",
        "m0serve, no durable log",
        starters.m0serve("with_m0serve:app", "--realtime"),
        (100, 900),
        bound="because a process takes at most 1,024 connections",
        workers=2,
        replays=True,
        note="as in its manual, a WSGI view answers with two headers, and the server, in Mojo, holds the stream. "
        "It has no durable log: it replays from memory, by default at most the newest 64 events. Its event ids "
        "begin at 1 after each start. It drops events of a large burst: of 2000 in one request a stream misses "
        "some. Its streams end without a reconnection time",
        needs=Peers.m0serve,
    ),
    Server("node", "node http, raw", starters.node("node_raw.mjs"), note="no history", needs=Peers.node),
    Server(
        "better-sse",
        "better-sse on node",
        starters.node("with_better_sse.mjs"),
        note="its history is not used",
        needs=Peers.node,
    ),
    Server(
        "uvicorn",
        "uvicorn, raw ASGI",
        starters.uvicorn("raw_asgi:app"),
        note="uvloop, httptools; no history",
        needs=Peers.python,
    ),
    Server(
        "sse-starlette",
        "sse-starlette on uvicorn",
        starters.uvicorn("with_sse_starlette:app"),
        note="no history",
        needs=Peers.python,
    ),
    Server(
        "naive",
        "gthread, naive",
        starters.gunicorn("naive:app", "-k", "gthread"),
        THREADS,
        bound="because each holds a thread",
        note="a thread and a queue for each stream, so at most 1000 streams; no history",
    ),
)

PARKED = next(server for server in SERVERS if server.key == "parked")
