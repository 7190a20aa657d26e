"""One reload under load: replaces the server in one way while many clients follow it."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path

from sse_threaded.testing.processes import POLL_SECONDS

from ..common.board_log import numbers_in_log
from .board_server import BoardServer
from .clients import ClientLoop
from .publisher import RepeatingPublisher
from .result import Result, compared

EVENTS = "/boards/board-1/events"

# Seconds.
_OPEN_SECONDS = 120.0
_BACK_SECONDS = 60.0

# How long events are published before the reload, and after it.
_BEFORE, _AFTER = 2.0, 2.0

# An operator takes so long to see that the new master works, before ending the old one.
_WAIT_SECONDS = 2.0


def run(
    kind: str, log_url: str, directory: Path, *, streams: int, rate: float, retry: int, wait: float = _WAIT_SECONDS
) -> Result:
    """Run the board, replace its server under load, and count.

    :param kind: one of :data:`.result.KINDS`.
    :param log_url: the URL of the log.
    :param directory: for its files.
    :param streams: how many clients.
    :param rate: events a second.
    :param retry: the reconnection time in milliseconds.
    :param wait: see :meth:`.board_server.BoardServer.usr2`.
    """
    with (
        BoardServer(directory, log_url, retry, activated=kind == "socket") as server,
        ClientLoop(server.port, EVENTS, streams) as clients,
    ):
        _wait_for([clients], lambda: clients.following == streams, _OPEN_SECONDS)
        with RepeatingPublisher(server.port, rate) as publisher:
            time.sleep(_BEFORE)
            begun = time.monotonic()
            if kind == "hup":
                server.hup()
            elif kind == "usr2":
                begun = server.usr2(wait)
            else:
                server.restart()
            # A client that is turned away may take twice as long.
            limit = 3 * retry / 1000 + _BACK_SECONDS

            def all_are_back() -> bool:
                return clients.following == streams and len(clients.returns) >= streams

            _wait_for([clients, publisher], all_are_back, limit)
            time.sleep(_AFTER)
        numbers = numbers_in_log(log_url)
        last = array("q", numbers[-1:])
        _wait_for([clients, publisher], lambda: all(each.sequences[-1:] == last for each in clients.all), 10.0)
        return compared(clients, publisher, numbers, begun)


def _wait_for(
    threads: Iterable[ClientLoop | RepeatingPublisher], condition: Callable[[], bool], seconds: float
) -> None:
    # It raises no error when the time is over: the result shows what is missing.
    deadline = time.monotonic() + seconds
    while True:
        for each in threads:
            if each.failure is not None:
                raise each.failure
        if condition() or time.monotonic() >= deadline:
            return
        time.sleep(POLL_SECONDS)
