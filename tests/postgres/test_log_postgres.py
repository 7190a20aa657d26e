"""What only the log in PostgreSQL meets: rights, schemas, other databases, interrupts, a new epoch."""

from __future__ import annotations

import threading
import unittest
from contextlib import suppress
from typing import Any
from unittest import mock

import psycopg

from sse_threaded import HistoryGone, LogUnavailable, LogUnusable
from sse_threaded.fanout.cursor import Cursor
from sse_threaded.log.interface import NestedTransaction, TransactionOver
from sse_threaded.log.postgres.client import PostgresClient
from sse_threaded.log.postgres.log import PostgresLog
from sse_threaded.log.postgres.schema import name, statements
from sse_threaded.log.postgres.url import parse_url
from tests.harness.postgres_server import PostgresServer
from tests.postgres.patience import PATIENT, be_patient
from tests.support import wait_until


class LogCase(unittest.TestCase):
    """A database of its own for each test."""

    postgres: PostgresServer

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = PostgresServer()
        cls.addClassCleanup(cls.postgres.close)

    def setUp(self) -> None:
        be_patient(self)
        self.database = self.postgres.make_database()

    def open_log(self, url: str = "", **options: Any) -> PostgresLog:
        log = PostgresLog(url or self.postgres.url(self.database), **options)
        self.addCleanup(log.close)
        return log

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self.postgres.ask(statement, *values, database=self.database)

    def data(self, log: PostgresLog, after: int = 0) -> list[str]:
        return [record.data for record in log.read(after)]


