"""Compares ways to bring the events of concurrent transactions into one order, in SQL alone.

``pgbench`` publishes over 1, 8 and 32 connections, without a pause. Each transaction has one event, and one
connection listens. Each way has a database of its own, on the same server.
"""

from __future__ import annotations

import re
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sse_threaded import open_log
from sse_threaded.log.postgres.schema import fill
from sse_threaded.log.postgres.url import parse_url
from tests.harness.postgres_server import PostgresServer, find_program

from .publishing import WRITERS
from .servers import DATA

_SQL = Path(__file__).parent / "sql"

# Channels of the events.
_CHANNELS = 20

# Connections that publish while a transaction stays open.
_BESIDE_OPEN = 8

# Connections that publish while each flush takes longer, and by how much, in microseconds.
_SLOW, SLOW_MICROSECONDS = 32, 2000

# Seconds for the first figure beside an open transaction, and for the last one.
_PART = 3

# Seconds between two looks of a process that gives numbers without being woken.
_LOOK = 0.005

_GRACE = 60.0

_CHANNEL = f"\\set number random(1, {_CHANNELS})\n"
_INSERT = f"INSERT INTO events (channel, data) VALUES ('channel-' || :number, '{DATA}');\n"
_RING = "SELECT pg_notify('bell', '');\n"


@dataclass(frozen=True)
class Way:
    """One way.

    :ivar key: its name in the JSON.
    :ivar title: its name in the table.
    :ivar script: publishes one event, for pgbench.
    :ivar insert: adds one event in an open transaction.
    :ivar seen: counts the events that readers see.
    :ivar schema: the file that makes the tables; empty: they are those of the package.
    :ivar numberer: which process gives numbers: ``"listener"``, that of the package; ``"looks"``, one that looks
        for events every few milliseconds; default: empty, if none is needed.
    :ivar is_compared: whether it is a way at all, and not only a measure of the server; default ``True``.
    """

    key: str
    title: str
    script: str
    insert: str
    seen: str
    schema: str = ""
    numberer: str = ""
    is_compared: bool = True


_OPEN_INSERT = f"INSERT INTO events (channel, data) VALUES ('channel-open', '{DATA}')"
_SEEN_BELOW = "SELECT count(*) FROM events WHERE transaction < pg_snapshot_xmin(pg_current_snapshot())"
# Of the package's own tables and functions; the names are filled in.
_OWN_APPEND = (
    "SELECT epoch, last "
    f"FROM {{append}}(ARRAY['channel-' || :number], ARRAY[NULL], ARRAY['{DATA}'], NULL, NULL);\n"
)
_OWN_INSERT = f"SELECT {{publish}}('channel-' || :number, '{DATA}', NULL, %s);\n"
_OWN_OPEN = f"SELECT {{publish}}('channel-open', '{DATA}', NULL, false)"
_OWN_SEEN = "SELECT count(*) FROM {numbers}"

WAYS = (
    Way(
        "insert",
        "an INSERT alone: no order, no `NOTIFY`",
        _INSERT,
        _OPEN_INSERT,
        _SEEN_BELOW,
        "oldest_running",
        is_compared=False,
    ),
    Way(
        "at-commit",
        "(a) a trigger numbers at the commit",
        _INSERT,
        _OPEN_INSERT,
        "SELECT count(*) FROM numbers",
        "at_commit",
    ),
    Way(
        "oldest-running",
        "(b) readers wait for the oldest transaction",
        f"BEGIN;\n{_INSERT}{_RING}COMMIT;\n",
        _OPEN_INSERT,
        _SEEN_BELOW,
        "oldest_running",
    ),
    Way("publish", "(c) ours, `publish` by itself", _OWN_APPEND, _OWN_OPEN, _OWN_SEEN),
    Way(
        "append",
        "(c) ours, the app's transaction; a process numbers, woken or awake",
        _OWN_INSERT % "true",
        _OWN_OPEN,
        _OWN_SEEN,
        numberer="listener",
    ),
    Way(
        "append-looked",
        f"(c) the same without `NOTIFY`; a process looks every {1000 * _LOOK:.0f} ms",
        _OWN_INSERT % "false",
        _OWN_OPEN,
        _OWN_SEEN,
        numberer="looks",
    ),
)


def ways(server: PostgresServer, seconds: float, open_seconds: float) -> list[dict[str, Any]]:
    """Measure each way.

    :param seconds: for how long each number of connections publishes.
    :param open_seconds: for how long they publish while one transaction stays open that has added an event.
    """
    return [_measure(server, way, seconds, open_seconds) for way in WAYS]


def _measure(server: PostgresServer, way: Way, seconds: float, open_seconds: float) -> dict[str, Any]:
    with _made(server, way) as made:
        made.publish(2, 0.5)  # the caches
        found: dict[str, Any] = {"key": way.key, "title": way.title}
        for writers in WRITERS:
            found[str(writers)] = made.publish(writers, seconds).rate
        with _slow_flush(server):
            found["slow"] = made.publish(_SLOW, seconds).rate
        if not way.is_compared:
            return found
        made.wait_until_all_are_seen()
        with server.connect(made.database) as connection, connection.transaction():
            connection.execute(made.filled(way.insert))
            before = made.seen()
            beside = made.publish(_BESIDE_OPEN, open_seconds)
            if way.numberer:
                time.sleep(0.5)  # for the last ones
            found["seen"] = min(1.0, (made.seen() - before) / beside.count)
        found["open_first"], found["open_last"] = beside.part(0, _PART), beside.part(-_PART, None)
        made.wait_until_all_are_seen()
        return found


