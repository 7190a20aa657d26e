"""How events in PostgreSQL get their numbers: no gap, the order in which they become visible, each event once."""

from __future__ import annotations

import itertools
import random
import threading
import unittest
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from unittest import mock

import psycopg

from sse_threaded.errors import LogUnavailable
from sse_threaded.log.postgres import schema
from sse_threaded.log.postgres import transaction as transaction_module
from sse_threaded.log.postgres.log import PostgresLog
from sse_threaded.log.postgres.timeouts import Timeouts
from tests.harness.postgres_server import PostgresServer
from tests.postgres.patience import PATIENT
from tests.support import wait_until

ONCE = True  # it says the same under every Python

_COUNTS = "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = '{}'"


class NumbersCase(unittest.TestCase):
    """A log of its own for each test, without a thread that gives numbers."""

    postgres: PostgresServer
    made = 0

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = PostgresServer()
        cls.addClassCleanup(cls.postgres.close)

    def setUp(self) -> None:
        NumbersCase.made += 1
        self.prefix = f"t{NumbersCase.made}"
        self.log = self.open_log()

    def open_log(self, timeouts: Timeouts = PATIENT) -> PostgresLog:
        log = PostgresLog(self.postgres.url(prefix=self.prefix), timeouts=timeouts)
        self.addCleanup(log.close)
        return log

    @contextmanager
    def session(self) -> Iterator[Session]:
        with closing(self.postgres.connect()) as connection:
            yield Session(connection, self.prefix)

    def number(self) -> tuple[str, int]:
        """Give numbers to all events that are committed; returns the epoch and the newest number."""
        with self.session() as session:
            found = session.number()
            while (following := session.number()) != found:
                found = following
            return found

    def numbered(self) -> list[str]:
        """The data of all events with a number, oldest first; the numbers have no gap."""
        with self.session() as session:
            return session.numbered(self)


class Session:
    """A connection of an app, or of a process that gives numbers."""

    def __init__(self, connection: psycopg.Connection[Any], prefix: str) -> None:
        self.connection = connection
        self.prefix = prefix

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def publish(self, data: str, channel: str = "a", *, wakes: bool = True) -> None:
        self.run(f"SELECT {self.prefix}_publish(%s, %s, NULL, %s)", channel, data, wakes)

    def number(self, *own: str) -> tuple[str, int]:
        channels, kinds = ["a" for _ in own], [None for _ in own]
        values = channels, kinds, list(own)
        append = f"SELECT * FROM {self.prefix}_append(%s::text[], %s::text[], %s::text[], NULL, NULL)"
        while True:
            ((epoch, last, _, is_behind),) = self.run(append, *values)
            if not (is_behind and own):
                return epoch, last

    def numbered(self, test: unittest.TestCase) -> list[str]:
        rows = self.run(
            f"SELECT n.sequence, e.data FROM {self.prefix}_numbers n "
            f"LEFT JOIN {self.prefix}_events e USING (transaction, place) ORDER BY n.sequence"
        )
        test.assertEqual([number for number, _ in rows], list(range(1, len(rows) + 1)))
        return [data for _, data in rows]


