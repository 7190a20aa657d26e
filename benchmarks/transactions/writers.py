"""Threads of apps that write rows and append events in their own transactions, and note what became of each.

Each row has a name, and its event has the same name as its data. So rows and events can be compared.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg

from sse_threaded import EventLog, LogError, LogUnavailable, open_log
from sse_threaded.log.postgres.errors import AnswerLost
from sse_threaded.log.postgres.schema import name
from sse_threaded.log.postgres.url import parse_url

TABLE = "transactions_rows"

# The channels, and how often each gets an event. A client of the silent one misses nothing, whatever is lost.
CHANNELS = {"a": 20, "b": 20, "quiet": 1, "silent": 0}

INSERT = f"INSERT INTO {TABLE} (name, channel) VALUES (%s, %s)"

# Shares: transactions that are rolled back, delays that are long, and commits after which the app rings.
_ROLLED_BACK, _LONG, _RUNG = 1 / 3, 0.05, 0.5

# Seconds: the longest delay inside a transaction, and a long one; between two tries to connect.
_DELAY, _LONG_DELAY, _AGAIN = 0.02, 0.3, 0.1

_CONNECT_SECONDS = 2


class Ledger:
    """What the writers know of their rows. Every row in no set may be committed or not: no answer came.

    :ivar committed: the names of the rows whose commit was acknowledged.
    :ivar rolled_back: the names of the rows that are certainly not committed.
    :ivar without_row: the names of the events that were appended alone, without a row.
    :ivar ids: by name, channel and id of each event that had an id at once: those of ``append`` alone, and those
        of the log's own transactions.
    :ivar order: for each writer the names of its events, in the order in which it has appended them.
    :ivar complaints: errors that no fault explains.
    """

    def __init__(self) -> None:
        self.committed: set[str] = set()
        self.rolled_back: set[str] = set()
        self.without_row: set[str] = set()
        self.ids: dict[str, tuple[str, str]] = {}
        self.order: dict[str, list[str]] = {}
        self.complaints: list[str] = []
        self.counts: dict[str, int] = {}
        self._lock = threading.Lock()  # guards the counts

    def count(self, kind: str) -> None:
        """Count a transaction of this kind."""
        with self._lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1


class App(NamedTuple):
    """A process of the app, here some threads of this one.

    :ivar url: of the database, for psycopg.
    :ivar log: the log.
    :ivar publish: the name of the SQL function that appends an event.
    """

    url: str
    log: EventLog
    publish: str


class Writer:
    """One thread with one connection.

    :param title: begins the names of its rows.
    :param app: its process.
    :param ledger: where it notes what became of its rows.
    :param seed: the same seed gives the same transactions.
    :ivar held: a row of the transaction that stays open now; ``None`` if none does.
    """

    def __init__(self, title: str, app: App, ledger: Ledger, seed: int) -> None:
        self._title = title
        self._url = app.url
        self._log = app.log
        self._ledger = ledger
        self._chance = random.Random(f"{seed} {title}")
        self._number = 0
        self._order = ledger.order.setdefault(title, [])
        self._connection: psycopg.Connection[Any] | None = None
        self._stopping = threading.Event()
        self.held: str | None = None
        self._publish = f"SELECT {app.publish}(%s, %s, NULL, false)"
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "own transactions": (8, self._own),
            "with savepoints": (4, self._with_savepoints),
            "prepared": (3, self._prepared),
            "append() alone": (3, self._alone),
            "of the log": (2, self._of_log),
        }
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Let it end after its transaction; :meth:`join` waits for that."""
        self._stopping.set()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def hold(self, seconds: float) -> None:
        """Instead of :meth:`start`: write one event in each transaction, and let each stay open for so long."""
        self._kinds = {"held open": (1, lambda: self._own(seconds))}
        self._thread.start()

    def _run(self) -> None:
        kinds = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        while not self._stopping.is_set():
            (kind,) = self._chance.choices(kinds, weights)
            try:
                self._kinds[kind][1]()
            except (psycopg.OperationalError, psycopg.InterfaceError, LogUnavailable):
                self._drop_connection()
                self._stopping.wait(_AGAIN)
            except Exception as error:
                self._ledger.complaints.append(f"{self._title}, {kind}: {type(error).__name__}: {error}")
                self._drop_connection()
                self._stopping.wait(_AGAIN)
            else:
                self._ledger.count(kind)

    # The connection.

    def _connected(self) -> psycopg.Connection[Any]:
        while self._connection is None:
            try:
                # The statements BEGIN and COMMIT are those below.
                # A pooler may share its connections, so nothing is prepared.
                options: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS, "prepare_threshold": None}
                self._connection = psycopg.connect(self._url, autocommit=True, **options)
            except psycopg.OperationalError:
                if self._stopping.is_set():
                    raise
                time.sleep(_AGAIN)
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _execute(self, statement: str, values: Sequence[object] = ()) -> str:
        return self._connected().execute(statement.encode(), values or None).statusmessage or ""

    # The parts of a transaction.

    def _pause(self) -> None:
        seconds = _LONG_DELAY if self._chance.random() < _LONG else self._chance.random() * _DELAY
        time.sleep(seconds)

    def _next(self, names: list[str]) -> tuple[str, str]:
        """Add the name of another row to the names; return it and its channel."""
        self._number += 1
        names.append(f"{self._title}-{self._number}")
        (channel,) = self._chance.choices(list(CHANNELS), list(CHANNELS.values()))
        return names[-1], channel

    def _write(self, names: list[str], *, is_prepared: bool = False) -> None:
        """Write a row and its event, in any order, and add its name to the names."""
        row, channel = self._next(names)

        def insert() -> None:
            self._execute(INSERT, (row, channel))

        def append() -> None:
            if is_prepared:  # PostgreSQL prepares no transaction that notifies
                self._execute(self._publish, (channel, row))
            else:
                self._log.append(channel, row, connection=self._connected())

        first, second = self._chance.sample([insert, append], 2)
        first()
        self._pause()
        second()
        if not is_prepared:
            self._order.append(row)

    @contextmanager
    def _transaction(self) -> Iterator[list[str]]:
        """Begin a transaction; after the block commit it or roll it back. The block adds the names of its rows."""
        names: list[str] = []
        self._execute("BEGIN")
        try:
            yield names
        except BaseException:
            self._ledger.rolled_back.update(names)
            raise
        if self._chance.random() < _ROLLED_BACK:
            self._ledger.rolled_back.update(names)
            self._execute("ROLLBACK")
        elif (status := self._execute("COMMIT")) != "COMMIT":
            self._ledger.complaints.append(f"{self._title}: COMMIT was answered by {status}")
        else:
            self._ledger.committed.update(names)
            if self._chance.random() < _RUNG:
                self._log.ring()

    # The kinds of transactions.

    def _own(self, held: float = 0.0) -> None:
        with self._transaction() as names:
            for _ in range(self._chance.randint(1, 3)):
                self._write(names)
            self._pause()
            if held:
                self.held = names[0]
                self._stopping.wait(held)
                self.held = None

    def _with_savepoints(self) -> None:
        with self._transaction() as names:
            for _ in range(self._chance.randint(1, 3)):
                self._write(names)
                self._execute("SAVEPOINT here")
                inside: list[str] = []
                try:
                    for _ in range(self._chance.randint(1, 2)):
                        self._write(inside)
                    is_kept = self._chance.random() < 0.5
                    verb = "RELEASE" if is_kept else "ROLLBACK TO"
                    self._execute(f"{verb} SAVEPOINT here")
                except BaseException:
                    names.extend(inside)
                    raise
                if is_kept:
                    names.extend(inside)
                else:
                    self._ledger.rolled_back.update(inside)
                self._pause()

    def _prepared(self) -> None:
        names: list[str] = []
        self._execute("BEGIN")
        try:
            self._write(names, is_prepared=True)
        except BaseException:
            self._ledger.rolled_back.update(names)
            raise
        (row,) = names
        self._execute(f"PREPARE TRANSACTION '{row}'")
        self._pause()
        is_rolled_back = self._chance.random() < _ROLLED_BACK
        if is_rolled_back:
            self._ledger.rolled_back.add(row)
        if (
            self._end_prepared(f"{'ROLLBACK' if is_rolled_back else 'COMMIT'} PREPARED '{row}'")
            and not is_rolled_back
        ):
            self._ledger.committed.add(row)

    def _end_prepared(self, statement: str) -> bool:
        """Run the statement until there is an answer; return whether it has had its effect now."""
        while True:
            try:
                self._execute(statement)
            except psycopg.errors.UndefinedObject:
                return False  # an earlier try has done it, or a replica that took over does not know it
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self._drop_connection()
                if self._stopping.wait(_AGAIN):
                    raise
            else:
                return True

    def _alone(self) -> None:
        names: list[str] = []
        event, channel = self._next(names)
        self._ledger.without_row.add(event)
        try:
            self._ledger.ids[event] = channel, self._log.append(channel, event)
        except AnswerLost:
            raise
        except LogError:
            self._ledger.rolled_back.add(event)
            raise
        self._order.append(event)
        self._ledger.committed.add(event)

    def _of_log(self) -> None:
        names: list[str] = []
        ids: dict[str, tuple[str, str]] = {}
        is_rolled_back = self._chance.random() < _ROLLED_BACK
        try:
            with self._log.transaction() as transaction:
                for _ in range(self._chance.randint(1, 2)):
                    row, channel = self._next(names)
                    transaction.connection.execute(INSERT, (row, channel))
                    ids[row] = channel, transaction.append(channel, row)
                if is_rolled_back:
                    raise _Undone
        except AnswerLost:
            if is_rolled_back or len(ids) < len(names):  # it came before the end
                self._ledger.rolled_back.update(names)
            raise
        except _Undone:
            self._ledger.rolled_back.update(names)
        except BaseException:
            self._ledger.rolled_back.update(names)
            raise
        else:
            self._order += names
            self._ledger.committed.update(names)
            self._ledger.ids.update(ids)


class _Undone(Exception):
    """The transaction is to be rolled back."""


class Writers:
    """All writers, and one more whose transactions stay open; a context manager.

    Every four threads share a log, as the threads of one process do.

    :param url: of the log.
    :param app_url: of the database, for psycopg.
    :param count: how many.
    :param held: seconds for which the transactions of the other one stay open.
    :param seed: for :class:`Writer`.
    :ivar ledger: what became of their rows.
    :ivar holder: the other one.
    """

    def __init__(self, url: str, app_url: str, count: int, held: float, seed: int) -> None:
        self.ledger = Ledger()
        self._held = held
        publish = name(parse_url(url), "publish")
        self._apps = [App(app_url, open_log(url), publish) for _ in range((count + 3) // 4)]
        self._writers = [
            Writer(f"w{number}", self._apps[number // 4], self.ledger, seed) for number in range(count)
        ]
        self.holder = Writer("held", self._apps[0], self.ledger, seed)

    def __enter__(self) -> Writers:
        self.holder.hold(self._held)
        for each in self._writers:
            each.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for each in (*self._writers, self.holder):
            each.stop()
        for each in (*self._writers, self.holder):
            each.join()
        for app in self._apps:
            app.log.close()