class MakingTest(LogCase):
    def test_processes_that_make_the_log_at_the_same_time_agree(self) -> None:
        barrier = threading.Barrier(4)
        epochs: list[str] = []

        def make() -> None:
            barrier.wait(30)
            epochs.append(self.open_log().epoch)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(len(epochs), 4)
        self.assertEqual(len(set(epochs)), 1)

    def test_the_statements_may_run_again(self) -> None:
        log = self.open_log()
        log.append("a", "one")
        with self.postgres.connect(self.database) as connection, connection.transaction():
            for statement in statements(parse_url(self.postgres.url(self.database))):
                connection.execute(statement.encode())
        self.assertEqual(log.append("a", "two"), f"{log.epoch}-2")

    def test_names_can_be_chosen(self) -> None:
        url = self.postgres.url(self.database, schema="Other_1", prefix="events")
        log, default = self.open_log(url), self.open_log()
        log.append("a", "one")
        default.append("a", "two")
        self.assertNotEqual(log.epoch, default.epoch)
        self.assertEqual(name(parse_url(url), "numbers"), '"Other_1"."events_numbers"')
        self.assertEqual(self.ask('SELECT data FROM "Other_1".events_events'), [("one",)])
        self.assertEqual(self.data(default), ["two"])

    def test_the_longest_names(self) -> None:
        log = self.open_log(self.postgres.url(self.database, schema="s" * 63, prefix="p" * 40))
        self.addCleanup(log.open_doorbell().close)
        log.append("a", "one")
        self.assertEqual(self.data(log), ["one"])

    def test_a_newer_schema_is_left_alone(self) -> None:
        self.open_log()
        self.ask("UPDATE sse_threaded_state SET schema = 99")
        self.assertRaisesRegex(LogUnusable, "schema 99", self.open_log)

    def test_a_database_that_cannot_take_every_text(self) -> None:
        self.postgres.ask("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
        self.assertRaisesRegex(LogUnusable, "encoding is not UTF8", self.open_log, self.postgres.url("latin"))

    def test_a_role_that_may_not_make_tables(self) -> None:
        self.postgres.ask("CREATE ROLE poor LOGIN")
        self.ask("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        with self.assertRaisesRegex(LogUnusable, "cannot make them; `sse-threaded schema`"):
            self.open_log(self.postgres.url(self.database, user="poor"))

    def test_a_log_that_cannot_be_reached_at_the_start_is_found_later(self) -> None:
        server = PostgresServer()
        self.addCleanup(server.close)
        server.stop()
        with self.assertLogs("sse_threaded", "WARNING"):
            log = self.open_log(server.url(), timeouts=PATIENT._replace(retry=0.0))
        self.assertRaises(LogUnavailable, log.append, "a", "x")
        self.assertRaises(LogUnavailable, log.check)
        self.assertIn("epoch=None", repr(log))
        server.start()
        self.assertEqual(log.append("a", "x")[7:], "1")
        self.assertIn(f"epoch={log.epoch}", repr(log))


class AppConnectionTest(LogCase):
    def test_a_connection_to_another_database_is_refused(self) -> None:
        log = self.open_log()
        other = self.postgres.make_database()
        with self.postgres.connect(other) as connection:
            with self.assertRaisesRegex(LogUnusable, "tables or functions of the log are missing"):
                log.append("a", "x", connection=connection)
            self.open_log(self.postgres.url(other))
            with self.assertRaisesRegex(LogUnusable, "in another database"):
                log.append("a", "x", connection=connection)

    def test_an_app_may_know_an_older_epoch_or_a_newer_one(self) -> None:
        log = self.open_log()
        with self.postgres.connect(self.database) as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT 1 FROM sse_threaded_epochs")
            self.ask("UPDATE sse_threaded_state SET place = 'another'")
            log.append("a", "one")
            log.append("a", "two", connection=connection)  # its snapshot has the older epoch
            connection.execute("COMMIT")
            self.ask("UPDATE sse_threaded_state SET place = 'another'")
            self.open_log().append("a", "three")
            log.append("a", "four", connection=connection)
        log.ring()
        self.assertEqual(self.data(log), ["one", "two", "three", "four"])

    def test_invalid_events_are_refused_before_the_connection_is_used(self) -> None:
        log = self.open_log()
        with self.assertRaisesRegex(Exception, "channel"):
            log.append("", "x", connection=object())

    def test_zero_bytes_and_types_arrive(self) -> None:
        log = self.open_log()
        with self.postgres.connect(self.database) as connection:
            log.append("a\0b", "x\0\1", "ty\0pe", connection=connection)
        log.ring()
        ((_, channel, event, data),) = log.read(0)
        self.assertEqual((channel, event, data), ("a\0b", "ty\0pe", "x\0\1"))
        self.assertEqual(len(log.read(0, channels=["a\0b"])), 1)


class TransactionTest(LogCase):
    def test_rows_of_the_app_are_in_the_same_transaction(self) -> None:
        log = self.open_log()
        self.ask("CREATE TABLE things (name text UNIQUE)")
        with log.transaction() as transaction:
            transaction.connection.execute("INSERT INTO things VALUES ('one')")
            transaction.append("a", "one")
        with self.assertRaises(psycopg.errors.UniqueViolation), log.transaction() as transaction:
            transaction.append("a", "never")
            transaction.connection.execute("INSERT INTO things VALUES ('one')")
        with log.snapshot() as snapshot:
            self.assertEqual(snapshot.connection.execute("SELECT name FROM things").fetchall(), [("one",)])
            self.assertEqual(snapshot.last_event_id(), f"{log.epoch}-1")
            log.append("a", "two")
            self.assertEqual(snapshot.last_event_id(), f"{log.epoch}-1")

    def test_an_error_that_the_app_has_caught_still_ends_the_transaction(self) -> None:
        log = self.open_log()
        with self.assertRaisesRegex(LogUnavailable, "rolled all of it back"), log.transaction() as transaction:
            transaction.append("a", "never")
            with suppress(psycopg.Error):
                transaction.connection.execute("SELECT 1 / 0")
            self.assertRaisesRegex(LogUnusable, "aborted", transaction.append, "a", "never")
        self.assertEqual(self.data(log), [])

    def test_an_app_that_has_ended_the_transaction_itself(self) -> None:
        log = self.open_log()
        with self.assertRaises(TransactionOver), log.transaction() as transaction:
            transaction.append("a", "one")
            transaction.connection.execute("COMMIT")
            transaction.append("a", "never")
        self.assertEqual(self.data(log), ["one"])

    def test_a_thread_with_a_transaction_does_not_wait_for_itself(self) -> None:
        log = self.open_log()
        with log.transaction() as transaction:
            transaction.append("a", "one")
            self.assertRaises(NestedTransaction, log.append, "a", "never")
            log.ring()
            other = threading.Thread(target=log.last_event_id)
            other.start()
            other.join(30)
            self.assertFalse(other.is_alive())
        self.assertEqual(log.append("a", "two"), f"{log.epoch}-2")

    def test_another_default_isolation_changes_nothing(self) -> None:
        self.postgres.ask(f"ALTER DATABASE {self.database} SET default_transaction_isolation = 'serializable'")
        self.postgres.ask(f"ALTER DATABASE {self.database} SET default_transaction_read_only = on")
        log = self.open_log()
        log.append("a", "one")
        with log.transaction() as transaction:
            transaction.append("a", "two")
        self.assertEqual(self.data(log), ["one", "two"])


class GroupTest(LogCase):
    def test_threads_that_wait_share_a_statement(self) -> None:
        log = self.open_log()
        run, calls = PostgresClient.run, []
        is_first, may_go_on = threading.Event(), threading.Event()

        def run_late(client: PostgresClient, statement: str, *args: Any, **options: Any) -> Any:
            calls.append(statement)
            if len(calls) == 1:
                is_first.set()
                may_go_on.wait(60)
            return run(client, statement, *args, **options)

        ids: dict[str, str] = {}

        def append(data: str) -> None:
            ids[log.append("abc"[int(data) % 3], data)] = data

        threads = [threading.Thread(target=append, args=(str(number),)) for number in range(10)]
        with mock.patch.object(PostgresClient, "run", run_late):
            threads[0].start()
            is_first.wait(60)
            for thread in threads[1:]:
                thread.start()
            wait_until(lambda: len(log._appends._queue) == 9, message="the others wait")
            may_go_on.set()
            for thread in threads:
                thread.join(60)
        self.assertEqual(len(calls), 2)
        self.assertEqual(sorted(ids, key=log.sequence_of), [f"{log.epoch}-{n}" for n in range(1, 11)])
        self.assertEqual({log.event_id(record.sequence): record.data for record in log.read(0)}, ids)

    def test_an_interrupt_appends_nothing_twice(self) -> None:
        log = self.open_log()
        run = PostgresClient.run
        may_go_on = threading.Event()
        failed: list[BaseException] = []

        def run_and_raise(client: PostgresClient, *args: Any, **options: Any) -> Any:
            may_go_on.wait(60)
            run(client, *args, **options)
            raise KeyboardInterrupt

        def append(data: str) -> None:
            try:
                log.append("a", data)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=append, args=(str(number),)) for number in range(4)]
        log._committing.acquire()
        for thread in threads:
            thread.start()
        wait_until(lambda: len(log._appends._queue) == 4, message="all wait")
        with mock.patch.object(PostgresClient, "run", run_and_raise):
            log._committing.release()
            may_go_on.set()
            for thread in threads:
                thread.join(60)
        kinds = sorted(type(error).__name__ for error in failed)
        self.assertEqual(kinds, ["KeyboardInterrupt", *["LogUnavailable"] * 3])
        self.assertEqual(sorted(self.data(log)), ["0", "1", "2", "3"])