class OrderTest(NumbersCase):
    def test_an_event_gets_its_number_after_the_commit(self) -> None:
        with self.session() as app:
            app.run("BEGIN")
            app.publish("one")
            self.assertEqual(self.number()[1], 0)
            app.run("COMMIT")
            self.assertEqual(self.number(), (self.log.epoch, 1))
            self.assertEqual(self.number(), (self.log.epoch, 1))
        self.assertEqual([record.data for record in self.log.read(0)], ["one"])

    def test_what_was_rolled_back_never_gets_a_number(self) -> None:
        with self.session() as app:
            app.run("BEGIN")
            app.publish("never")
            app.run("ROLLBACK")
            app.run("BEGIN")
            app.publish("one")
            app.run("SAVEPOINT s")
            app.publish("never")
            app.run("ROLLBACK TO s")
            app.publish("two")
            app.run("SAVEPOINT s")
            app.publish("three")
            app.run("RELEASE s")
            app.run("COMMIT")
        self.number()
        self.assertEqual(self.numbered(), ["one", "two", "three"])

    def test_an_open_transaction_holds_up_its_own_events_only(self) -> None:
        with self.session() as slow, self.session() as quick, self.session() as other:
            other.run("BEGIN")
            other.run(f"INSERT INTO {self.prefix}_epochs (epoch, upto) VALUES ('foreign', 0)")
            slow.run("BEGIN")
            slow.publish("slow")
            for number in range(3):
                quick.publish(f"quick {number}")
                self.assertEqual(self.number()[1], number + 1)
            self.assertEqual(self.log.append("a", "own"), f"{self.log.epoch}-4")
            slow.publish("slow too")
            slow.run("COMMIT")
            quick.publish("last")
            self.number()
            other.run("ROLLBACK")
        expected = ["quick 0", "quick 1", "quick 2", "own", "slow", "slow too", "last"]
        self.assertEqual(self.numbered(), expected)

    def test_a_prepared_transaction_is_open_until_it_is_committed(self) -> None:
        with self.session() as app:
            for name in ("kept", "undone"):
                app.run("BEGIN")
                app.publish(name, wakes=False)
                app.run(f"PREPARE TRANSACTION '{self.prefix} {name}'")
                app.publish(f"after {name}")
                self.number()
            self.postgres.restart()
        with self.session() as app:
            app.publish("after the restart")
            self.number()
            app.run(f"COMMIT PREPARED '{self.prefix} kept'")
            app.run(f"ROLLBACK PREPARED '{self.prefix} undone'")
            self.number()
        self.assertEqual(self.numbered(), ["after kept", "after undone", "after the restart", "kept"])

    def test_a_crash_between_commit_and_number_loses_nothing(self) -> None:
        with self.session() as app, self.session() as late:
            app.publish("numbered")
            self.number()
            late.run("BEGIN")
            late.publish("never")
            app.publish("not yet")
            self.postgres.kill()
        self.postgres.start()
        with self.session() as app:
            app.publish("after")
            self.assertEqual(self.number(), (self.log.epoch, 3))
        self.assertEqual(self.numbered(), ["numbered", "not yet", "after"])

    def test_transactions_after_a_crash_are_not_taken_for_those_before(self) -> None:
        # A number of a transaction that left nothing in the write-ahead log is given again.
        for round in range(3):
            with self.session() as app, self.session() as idle:
                idle.run("BEGIN")
                idle.run("SELECT pg_current_xact_id()")
                app.publish(f"before {round}")
                self.number()
                self.postgres.kill()
            self.postgres.start()
            with self.session() as app:
                app.publish(f"after {round}")
        self.number()
        expected = [f"{when} {round}" for round in range(3) for when in ("before", "after")]
        self.assertEqual(self.numbered(), expected)

    def test_a_batch_keeps_the_order_inside_each_transaction(self) -> None:
        with self.session() as first, self.session() as second:
            for session in (first, second):
                session.run("BEGIN")
            for number in range(5):
                first.publish(f"first {number}", "abc"[number % 3])
                second.publish(f"second {number}", "abc"[number % 3])
            second.run("COMMIT")
            first.run("COMMIT")
        self.number()
        found = self.numbered()
        for name in ("first", "second"):
            self.assertEqual([data for data in found if name in data], [f"{name} {n}" for n in range(5)])

    def test_a_transaction_of_the_log_may_also_publish_without_numbers(self) -> None:
        with self.log.transaction() as transaction:
            own = Session(transaction.connection, self.prefix)
            own.publish("before")
            with self.session() as app:
                app.publish("other")
            self.assertEqual(transaction.append("a", "one"), f"{self.log.epoch}-2")
            own.publish("between")
            self.assertEqual(transaction.append("a", "two"), f"{self.log.epoch}-3")
            with self.session() as app:  # so that its number is below the end of the next snapshot
                app.publish("another")
            self.assertEqual(transaction.append("a", "three"), f"{self.log.epoch}-5")
            own.publish("after")
        self.number()
        first = ["other", "one", "two", "another", "three"]
        self.assertEqual(self.numbered(), [*first, "before", "between", "after"])

    def test_a_savepoint_that_is_rolled_back_takes_the_numbers_with_it(self) -> None:
        with self.log.transaction() as transaction:
            transaction.connection.execute("SAVEPOINT s")
            transaction.append("a", "never")
            transaction.connection.execute("ROLLBACK TO s")
            self.assertEqual(transaction.append("a", "one"), f"{self.log.epoch}-1")
        self.assertEqual(self.numbered(), ["one"])

    def test_others_wait_for_a_transaction_that_has_given_numbers_but_not_for_long(self) -> None:
        log = self.open_log(PATIENT._replace(retry=0.0))
        with self.log.transaction() as transaction:
            transaction.append("a", "one")
            failed = []

            def append() -> None:
                try:
                    log.append("a", "never")
                except LogUnavailable as error:
                    failed.append(str(error))

            thread = threading.Thread(target=append)
            thread.start()
            thread.join(30)
            self.assertRegex(failed[0], "locked by another transaction")
        self.assertEqual(log.append("a", "two"), f"{self.log.epoch}-2")

    def test_another_isolation_level_is_refused(self) -> None:
        with self.session() as app:
            app.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
            with self.assertRaisesRegex(psycopg.Error, "read committed"):
                app.number()
            app.run("ROLLBACK")

    def test_an_event_that_clients_have_seen_survives_a_crash(self) -> None:
        with self.session() as app:
            for found, expected in (("off", "local"), ("on", "on"), ("remote_write", "remote_write")):
                app.run(f"SET synchronous_commit = {found}")
                app.run("BEGIN")
                app.number("x")
                self.assertEqual(app.run("SHOW synchronous_commit"), [(expected,)])
                app.run("COMMIT")
                self.assertEqual(app.run("SHOW synchronous_commit"), [(found,)])

    def test_no_row_of_the_hot_path_changes(self) -> None:
        with self.session() as app:
            app.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
            app.run("SELECT 1")
            for number in range(50):
                self.log.append("a", str(number))
                with self.session() as other:
                    other.publish(str(number))
        self.number()
        self.log.close()  # then PostgreSQL counts what its sessions did
        for table in ("events", "numbers"):
            counts = _COUNTS.format(f"{self.prefix}_{table}")
            wait_until(lambda counts=counts: self.postgres.ask(counts)[0][0] == 100)
            self.assertEqual(self.postgres.ask(counts), [(100, 0, 0)])
        self.assertEqual(self.postgres.ask(_COUNTS.format(f"{self.prefix}_state"))[0][1:], (0, 0))


