"""Ordinary requests over kept connections: a GET of a bare app, and the POST of the board."""

from __future__ import annotations

from typing import Any

from sse_threaded.bench.errors import CannotBench

from . import starters
from .peers import Missing, Peers
from .request_load import RequestLoad
from .servers import Server, running, with_packages
from .trial import Trial

# How many connections are kept. With one, each request waits for the answer before it.
CONNECTIONS = (1, 16)

_SECONDS = 1.5

# Seconds of POSTs before those that are measured: an append looks more closely at a folder that was changed a
# moment ago, and the log was made just now.
_WARM_UP_SECONDS = 4.0

BARE = (
    Server("floor", "floor: one C thread", starters.floor, needs=Peers.floor),
    Server("worker", "**worker of sse_threaded**", starters.parked("bare:app"), ours=True),
    Server(
        "gthread",
        "gunicorn, gthread",
        starters.gunicorn("bare:app", "-k", "gthread", threads=starters.REQUEST_THREADS),
    ),
    Server("uvicorn", "uvicorn, raw ASGI", starters.uvicorn("bare_asgi:app"), needs=Peers.python),
    Server("m0serve", "m0serve", starters.m0serve("bare:app"), needs=Peers.m0serve),
    Server(
        "waitress",
        "waitress",
        starters.waitress("bare:app", starters.REQUEST_THREADS),
        needs=lambda peers: peers.importable("waitress"),
    ),
)

BOARDS = (
    Server("full", "synchronous=full", starters.board(), ours=True),
    Server("normal", "synchronous=normal", starters.board("?synchronous=normal"), ours=True),
)

_TASK = '{"title":"New task"}'


def gets(trial: Trial) -> dict[str, Any]:
    """GETs of a WSGI app, or ASGI app, that answers two bytes."""
    found: dict[str, Any] = {"left_out": {}}
    for server in with_packages(BARE, trial.packages):
        try:
            if server.needs is not None:
                server.needs(trial.peers)
        except Missing as error:
            found["left_out"][server.key] = str(error)
            continue
        found |= _requests(trial, server, "/", None)
    return found


def board_posts(trial: Trial) -> dict[str, Any]:
    """POSTs of new tasks to the board; its log is a SQLite file."""
    found: dict[str, Any] = {}
    for server in with_packages(BOARDS, trial.packages):
        found |= _requests(trial, server, "/boards/board-1/tasks", _TASK)
    return found


def _requests(trial: Trial, server: Server, path: str, body: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with running(server, trial.peers, workers=1, streams=0) as started:
        load = RequestLoad(trial.peers, started, path, body)
        if body is not None:
            load.measure(1, _WARM_UP_SECONDS)
        for connections in CONNECTIONS:
            try:
                result = load.measure(connections, _SECONDS * trial.share)
            except CannotBench as error:
                raise CannotBench(f"{server.key}: {error}") from None
            found[request_figure(server.key, connections, "us")] = result.us
            found[request_figure(server.key, connections, "rate")] = result.rate
            found[request_figure(server.key, connections, "client")] = result.share
    return found


def request_figure(server: str, connections: int, name: str) -> str:
    """Return the name of a figure: ``us`` is processor time a request, ``client`` the client's share of a core."""
    return f"{server}_{connections}_{name}"