class NewEpochTest(LogCase):
    """A process that streams meets a new epoch."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.open_log()
        self.first = self.log.append("a", "one")
        self.log.append("a", "two")
        self.doorbell = self.log.open_doorbell()
        self.addCleanup(self.doorbell.close)
        self.assertEqual(self.data(self.log), ["one", "two"])

    def begin_epoch(self) -> PostgresLog:
        other = self.open_log()
        self.ask("UPDATE sse_threaded_state SET place = 'another'")
        other.append("a", "three")
        return other

    def test_the_reader_of_all_events_takes_it_on(self) -> None:
        before = self.log.epoch
        with self.assertLogs("sse_threaded", "WARNING") as logged:
            other = self.begin_epoch()
            for read in (
                lambda: self.log.read(0, channels=["a"]),
                self.log.last_event_id,
                lambda: self.log.sequence_of(f"{other.epoch}-1"),
            ):
                self.assertRaisesRegex(LogUnavailable, "a new epoch", read)
                self.assertEqual(self.log.epoch, before)
            with self.assertRaises(HistoryGone) as caught:
                self.log.read(2)
        self.assertEqual(caught.exception.reason, "epoch")
        self.assertEqual(len([line for line in logged.output if "new epoch" in line]), 2)
        self.assertEqual(self.log.epoch, other.epoch)
        self.assertEqual(self.data(self.log, 2), ["three"])
        self.assertEqual(self.log.sequence_of(self.first), 1)

    def test_an_own_append_has_an_id_of_the_new_epoch_at_once(self) -> None:
        other = self.begin_epoch()
        self.assertEqual(self.log.append("a", "four"), f"{other.epoch}-4")
        self.assertRaises(HistoryGone, self.log.read, 2)
        self.assertEqual(self.data(self.log, 2), ["three", "four"])

    def test_a_replay_goes_on_if_nothing_is_lost(self) -> None:
        cursor = Cursor(self.log, ("a",), self.first)
        self.begin_epoch()
        self.assertRaises(HistoryGone, self.log.read, 2)
        self.assertTrue(cursor.is_stale)
        self.assertEqual([record.data for record in cursor.read()], ["two", "three"])
        self.assertEqual((cursor.epoch, cursor.reset), (self.log.epoch, None))

    def test_a_replay_of_lost_events_is_reset(self) -> None:
        cursor = Cursor(self.log, ("a",), f"{self.log.epoch}-2")
        self.ask("DELETE FROM sse_threaded_numbers WHERE sequence = 2")
        self.ask("UPDATE sse_threaded_events SET is_numbered = true")
        self.log.append("a", "new")
        with suppress(HistoryGone):
            self.log.read(2)
        self.assertEqual(cursor.read(), [])
        self.assertEqual(cursor.reset, "epoch")

    def test_a_reader_beyond_the_end_begins_an_epoch(self) -> None:
        before = self.log.epoch
        self.ask("DELETE FROM sse_threaded_numbers WHERE sequence = 2")
        wait_until(lambda: self.is_gone(2), timeout=30, message="the reader notices it")
        with suppress(HistoryGone):
            self.log.read(1)
        self.assertNotEqual(self.log.epoch, before)
        self.assertRaises(HistoryGone, self.log.sequence_of, f"{before}-2")

    def is_gone(self, after: int) -> bool:
        try:
            self.log.read(after)
        except HistoryGone:
            return True
        return False

    def test_a_health_check_says_what_is_wrong(self) -> None:
        self.assertEqual(self.log.check(), f"{self.log.epoch}-2")
        self.postgres.ask("DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
        for statement in ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",):
            self.ask(statement)
        log = self.open_log(self.postgres.url(self.database, user="reader"))
        self.assertRaisesRegex(LogUnusable, "may not insert", log.check)


if __name__ == "__main__":
    unittest.main()