@contextmanager
def _slow_flush(server: PostgresServer) -> Iterator[None]:
    """Let each flush take longer, as on a slower disk. Commits at the same time still share one."""
    server.set("commit_siblings", "0")
    server.set("commit_delay", str(SLOW_MICROSECONDS))
    try:
        yield
    finally:
        server.set("commit_delay", "0")


@contextmanager
def _made(server: PostgresServer, way: Way) -> Iterator[_Made]:
    """Make the database of a way, and start the processes that it needs beside the writers."""
    database = server.make_database()
    with ExitStack() as stack:
        number: Callable[[], object] = int  # it does nothing
        if way.schema:
            with server.connect(database) as connection:
                connection.execute((_SQL / f"{way.schema}.sql").read_text())
            stack.enter_context(_listening(server, database, "bell"))
        else:
            log = open_log(server.url(database))
            stack.callback(log.close)
            log.append("begin", "")
            number = log.ring
            if way.numberer == "listener":
                log.open_doorbell()  # it starts the listener, which gives numbers
            else:
                stack.enter_context(_listening(server, database, parse_url(server.url(database)).bell))
            if way.numberer == "looks":
                stack.enter_context(_repeated(log.ring, _LOOK))
        yield _Made(server, database, way, number)


@contextmanager
def _listening(server: PostgresServer, database: str, bell: str) -> Iterator[None]:
    """Listen, as each process with streams does."""
    with server.connect(database) as connection:
        connection.execute(f'LISTEN "{bell}"')
        pgconn = connection.pgconn

        def hear() -> None:
            if select.select([pgconn.socket], [], [], 0.1)[0]:
                pgconn.consume_input()
                while pgconn.notifies():
                    pass

        with _repeated(hear, 0.0):
            yield


@contextmanager
def _repeated(action: Callable[[], object], pause: float) -> Iterator[None]:
    """Call a function again and again on a thread."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(pause):
            action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class _Answer:
    """What pgbench said.

    :ivar count: transactions.
    :ivar rate: transactions a second.
    :ivar rates: the same of each second.
    """

    count: int
    rate: float
    rates: list[float]

    def part(self, first: int, last: int | None) -> float:
        """Return the mean rate of some of the seconds."""
        rates = self.rates[first:last]
        return sum(rates) / len(rates)


class _Made:
    """The database of a way.

    :param number: gives numbers to the events that have none.
    :ivar database: its name.
    """

    def __init__(self, server: PostgresServer, database: str, way: Way, number: Callable[[], object]) -> None:
        self.database = database
        self._number = number
        self._server = server
        self._way = way
        self._script = server.folder / f"{database}.script"
        self._script.write_text(_CHANNEL + self.filled(way.script))

    def filled(self, text: str) -> str:
        """Return SQL with the names of the package's tables in it."""
        return text if self._way.schema else fill(parse_url(self._server.url(self.database)), text)

    def seen(self) -> int:
        """Return how many events readers see."""
        ((count,),) = self._server.ask(self.filled(self._way.seen), database=self.database)
        return int(count)

    def wait_until_all_are_seen(self) -> None:
        """Wait until readers see all events that were committed."""
        events = "events" if self._way.schema else self.filled("{events}")
        deadline = time.monotonic() + _GRACE
        while True:
            self._number()
            ((count,),) = self._server.ask(f"SELECT count(*) FROM {events}", database=self.database)
            seen = self.seen()
            if seen == count:
                return
            assert time.monotonic() < deadline, f"readers see {seen} of {count} events"
            time.sleep(0.05)

    def publish(self, connections: int, seconds: float) -> _Answer:
        """Publish over so many connections for so long."""
        program = find_program("pgbench")
        assert program is not None, "pgbench is not installed (apt-get install postgresql)"
        place = ["-h", str(self._server.folder), "-p", str(self._server.port), "-U", self._server.user]
        how = ["-n", "-M", "extended", "-P", "1", "-c", str(connections), "-j", "1"]
        how += ["-T", str(max(1, round(seconds))), "-f", str(self._script)]
        done = subprocess.run(
            [program, *place, *how, self.database],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds + _GRACE,
            check=False,
        )
        assert done.returncode == 0, f"pgbench failed: {done.stdout}"
        count = re.search(r"actually processed: (\d+)", done.stdout)
        rate = re.search(r"tps = ([\d.]+) \(without", done.stdout)
        assert count and rate, done.stdout
        rates = [float(each) for each in re.findall(r"progress: [\d.]+ s, ([\d.]+) tps", done.stdout)]
        return _Answer(int(count[1]), float(rate[1]), rates or [float(rate[1])])
