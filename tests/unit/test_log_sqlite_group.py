"""Threads that publish to one SQLite log at the same time: one transaction, and each gets its own id or error."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import unittest
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from sse_threaded import InvalidEvent, LogUnavailable, LogUnusable, Retention
from sse_threaded.log.interface import NestedTransaction
from sse_threaded.log.sqlite.connection import LogConnection
from sse_threaded.log.sqlite.log import SQLiteLog
from sse_threaded.log.sqlite.timeouts import Timeouts
from tests.support import sqlite_url, temporary_directory, wait_until
from tests.unit.test_log import is_readable

SECONDS = 30.0


class Texts(str):
    """Text that cannot be bound to a statement."""

    def __conform__(self, protocol: object) -> object:
        raise ZeroDivisionError


class GroupTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.path = self.directory / "log.db"
        self.statements: list[str] = []
        self.answers: dict[object, str | BaseException] = {}

    def make_log(self, **options: Any) -> SQLiteLog:
        log = SQLiteLog(sqlite_url(self.directory), **options)
        self.addCleanup(log.close)
        return log

    @contextlib.contextmanager
    def waiting_together(self, log: SQLiteLog, *data: object, others: int = 0) -> Iterator[sqlite3.Connection]:
        """Publish from a thread for each of ``data`` while another connection has SQLite's write lock.

        In the block all threads wait. At its end the lock is released, and each has its answer in ``answers``.

        :param others: how many of them do not come so far.
        """
        threads = []
        with self.executing(self.statements), contextlib.closing(self.locked()) as lock:
            for each in data:
                threads.append(threading.Thread(target=self.publish, args=(log, each), daemon=True))
                threads[-1].start()
            wait_until(lambda: len(log._appends._queue) == len(data) - others, message="all threads")
            yield lock
            lock.execute("ROLLBACK")
            for thread in threads:
                thread.join(SECONDS)
                self.assertFalse(thread.is_alive(), "a thread hangs")

    def publish(self, log: SQLiteLog, data: object) -> None:
        try:
            self.answers[str(data)] = log.append("a", data)
        except BaseException as error:
            self.answers[str(data)] = error

    def locked(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        return connection

    @staticmethod
    @contextlib.contextmanager
    def executing(
        statements: list[str],
        before: Callable[[str, LogConnection], None] = lambda statement, connection: None,
        after: Callable[[str, LogConnection], None] = lambda statement, connection: None,
    ) -> Iterator[None]:
        """Note the statements of the log's connections, and call functions before and after each."""
        execute = LogConnection.execute

        def traced(connection: LogConnection, statement: str, *values: Any) -> sqlite3.Cursor:
            before(statement, connection)
            result = execute(connection, statement, *values)
            after(statement, connection)
            statements.append(statement)
            return result

        with mock.patch.object(LogConnection, "execute", traced):
            yield

    def kept(self) -> dict[int, str]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return dict(connection.execute("SELECT sequence, data FROM sse_events"))

    def assert_answers_agree(self, log: SQLiteLog) -> None:
        """Each id that a publisher got is that of its own event, and no other event is in the log."""
        acknowledged = {answer: data for data, answer in self.answers.items() if isinstance(answer, str)}
        self.assertEqual({log.event_id(number): data for number, data in self.kept().items()}, acknowledged)

    def test_eight_threads_share_one_transaction(self) -> None:
        log = self.make_log()
        names = [f"event {number}" for number in range(8)]
        with self.waiting_together(log, *names):
            pass
        self.assert_answers_agree(log)
        self.assertEqual(set(self.kept()), set(range(1, 9)))
        self.assertEqual(self.statements.count("COMMIT"), 1)

    def test_an_invalid_event_is_refused_and_harms_no_other(self) -> None:
        log = self.make_log()
        with self.waiting_together(log, "x", "\ud800", "y", Texts("z"), others=1):
            pass
        self.assertIsInstance(self.answers.pop("\ud800"), InvalidEvent)
        self.assert_answers_agree(log)
        self.assertEqual(sorted(self.kept().values()), ["x", "y", "z"])

    def test_an_event_that_sqlite_refuses_harms_no_other(self) -> None:
        log = self.make_log()
        log.append("a", "first")
        self.answers["first"] = log.event_id(1)
        with contextlib.closing(sqlite3.connect(self.path)) as mine, mine:
            mine.execute(
                """CREATE TRIGGER refuse BEFORE INSERT ON sse_events WHEN NEW.data LIKE 'bad%'
                BEGIN SELECT RAISE(ABORT, 'it is bad'); END"""
            )
        with self.waiting_together(log, "bad 1", "x", "bad 2", "y"):
            pass
        for data in ("bad 1", "bad 2"):
            error = self.answers[data]
            self.assertIsInstance(error, LogUnusable)
            self.assertIn("it is bad", str(error))
        self.assert_answers_agree(log)
        self.assertEqual(set(self.kept()), {1, 2, 3}, "no number is lost")
        self.answers.clear()
        with self.waiting_together(log, "bad 3", "bad 4"):
            pass
        self.assertEqual([type(error) for error in self.answers.values()], [LogUnusable] * 2)
        self.assertEqual(log.append("a", "z"), log.event_id(4))

    def test_a_full_disk_fails_all_and_the_next_ones_succeed(self) -> None:
        log = self.make_log()
        with log.transaction() as transaction:
            (pages,) = transaction.connection.execute("PRAGMA page_count").fetchone()
            transaction.connection.execute(f"PRAGMA max_page_count = {pages}")
        large = [letter * 100_000 for letter in "xyz"]
        with self.waiting_together(log, *large):
            pass
        for error in self.answers.values():
            self.assertIsInstance(error, LogUnavailable)
            self.assertIn("the disk is full", str(error))
        self.assertEqual(len(set(map(id, self.answers.values()))), 3)
        self.assertEqual(self.kept(), {})
        with log.transaction() as transaction:
            transaction.connection.execute("PRAGMA max_page_count = 1000000")
        self.answers.clear()
        with self.waiting_together(log, *large):
            pass
        self.assert_answers_agree(log)

    def test_a_disk_that_fails_in_the_commit_fails_all(self) -> None:
        log = self.make_log()

        def fail(statement: str, connection: LogConnection) -> None:
            if statement == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")

        with self.executing([], before=fail), self.waiting_together(log, "x", "y", "z"):
            pass
        for error in self.answers.values():
            self.assertIsInstance(error, LogUnavailable)
            self.assertIn("the disk failed", str(error))
        self.assertEqual(self.kept(), {})
        self.assertEqual(log.append("a", "next"), log.event_id(1))

    def test_a_locked_file_fails_each_in_its_time(self) -> None:
        log = self.make_log(timeouts=Timeouts(lock=0.05))
        with self.waiting_together(log, "x", "y", "z"):
            wait_until(lambda: len(self.answers) == 3, message="three errors")
        self.assertEqual([type(error) for error in self.answers.values()], [LogUnavailable] * 3)
        self.assertEqual(self.kept(), {})
        self.assertEqual(log.append("a", "next"), log.event_id(1))

    def test_a_file_that_goes_fails_all(self) -> None:
        log = self.make_log()
        log.append("a", "first")
        with self.waiting_together(log, "x", "y", "z"):
            self.path.with_name("log.db-wal").unlink()
        self.assertEqual([type(error) for error in self.answers.values()], [LogUnusable] * 3)

    def test_a_leader_that_is_interrupted_before_the_commit_harms_no_other(self) -> None:
        for at in ("INSERT", "COMMIT"):
            with self.subTest(at=at):
                self.setUp()
                log = self.make_log()
                interrupts = iter([KeyboardInterrupt])

                def interrupt(
                    statement: str, connection: LogConnection, at: str = at, interrupts: Any = interrupts
                ) -> None:
                    if statement.startswith(at):
                        for kind in interrupts:
                            raise kind

                with self.executing([], before=interrupt), self.waiting_together(log, "x", "y", "z"):
                    pass
                kinds = Counter(type(answer) for answer in self.answers.values())
                self.assertEqual(kinds, {str: 2, KeyboardInterrupt: 1})
                self.assert_answers_agree(log)

    def test_a_leader_that_is_interrupted_after_the_commit_has_committed_for_all(self) -> None:
        log = self.make_log()

        def interrupt(statement: str, connection: LogConnection) -> None:
            if statement == "COMMIT":
                raise SystemExit

        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        with self.executing([], after=interrupt), self.waiting_together(log, "x", "y", "z"):
            pass
        self.assertTrue(is_readable(doorbell, 0))
        (dead,) = [data for data, answer in self.answers.items() if isinstance(answer, SystemExit)]
        del self.answers[dead]
        kept = self.kept()
        self.assertEqual(sorted(kept.values()), ["x", "y", "z"])
        self.assertEqual(
            {log.event_id(number): data for number, data in kept.items() if data != dead},
            {answer: data for data, answer in self.answers.items()},
        )
        self.assertEqual(log.append("a", "next"), log.event_id(4))

    def test_one_ring_for_all_before_anybody_returns(self) -> None:
        log = self.make_log()
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        rung: list[bool] = []
        count_append = log._trimmer.count_append

        def counted(channel: str) -> None:
            rung.append(is_readable(doorbell, 0))
            count_append(channel)

        with (
            mock.patch.object(log._ringer, "ring", wraps=log._ringer.ring) as ring,
            mock.patch.object(log._trimmer, "count_append", counted),
            self.waiting_together(log, "x", "y", "z"),
        ):
            pass
        self.assertEqual((ring.call_count, rung), (1, [True] * 3))

    def test_a_transaction_and_its_neighbours_keep_their_meaning(self) -> None:
        log = self.make_log()
        inside, leave = threading.Event(), threading.Event()

        def change() -> None:
            with log.transaction() as transaction:
                transaction.append("a", "in the transaction")
                inside.set()
                leave.wait(SECONDS)
                with self.assertRaises(NestedTransaction):
                    log.append("a", "nested")

        writer = threading.Thread(target=change)
        writer.start()
        self.assertTrue(inside.wait(SECONDS))
        others = [threading.Thread(target=self.publish, args=(log, data)) for data in ("x", "y")]
        for other in others:
            other.start()
        wait_until(lambda: len(log._appends._queue) == 2, message="both to wait")
        leave.set()
        for thread in (writer, *others):
            thread.join(SECONDS)
        self.assertEqual(log.event_id(1), log.event_id(1))
        self.answers["in the transaction"] = log.event_id(1)
        self.assert_answers_agree(log)

    def test_a_log_that_is_closed_refuses_all(self) -> None:
        log = self.make_log(timeouts=Timeouts(lock=SECONDS))
        inside, leave = threading.Event(), threading.Event()

        def keep() -> None:
            with log.transaction():
                inside.set()
                leave.wait(SECONDS)

        keeper = threading.Thread(target=keep)
        keeper.start()
        self.assertTrue(inside.wait(SECONDS))
        threads = [threading.Thread(target=self.publish, args=(log, data)) for data in "xyz"]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(log._appends._queue) == 3, message="all to wait")
        log._writer._closed = True  # as close() does first
        leave.set()
        for thread in (keeper, *threads):
            thread.join(SECONDS)
        self.assertEqual([str(error)[-25:] for error in self.answers.values()], ["was closed; open it again"] * 3)

    def test_eight_threads_without_a_pause_beside_transactions_and_the_trimmer(self) -> None:
        log = self.make_log(retention=Retention(count=600, age=None))
        self.addCleanup(log.open_doorbell().close)
        found: list[list[str]] = [[] for _ in range(8)]

        def publish(name: int) -> None:
            for count in range(100):
                if count % 10:
                    found[name].append(log.append("a", f"{name}-{count}"))
                else:
                    with log.transaction() as transaction:
                        found[name].append(transaction.append("a", f"{name}-{count}"))

        threads = [threading.Thread(target=publish, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        seen, after = {}, 0
        while len(seen) < 800:
            for record in log.read(after):
                seen[log.event_id(record.sequence)] = record.data
                after = record.sequence
        for thread in threads:
            thread.join(SECONDS)
        for name, ids in enumerate(found):
            self.assertEqual([seen[each] for each in ids], [f"{name}-{count}" for count in range(100)])
            numbers = [int(each.partition("-")[2]) for each in ids]
            self.assertEqual(numbers, sorted(numbers))
        self.assertEqual(len({each for ids in found for each in ids}), 800)
        wait_until(lambda: len(self.kept()) < 700, message="the channel to be trimmed")


if __name__ == "__main__":
    unittest.main()