class CostTest(NumbersCase):
    def entries_read(self) -> int:
        """How many entries of the events' index all sessions have read that have ended."""
        statement = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = %s"
        return int(self.postgres.ask(statement, f"{self.prefix}_events_pkey")[0][0])

    def test_a_batch_reads_no_events_of_transactions_that_stay_open_or_were_undone(self) -> None:
        many = f"INSERT INTO {self.prefix}_events (channel, data) SELECT 'a', 'x' FROM generate_series(1, 2000)"
        with self.session() as slow, self.session() as undone:
            slow.run("BEGIN")
            slow.run(many)
            undone.run("BEGIN")
            undone.run(many)
            undone.run("ROLLBACK")
            with self.session() as app:
                app.publish("first")
                app.number()  # this one has to pass over them
            wait_until(lambda: self.entries_read() >= 2000, timeout=30, message="PostgreSQL counts that")
            before = self.entries_read()
            with self.session() as app:
                for number in range(50):
                    app.publish(str(number))
                    app.number()
                    app.number()
            self.log.append("a", "last")
            self.log.close()
            wait_until(lambda: self.entries_read() >= before + 50, timeout=30, message="PostgreSQL counts that")
            self.assertLess(self.entries_read() - before, 1000)
            slow.run("COMMIT")
        self.number()
        self.assertEqual(len(self.numbered()), 2052)


