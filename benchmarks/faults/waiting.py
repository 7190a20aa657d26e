"""Waits for conditions, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import redis

from sse_threaded.errors import LogError
from sse_threaded.testing.processes import POLL_SECONDS

_WAIT_SECONDS = 30.0
_AWAY = (redis.ConnectionError, redis.TimeoutError, psycopg.OperationalError, LogError)


def wait_until(condition: Callable[[], object], what: str, seconds: float = _WAIT_SECONDS) -> None:
    """Wait until ``condition()`` is true. A database that cannot be reached counts as false.

    :raises AssertionError: it does not become true in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except _AWAY:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {seconds:g} seconds: {what}")
        time.sleep(POLL_SECONDS)
