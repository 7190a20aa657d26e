"""The sizes of the tables and indexes while 200 events a second come, and old ones are trimmed."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg

from sse_threaded import Retention, open_log

from .servers import DATA, Servers

# Events a second. Every second one comes over a connection of the app.
RATE = 200

CHANNELS = 20

# Events of each channel that are kept: 50 seconds of them.
KEPT = 500

# How often the sizes are read while they run.
_LOOKS = 6

_TABLES = ("events", "numbers", "trimmed", "state")

_SIZES = """
SELECT c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid), s.n_dead_tup, s.autovacuum_count
FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid WHERE c.relname = ANY (%s)
"""


def sizes(servers: Servers, minutes: float) -> dict[str, Any]:
    """Publish for so many minutes, and read the sizes now and then."""
    url = servers.url("PostgreSQL")
    stop = threading.Event()
    failures: list[BaseException] = []
    log = open_log(url, Retention(count=KEPT, age=None))

    def publish() -> None:
        try:
            with psycopg.connect(url) as connection:
                begun, number = time.monotonic(), 0
                while not stop.wait(max(0.0, begun + number / RATE - time.monotonic())):
                    channel = f"channel-{number % CHANNELS}"
                    if number % 2:
                        log.append(channel, DATA, connection=connection)
                        connection.commit()
                    else:
                        log.append(channel, DATA)
                    number += 1
        except BaseException as error:
            failures.append(error)

    looks = []
    try:
        log.append("begin", "")
        log.open_doorbell()  # it starts the listener and the trimmer
        publisher = threading.Thread(target=publish)
        begun = time.monotonic()
        publisher.start()
        try:
            for number in range(1, _LOOKS + 1):
                time.sleep(max(0.0, begun + 60 * minutes * number / _LOOKS - time.monotonic()))
                looks.append({"minutes": minutes * number / _LOOKS, **_look(servers, url)})
        finally:
            stop.set()
            publisher.join()
        assert not failures, failures[0]
        given = log.last_sequence()
    finally:
        log.close()
    return {"minutes": minutes, "events": given, "looks": looks}


def _look(servers: Servers, url: str) -> dict[str, Any]:
    database = url.rpartition("/")[2]
    names = [f"sse_threaded_{name}" for name in _TABLES]
    rows = servers.postgres.ask(_SIZES, names, database=database)
    ((kept,),) = servers.postgres.ask("SELECT count(*) FROM sse_threaded_events", database=database)
    return {
        "kept": kept,
        "tables": {
            name.removeprefix("sse_threaded_"): {
                "table": table,
                "indexes": indexes,
                "dead": dead,
                "vacuums": vacuums,
            }
            for name, table, indexes, dead, vacuums in rows
        },
    }