class SmallBatchTest(OrderTest):
    """Batches end in the middle of the events that wait."""

    def open_log(self, timeouts: Timeouts = PATIENT) -> PostgresLog:
        with mock.patch.object(schema, "BATCH", 1):
            return super().open_log(timeouts)

    def test_a_batch_takes_whole_transactions(self) -> None:
        with self.session() as app, self.session() as late:
            late.run("BEGIN")
            late.publish("late")
            for name in ("one", "two", "three"):
                app.run("BEGIN")
                for part in "abc":
                    app.publish(f"{name} {part}")
                app.run("COMMIT")
            with self.session() as numberer:
                self.assertEqual([numberer.number()[1] for _ in range(4)], [3, 6, 9, 9])
            late.run("COMMIT")
        self.number()
        self.assertEqual(
            self.numbered(), [f"{name} {part}" for name in ("one", "two", "three") for part in "abc"] + ["late"]
        )

    def test_an_append_comes_after_all_that_were_committed_before(self) -> None:
        """However many batches that takes, for an event by itself and for one of a transaction of the log."""

        def fill(*names: str) -> None:
            with self.session() as app:
                for name in names:
                    app.publish(name, wakes=False)

        fill("one", "two", "three")
        self.assertEqual(self.log.append("a", "four"), f"{self.log.epoch}-4")
        fill("five", "six")
        with self.log.transaction() as transaction:
            self.assertEqual(transaction.append("a", "seven"), f"{self.log.epoch}-7")
        self.assertEqual(self.numbered(), ["one", "two", "three", "four", "five", "six", "seven"])

    def test_an_append_that_would_take_too_long_appends_nothing(self) -> None:
        with self.session() as app:
            for number in range(100):
                app.publish(str(number), wakes=False)
        with mock.patch.object(transaction_module, "time") as time:
            time.monotonic.side_effect = itertools.count()
            with self.assertRaisesRegex(LogUnavailable, "very many events"):
                self.log.append("a", "own")
            with self.assertRaisesRegex(LogUnavailable, "very many events"), self.log.transaction() as transaction:
                transaction.append("a", "own")
        self.number()
        self.assertEqual(self.numbered(), [str(number) for number in range(100)])

    def test_the_numberer_hears_that_more_events_wait(self) -> None:
        with self.session() as app, self.session() as hearing:
            hearing.run(f"LISTEN {self.prefix}")
            for name in ("one", "two"):
                app.publish(name, wakes=False)
            app.number()
            payloads = [note.payload for note in hearing.connection.notifies(timeout=30, stop_after=2)]
            self.assertCountEqual(payloads, ["pending", f"{self.log.epoch}-1"])


class InterleavingTest(NumbersCase):
    """Many writers, in an order that a random number decides, and after each step the look of a reader."""

    def test_random_interleavings_of_sessions(self) -> None:
        for seed in range(8):
            with self.subTest(seed=seed), mock.patch.object(schema, "BATCH", (20_000, 1, 2, 3)[seed % 4]):
                self.setUp()
                self.run_steps(random.Random(seed))
                self.log.close()

    def run_steps(self, chance: random.Random) -> None:
        committed: dict[str, list[str]] = {}  # the events of each transaction
        seen: list[str] = []
        count = 0
        with ExitStack() as sessions, self.session() as reader:
            writers = [Writer(sessions.enter_context(self.session()), index, chance) for index in range(6)]
            for _ in range(300):
                for name, events in chance.choice(writers).step():
                    committed[name] = events
                if chance.random() < 0.3:
                    own = [f"own {count + n}" for n in range(chance.choice((0, 0, 1, 3)))]
                    count += len(own)
                    reader.number(*own)
                    if own:
                        committed[f"own {count}"] = own
                found = reader.numbered(self)
                self.assertEqual(found[: len(seen)], seen)
                seen = found
            for writer in writers:
                for name, events in writer.end():
                    committed[name] = events
            self.number()
            seen = reader.numbered(self)
        self.assertCountEqual(seen, [event for events in committed.values() for event in events])
        for events in committed.values():
            self.assertEqual([event for event in seen if event in events], events)
        self.assertGreater(len(seen), 50)

    def test_threads_that_write_and_number_at_the_same_time(self) -> None:
        committed: list[str] = []
        failures: list[BaseException] = []
        done = threading.Event()
        barrier = threading.Barrier(12)

        def guarded(work: Any, *args: Any) -> None:
            try:
                with self.session() as session:
                    barrier.wait(30)
                    work(session, *args)
            except BaseException as error:
                failures.append(error)

        def write(session: Session, index: int) -> None:
            chance = random.Random(index)
            for number in range(60):
                names = [f"{index} {number} {part}" for part in range(chance.choice((1, 1, 3)))]
                session.run("BEGIN")
                for name in names:
                    session.publish(name, chance.choice("abc"))
                session.run("SELECT pg_sleep(%s)", chance.choice((0, 0, 0.002, 0.01)))
                if chance.random() < 0.3:
                    session.run("ROLLBACK")
                else:
                    session.run("COMMIT")
                    committed.extend(names)

        def number(session: Session, index: int) -> None:
            chance, own = random.Random(index), 0
            while not done.is_set():
                if chance.random() < 0.3:
                    own += 1
                    session.number(f"own {index} {own}")
                    committed.append(f"own {index} {own}")
                else:
                    session.number()

        def read(session: Session) -> None:
            seen: list[str] = []
            while not done.is_set():
                found = session.numbered(self)
                self.assertEqual(found[: len(seen)], seen)
                seen = found

        writers = [threading.Thread(target=guarded, args=(write, index)) for index in range(8)]
        others = [threading.Thread(target=guarded, args=(number, index)) for index in range(3)]
        others.append(threading.Thread(target=guarded, args=(read,)))
        for thread in (*writers, *others):
            thread.start()
        for thread in writers:
            thread.join(120)
        done.set()
        for thread in others:
            thread.join(120)
        self.assertEqual(failures, [])
        self.number()
        self.assertCountEqual(self.numbered(), committed)


