"""Publishes now and then, in a process that has no stream: URL WAY EVENTS.

The ways: ``publish``; ``append``, over a connection of the app, whose transaction also has a row of the app; and
``append-ring``, the same with ``ring()`` after the commit. The data of an event is its number, from 0. The program
prints one line of JSON: for each event the times before and after the call that commits it, in nanoseconds of the
monotonic clock, which all processes share.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

from sse_threaded import Hub

CHANNEL = "measured"
WAYS = ("publish", "append-ring", "append")

# The longest pause before an event, in seconds. It varies, so that no event meets a timer of the server again and
# again.
_PAUSE = 0.04

Commit = Callable[[int], tuple[int, int]]


def publish(hub: Hub) -> Commit:
    """Return a function that publishes one event by itself."""

    def commit(number: int) -> tuple[int, int]:
        begun = time.monotonic_ns()
        hub.publish(CHANNEL, str(number))
        return begun, time.monotonic_ns()

    return commit


def append(hub: Hub, url: str, rings: bool) -> Commit:
    """Return a function that commits a row of the app together with an event.

    :param rings: whether it calls ``ring()`` after the commit.
    """
    connection: Any
    if url.startswith("sqlite:"):
        connection, mark = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10), "?"
    else:
        import psycopg  # noqa: PLC0415 an extra

        connection, mark = psycopg.connect(url), "%s"
    connection.execute("CREATE TABLE app_rows (number integer)")
    connection.commit()

    def commit(number: int) -> tuple[int, int]:
        connection.execute(f"INSERT INTO app_rows VALUES ({mark})", (number,))
        hub.log.append(CHANNEL, str(number), connection=connection)
        begun = time.monotonic_ns()
        connection.commit()
        if rings:
            hub.log.ring()
        return begun, time.monotonic_ns()

    return commit


def main(url: str, way: str, events: int) -> None:
    """Publish, and print the times."""
    with Hub(url) as hub:
        commit = publish(hub) if way == "publish" else append(hub, url, way == "append-ring")
        times = []
        for number in range(events):
            time.sleep(random.uniform(_PAUSE / 4, _PAUSE))
            times.append(commit(number))
    sys.stdout.write(json.dumps({"times": times}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
