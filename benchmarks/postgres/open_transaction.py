"""Publishes while a transaction of the app stays open that has written a row and an event."""

from __future__ import annotations

from typing import Any

import psycopg

from sse_threaded import open_log

from .programs import percentile, run
from .servers import Servers

THREADS = 8

# Seconds for the first figure, and for the last one.
_PART = 5


def open_transaction(servers: Servers, seconds: float) -> dict[str, Any]:
    """Publish for so long with eight threads, beside a transaction that is open from before until after."""
    url = servers.url("PostgreSQL")
    log = open_log(url)
    try:
        log.append("begin", "")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE app_rows (number integer)")
            connection.commit()
            connection.execute("INSERT INTO app_rows VALUES (1)")
            log.append("open", "open", connection=connection)
            answer = run("writers", url, THREADS, 1, seconds, seconds=seconds)
            connection.commit()
        log.ring()
        seen = log.read(log.last_sequence() - 1)
        assert [record.channel for record in seen] == ["open"], "its event is not the newest one"
    finally:
        log.close()
    part = min(_PART, int(seconds))
    counts, times = answer["counts"][: int(seconds)], answer["times"]
    return {
        "seconds": seconds,
        "threads": THREADS,
        "part": part,
        "first_rate": sum(counts[:part]) / part,
        "last_rate": sum(counts[-part:]) / part,
        "p50_ms": percentile(times, 0.5) / 1000,
        "p99_ms": percentile(times, 0.99) / 1000,
        "events": len(times),
    }