class Writer:
    """An app's session that takes one random step after the other."""

    def __init__(self, session: Session, index: int, chance: random.Random) -> None:
        self.session = session
        self.index = index
        self.chance = chance
        self.count = 0
        self.events: list[str] | None = None  # of the open transaction
        self.marks: list[int] = []  # how many events there were at each savepoint
        self.prepared: list[tuple[str, list[str]]] = []

    def step(self) -> Iterator[tuple[str, list[str]]]:
        """Take a step; yields each transaction that it commits, with its events."""
        chance, run = self.chance, self.session.run
        if self.prepared and self.events is None and chance.random() < 0.5:
            name, events = self.prepared.pop()
            keeps = chance.random() < 0.7
            run(f"{'COMMIT' if keeps else 'ROLLBACK'} PREPARED '{name}'")
            if keeps:
                yield name, events
            return
        if self.events is None:
            run(
                chance.choice(
                    ("BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE")
                )
            )
            self.events, self.marks = [], []
        step = chance.choices(
            ("publish", "mark", "undo", "commit", "roll back", "prepare"), (50, 10, 10, 15, 8, 5)
        )[0]
        if step == "publish":
            self.count += 1
            name = f"{self.index} {self.count}"
            self.session.publish(name, chance.choice("abc"), wakes=False)
            self.events.append(name)
        elif step == "mark":
            run(f"SAVEPOINT s{len(self.marks)}")
            self.marks.append(len(self.events))
        elif step == "undo" and self.marks:
            mark = chance.randrange(len(self.marks))
            run(f"ROLLBACK TO s{mark}")
            del self.marks[mark + 1 :]
            del self.events[self.marks[mark] :]
        elif step in ("commit", "roll back", "prepare"):
            yield from self._leave(step)

    def _leave(self, step: str) -> Iterator[tuple[str, list[str]]]:
        events, self.events = self.events or [], None
        self.count += 1
        name = f"{self.session.prefix} {self.index} {self.count}"
        if step == "prepare":
            self.session.run(f"PREPARE TRANSACTION '{name}'")
            self.prepared.append((name, events))
        else:
            self.session.run("COMMIT" if step == "commit" else "ROLLBACK")
            if step == "commit":
                yield name, events

    def end(self) -> Iterator[tuple[str, list[str]]]:
        """End what is open; yields as :meth:`step`."""
        if self.events is not None:
            yield from self._leave("commit")
        for name, events in self.prepared:
            self.session.run(f"COMMIT PREPARED '{name}'")
            yield name, events


if __name__ == "__main__":
    unittest.main()
