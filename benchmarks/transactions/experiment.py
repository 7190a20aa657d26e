"""Runs writers, streams and clients at the same time, kills processes at random, and compares at the end."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import psycopg

from sse_threaded import EventLog, LogUnavailable, open_log
from sse_threaded.log.postgres.schema import name
from sse_threaded.log.postgres.url import parse_url
from sse_threaded.testing import GunicornServer
from sse_threaded.testing.processes import POLL_SECONDS
from tests.support import kill_at_random

from ..common.event_ids import sequence_of
from ..common.paths import python_path
from ..faults.clients import RoamingClient
from ..faults.delivery_check import EpochChain
from .app import URL
from .comparison import Comparison, LogContents
from .database import Database, KilledDatabase, PooledDatabase, ReplacedDatabase
from .writers import CHANNELS, INSERT, TABLE, Ledger, Writers

PROCESSES = 3  # that stream

# Seconds that the clients may take to receive all events, and all other waits.
_WAIT_SECONDS = 60.0

# Of the kills of streaming processes, those of all of them at once.
_ALL_AT_ONCE = 0.2

_JOINED = "{events} e LEFT JOIN {numbers} n USING (transaction, place)"
_PENDING = f"SELECT count(*) FROM {_JOINED} WHERE n.place IS NULL"
_NUMBERED = f"SELECT n.sequence, e.channel, e.data FROM {_JOINED} WHERE n.place IS NOT NULL ORDER BY n.sequence"

DATABASES: dict[str, Callable[[], Database]] = {
    "readers": Database,
    "killed": KilledDatabase,
    "pooled": PooledDatabase,
    "synchronous": lambda: ReplacedDatabase(is_synchronous=True),
    "asynchronous": lambda: ReplacedDatabase(is_synchronous=False),
}


@dataclass(frozen=True)
class Plan:
    """How long, how much, and what is killed.

    :ivar database: a name of :data:`DATABASES`: what happens to PostgreSQL.
    :ivar held: seconds for which one transaction stays open, again and again.
    :ivar kill_every: seconds between two kills of a streaming process, on average.
    :ivar strike_every: seconds between two faults of PostgreSQL, on average.
    """

    database: str
    seconds: float
    seed: int = 1
    writers: int = 16
    clients: int = 8
    held: float = 20.0
    kill_every: float = 3.0
    strike_every: float = 10.0


@dataclass
class Outcome:
    """The figures of one run.

    :ivar title: what happened to PostgreSQL.
    :ivar kills: streaming processes that were killed.
    :ivar strikes: faults of PostgreSQL, by kind.
    :ivar epochs: how many epochs the log has had.
    """

    title: str
    ledger: Ledger
    kills: int = 0
    strikes: dict[str, int] = field(default_factory=dict)
    events: int = 0
    epochs: int = 0
    reconnections: int = 0
    comparison: Comparison = field(default_factory=Comparison)

    @property
    def faults(self) -> list[str]:
        """Everything that should not be, one sentence each."""
        return self.comparison.faults


def run(plan: Plan) -> Outcome:
    """Run it."""
    with ExitStack() as resources:
        database = resources.enter_context(DATABASES[plan.database]())
        database.ask(f"CREATE TABLE {TABLE} (name text PRIMARY KEY, channel text NOT NULL)")
        log = open_log(database.url)
        resources.callback(log.close)
        server = resources.enter_context(_server(database.url))
        kinds = [*([each] for each in CHANNELS), list(CHANNELS)]
        paths = [kinds[number % len(kinds)] for number in range(plan.clients)]
        clients = [RoamingClient([server.url], f"/{','.join(path)}") for path in paths]
        resources.callback(_stop, clients)
        wait_until(lambda: all(each.start for each in clients), "every client has a stream")
        with Writers(database.url, database.app_url, plan.writers, plan.held, plan.seed) as writers:
            outcome = Outcome(database.title, writers.ledger)
            _go_on(plan, database, server, clients, outcome)
            _require_progress(log, clients, paths, writers)
        _end_prepared(database, writers.ledger)
        _write_last(database, log, writers.ledger)
        pending = _fill(database, _PENDING)
        wait_until(lambda: database.ask(pending) == [(0,)], "every event has a number")
        contents = _contents(database)
        _catch_up(clients, paths, contents)
        _stop(clients)
        comparison = outcome.comparison
        comparison.compare_rows(contents, writers.ledger, keeps_all=database.keeps_all)
        for client, path in zip(clients, paths, strict=True):
            comparison.compare_client(client.start, client.received, path, contents, writers.ledger)
            if client.failure is not None:
                comparison.faults.append(f"a client gave up: {client.failure}")
        outcome.events = len(contents.events)
        outcome.epochs = 1 + len(contents.chain.ended)
        outcome.reconnections = sum(each.connections - 1 for each in clients)
        return outcome


def _server(url: str) -> GunicornServer:
    return GunicornServer(
        "benchmarks.transactions.app:create_app()",
        args=["-k", "sse_threaded.worker.ThreadWorker", "-w", str(PROCESSES), "--log-level", "warning"],
        env={URL: url, "PYTHONPATH": python_path()},
        timeout=_WAIT_SECONDS,
    )


def _go_on(
    plan: Plan, database: Database, server: GunicornServer, clients: Sequence[RoamingClient], outcome: Outcome
) -> None:
    def newest() -> int:
        return max((sequence_of(event.id) for each in clients for event in each.received[-1:]), default=0)

    chance = random.Random(plan.seed)
    begun = time.monotonic()
    kill_at, strike_at = begun, begun + plan.strike_every / 2
    while (now := time.monotonic()) < begun + plan.seconds:
        if now >= kill_at:
            kill_at = now + plan.kill_every * chance.uniform(0.5, 1.5)
            outcome.kills += _kill(server, chance)
        if now >= strike_at:
            kind = database.strike(chance, newest)
            if kind:
                outcome.strikes[kind] = outcome.strikes.get(kind, 0) + 1
            strike_at = time.monotonic() + plan.strike_every * chance.uniform(0.5, 1.5)
        time.sleep(POLL_SECONDS)


def _kill(server: GunicornServer, chance: random.Random) -> int:
    """Kill a streaming process, or all of them; return how many."""
    pids = server.worker_pids()
    if chance.random() < _ALL_AT_ONCE:
        server.kill()
        server.restart()
        return len(pids)
    return kill_at_random(pids, chance)


def _require_progress(
    log: EventLog, clients: Sequence[RoamingClient], paths: Sequence[Sequence[str]], writers: Writers
) -> None:
    """Wait until an event reaches all its clients while a transaction with events of its own stays open."""
    numbers = itertools.count()
    waiting = [each for each, path in zip(clients, paths, strict=True) if "a" in path]

    def passes_by() -> bool:
        held, event = writers.holder.held, f"passing-{next(numbers)}"
        if held is None:
            return False
        writers.ledger.without_row.add(event)
        try:
            writers.ledger.ids[event] = "a", log.append("a", event)
        except LogUnavailable:
            return False
        writers.ledger.committed.add(event)
        wait_until(
            lambda: all(event in (got.data for got in each.received[-500:]) for each in waiting), "it comes"
        )
        return writers.holder.held == held

    wait_until(passes_by, "events pass a transaction that stays open")


def _end_prepared(database: Database, ledger: Ledger) -> None:
    """End the prepared transactions whose writer got no answer."""
    for (transaction,) in database.ask("SELECT gid FROM pg_prepared_xacts"):
        verb = "ROLLBACK" if transaction in ledger.rolled_back else "COMMIT"
        database.ask(f"{verb} PREPARED '{transaction}'")


def _write_last(database: Database, log: EventLog, ledger: Ledger) -> None:
    """Commit one more event of each channel, and do not ring: the process that gives numbers must find them."""
    with psycopg.connect(database.app_url, prepare_threshold=None) as connection:
        for channel in CHANNELS:
            row = f"last-{channel}"
            connection.execute(INSERT, (row, channel))
            log.append(channel, row, connection=connection)
            ledger.committed.add(row)


def _fill(database: Database, statement: str) -> str:
    address = parse_url(database.url)
    names = {each: name(address, each) for each in ("events", "numbers", "epochs", "state")}
    return statement.format(**names)


def _contents(database: Database) -> LogContents:
    ((current,),) = database.ask(_fill(database, "SELECT epoch FROM {state}"))
    ended = dict(database.ask(_fill(database, "SELECT epoch, upto FROM {epochs}")))
    events = database.ask(_fill(database, _NUMBERED))
    rows = database.ask(f"SELECT name, channel FROM {TABLE}")
    return LogContents(EpochChain(current, ended), events, rows)


def _catch_up(clients: Sequence[RoamingClient], paths: Sequence[Sequence[str]], contents: LogContents) -> None:
    """Wait until every client has the newest event of its channels, or the time is over."""
    newest = [contents.ids(path)[-1:] for path in paths]
    deadline = time.monotonic() + _WAIT_SECONDS

    def has_all(client: RoamingClient, wanted: Sequence[str]) -> bool:
        last = client.received[-1:]
        return not wanted or any(contents.chain.in_current(each.id) in wanted for each in last)

    while not all(map(has_all, clients, newest)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _stop(clients: Sequence[RoamingClient]) -> None:
    for each in clients:
        each.stop()
    for each in clients:
        each.join()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait until ``condition()`` is true. A PostgreSQL that cannot be reached counts as false.

    :raises AssertionError: it does not become true in time.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            if condition():
                return
        except psycopg.OperationalError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {_WAIT_SECONDS:g} seconds: {what}")
        time.sleep(POLL_SECONDS)
