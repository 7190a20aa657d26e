"""Statements and transactions: their results, their errors, and their bounds."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import threading
import time
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg

from benchmarks.faults.tcp_proxy import TcpProxy
from sse_threaded import LogUnavailable, LogUnusable
from sse_threaded.log.interface import TransactionOver
from sse_threaded.log.postgres import connector, driver, lookup
from sse_threaded.log.postgres.client import PostgresClient
from sse_threaded.log.postgres.errors import AnswerLost, Unreachable, sqlstate_of
from sse_threaded.log.postgres.timeouts import Timeouts
from sse_threaded.log.postgres.url import parse_url
from tests.harness.certificate import certificate
from tests.harness.postgres_server import PostgresServer
from tests.postgres.server_case import QUICK, PostgresCase, ended, everything_shown
from tests.support import free_port, temporary_directory, wait_until

ONCE = True  # it says the same under every Python

PATIENT = Timeouts(retry=60.0, answer=30.0, write=30.0)


class StatementsTest(PostgresCase):
    def setUp(self) -> None:
        self.client = self.make_client()
        self.client.run("DROP TABLE IF EXISTS things")
        self.client.run("CREATE TABLE things (name text PRIMARY KEY)")

    def names(self) -> list[str]:
        return [name for (name,) in self.postgres.ask("SELECT name FROM things ORDER BY name")]

    def test_a_statement_returns_its_rows(self) -> None:
        self.assertEqual(self.client.run("SELECT %s::int + 1, 'a%%'", (1,)), [(2, "a%")])
        self.assertEqual(self.client.run("SELECT '%'"), [("%",)])
        self.assertEqual(self.client.run("INSERT INTO things VALUES (%s)", ["x"]), [])
        self.assertEqual(self.names(), ["x"])

    def test_a_transaction_commits_at_its_end(self) -> None:
        with self.client.transaction() as session:
            session.run("INSERT INTO things VALUES (%s)", ["x"])
            session.connection.execute("INSERT INTO things VALUES ('y')")
            self.assertEqual(self.names(), [])
        self.assertEqual(self.names(), ["x", "y"])

    def test_an_exception_rolls_it_back(self) -> None:
        with self.assertRaises(KeyError), self.client.transaction() as session:
            session.run("INSERT INTO things VALUES ('x')")
            raise KeyError
        self.assertEqual(self.names(), [])
        self.assertEqual(self.client.run("SELECT 1"), [(1,)])

    def test_savepoints_are_the_drivers(self) -> None:
        with self.client.transaction() as session:
            session.run("INSERT INTO things VALUES ('x')")
            with self.assertRaises(KeyError), session.connection.transaction():
                session.run("INSERT INTO things VALUES ('y')")
                raise KeyError
        self.assertEqual(self.names(), ["x"])

    def test_an_error_of_the_callers_rows_leaves_the_block_as_it_is(self) -> None:
        with self.assertRaises(psycopg.errors.UniqueViolation), self.client.transaction() as session:
            session.run("INSERT INTO things VALUES ('x'), ('x')")
        with self.assertRaises(psycopg.errors.CheckViolation), self.client.transaction() as session:
            session.run("ALTER TABLE things ADD CHECK (name <> 'x')")
            session.run("INSERT INTO things VALUES ('x')")

    def test_an_error_at_the_commit_too(self) -> None:
        self.client.run("CREATE TABLE IF NOT EXISTS parts (thing text)")
        self.client.run("DELETE FROM parts")
        deferred = "FOREIGN KEY (thing) REFERENCES things DEFERRABLE INITIALLY DEFERRED"
        with self.assertRaises(psycopg.errors.ForeignKeyViolation), self.client.transaction() as session:
            session.run(f"ALTER TABLE parts ADD {deferred}")
            session.run("INSERT INTO parts VALUES ('x')")
        self.assertEqual(self.client.run("SELECT * FROM parts"), [])

    def test_a_swallowed_error_does_not_pass_for_a_commit(self) -> None:
        with self.assertRaisesRegex(LogUnavailable, "failed before"), self.client.transaction() as session:
            session.run("INSERT INTO things VALUES ('x')")
            with self.assertRaises(psycopg.errors.DivisionByZero):
                session.run("SELECT 1 / 0")
        self.assertEqual(self.names(), [])

    def test_a_transaction_that_the_caller_has_ended_is_over(self) -> None:
        with self.assertRaises(TransactionOver), self.client.transaction() as session:
            session.connection.commit()
        with self.assertRaises(TransactionOver), self.client.transaction() as session:
            session.connection.rollback()
            session.run("SELECT 1")

    def test_an_error_of_another_connection_is_not_ours(self) -> None:
        with self.assertRaises(psycopg.OperationalError), self.client.transaction() as session:
            session.run("INSERT INTO things VALUES ('x')")
            raise psycopg.OperationalError("of another database")
        self.assertEqual(self.names(), [])

    def test_a_snapshot_stays(self) -> None:
        with self.client.transaction(isolation="repeatable read", read_only=True) as session:
            self.assertEqual(session.run("SELECT count(*) FROM things"), [(0,)])
            self.postgres.ask("INSERT INTO things VALUES ('x')")
            self.assertEqual(session.run("SELECT count(*) FROM things"), [(0,)])
        refused = self.assertRaises(psycopg.errors.ReadOnlySqlTransaction)
        with refused, self.client.transaction(read_only=True) as session:
            session.run("INSERT INTO things VALUES ('y')")
        self.assertRaises(ValueError, self.client.transaction(isolation="chaos").__enter__)

    def test_the_roles_own_defaults_do_not_matter(self) -> None:
        self.postgres.ask("DROP ROLE IF EXISTS careful")
        self.postgres.ask("CREATE ROLE careful LOGIN SUPERUSER")
        for setting in ("default_transaction_isolation = 'serializable'", "default_transaction_read_only = on"):
            self.postgres.ask(f"ALTER ROLE careful SET {setting}")
        client = self.make_client(self.postgres.url(user="careful"))
        client.run("INSERT INTO things VALUES ('x')")
        self.assertEqual(client.run("SELECT current_setting('transaction_isolation')"), [("read committed",)])
        with client.transaction() as session:
            self.assertEqual(session.run("SHOW transaction_isolation"), [("read committed",)])
            session.run("INSERT INTO things VALUES ('y')")
        self.assertEqual(self.names(), ["x", "y"])

    def test_each_refusal_says_how_to_mend_it(self) -> None:
        with self.assertRaisesRegex(LogUnusable, "sse-threaded schema") as missing:
            self.client.run("SELECT * FROM no_table")
        self.assertEqual(sqlstate_of(missing.exception), "42P01")
        self.assertIsInstance(missing.exception.__cause__, psycopg.errors.UndefinedTable)
        self.postgres.ask("DROP ROLE IF EXISTS nobody")
        self.postgres.ask("CREATE ROLE nobody LOGIN")
        with self.assertRaisesRegex(LogUnusable, "lacks a right"):
            self.make_client(self.postgres.url(user="nobody")).run("SELECT * FROM things")
        with self.assertRaisesRegex(LogUnavailable, "cancelled"):
            self.client.run("SET statement_timeout = 1; SELECT pg_sleep(60)", timeout=30)
        with self.assertRaisesRegex(LogUnavailable, "another one"):
            self.client.run("DO $$ BEGIN RAISE 'x' USING ERRCODE = 'deadlock_detected'; END $$")
        with self.assertRaisesRegex(LogUnusable, "PostgreSQL refused: division by zero"):
            self.client.run("SELECT 1 / 0")

    def test_an_error_of_our_own_functions_passes(self) -> None:
        statement = "DO $$ BEGIN RAISE 'x' USING ERRCODE = 'SSE01'; END $$"
        with self.assertRaises(psycopg.Error) as caught:
            self.client.run(statement, retry_for=60)
        self.assertEqual(sqlstate_of(caught.exception), "SSE01")
        with self.assertRaises(psycopg.Error), self.client.transaction() as session:
            session.run(statement)

    def test_a_refusal_that_may_pass_is_tried_again(self) -> None:
        self.client.run("CREATE SEQUENCE IF NOT EXISTS tries")
        self.client.run("SELECT setval('tries', 1)")
        statement = (
            "DO $$ BEGIN IF nextval('tries') < 4 THEN RAISE 'x' USING ERRCODE = 'serialization_failure'; "
            "END IF; END $$"
        )
        with self.assertRaises(LogUnavailable):
            self.client.run(statement)
        self.assertEqual(self.client.run(statement, retry_for=60), [])

    def test_text_is_unicode_whatever_the_environment_says(self) -> None:
        with mock.patch.dict(os.environ, {"PGCLIENTENCODING": "LATIN1"}):
            client = self.make_client()
            self.assertEqual(client.run("SELECT %s || 'ø'", ["€"]), [("€ø",)])


class PoolTest(PostgresCase):
    def count(self) -> int:
        return len(self.postgres.sessions())

    def test_connections_are_made_when_needed_and_used_again(self) -> None:
        client = self.make_client()
        wait_until(lambda: self.count() == 0, message="no connection yet")
        for _ in range(3):
            client.run("SELECT 1")
        self.assertEqual(self.count(), 1)
        with client.transaction(), client.transaction():
            self.assertEqual(self.count(), 2)
        client.close()
        wait_until(lambda: self.count() == 0, message="all are closed")
        with self.assertRaisesRegex(LogUnusable, "was closed"):
            client.run("SELECT 1")

    def test_they_have_a_limit(self) -> None:
        client = self.make_client(timeouts=QUICK, connections=2)
        refused = self.assertRaisesRegex(LogUnavailable, "all 2 connections were in use")
        with client.transaction(), client.transaction(), refused:
            client.run("SELECT 1")
        client.run("SELECT 1")

    def test_idle_ones_are_closed(self) -> None:
        client = self.make_client(timeouts=Timeouts(idle=0.0))
        client.run("SELECT 1")
        client.drop_idle()
        wait_until(lambda: self.count() == 0, message="it is closed")

    def test_a_failed_statement_leaves_no_transaction_open(self) -> None:
        self.postgres.ask("DROP ROLE IF EXISTS careful")
        self.postgres.ask("CREATE ROLE careful LOGIN")
        self.postgres.ask("ALTER ROLE careful SET default_transaction_isolation = 'serializable'")
        client = self.make_client(self.postgres.url(user="careful"))
        self.assertRaises(LogUnusable, client.run, "SELECT 1 / 0")
        state = "SELECT state FROM pg_stat_activity WHERE application_name = 'sse_threaded'"
        wait_until(lambda: self.postgres.ask(state) == [("idle",)], message="its session is idle")

    def test_an_interrupted_thread_leaves_no_answer_behind(self) -> None:
        client = self.make_client()
        for before in ([], [0]):
            client.run("SELECT 1")
            with mock.patch.object(driver, "_wait", side_effect=[*before, KeyboardInterrupt]):
                self.assertRaises(KeyboardInterrupt, client.run, "SELECT 2")
        self.assertEqual(client.run("SELECT 3"), [(3,)])

    def test_another_server_is_noticed(self) -> None:
        client = self.make_client()
        client.run("SELECT 1")
        seen: list[str] = []
        client.on_new_server = lambda: seen.append(client.system_identifier)
        (((identifier,),)) = self.postgres.ask("SELECT system_identifier::text FROM pg_control_system()")
        self.assertEqual(client.system_identifier, identifier)
        client.reconnect()
        client.run("SELECT 1")
        self.assertEqual(seen, [])
        other = PostgresServer()
        self.addCleanup(other.close)
        proxy = TcpProxy("127.0.0.1", ("127.0.0.1", self.postgres.port))
        self.addCleanup(proxy.close)
        client = self.make_client(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres")
        client.run("SELECT 1")
        client.on_new_server = lambda: seen.append(client.system_identifier)
        proxy._to = ("127.0.0.1", other.port)
        client.reconnect()
        client.run("SELECT 1")
        self.assertEqual(seen, [str(*other.ask("SELECT system_identifier FROM pg_control_system()")[0])])

    def test_an_old_release_is_refused(self) -> None:
        with (
            mock.patch.object(connector, "OLDEST_SERVER", 99),
            self.assertRaisesRegex(LogUnusable, "too old; use 99"),
        ):
            self.make_client().run("SELECT 1")

    def test_a_role_that_may_not_read_the_identifier_can_do_without(self) -> None:
        self.postgres.ask("DROP ROLE IF EXISTS nobody")
        self.postgres.ask("CREATE ROLE nobody LOGIN")
        self.postgres.ask("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        self.addCleanup(self.postgres.ask, "GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
        client = self.make_client(self.postgres.url(user="nobody"))
        self.assertEqual(client.run("SELECT current_user::text"), [("nobody",)])
        self.assertEqual(client.system_identifier, "")


class AwayTest(unittest.TestCase):
    """PostgreSQL ends sessions, restarts, crashes or hangs. Each test has a server of its own."""

    def setUp(self) -> None:
        self.postgres = PostgresServer()
        self.addCleanup(self.postgres.close)
        self.postgres.ask("CREATE TABLE things (name text)")

    def make_client(self, timeouts: Timeouts | None = None, url: str | None = None) -> PostgresClient:
        client = PostgresClient(parse_url(url or self.postgres.url()), timeouts)
        self.addCleanup(client.close)
        return client

    def count(self) -> int:
        return int(self.postgres.ask("SELECT count(*) FROM things")[0][0])

    def test_ended_sessions_are_replaced_without_an_error(self) -> None:
        client = self.make_client()
        with client.transaction(), client.transaction():
            pass
        self.assertEqual(self.postgres.end_sessions(), 2)
        wait_until(lambda: not self.postgres.sessions(), message="both have ended")
        self.assertEqual(client.run("SELECT 1"), [(1,)])

    def test_a_transaction_whose_session_was_ended_did_nothing(self) -> None:
        client = self.make_client()
        with self.assertRaises(Unreachable) as caught, client.transaction() as session:
            session.run("INSERT INTO things VALUES ('x')")
            self.postgres.end_sessions()
            session.run("INSERT INTO things VALUES ('x')")
        self.assertNotIsInstance(caught.exception, AnswerLost)
        self.assertIsInstance(caught.exception.__cause__, psycopg.Error)
        self.assertEqual(self.count(), 0)
        self.assertEqual(client.run("SELECT 1"), [(1,)])

    def test_a_lost_connection_does_not_pass_for_a_commit(self) -> None:
        client = self.make_client()
        with self.assertRaisesRegex(Unreachable, "nothing of it happened"), client.transaction() as session:
            session.run("INSERT INTO things VALUES ('x')")
            self.postgres.end_sessions()
            with self.assertRaises(psycopg.OperationalError):
                session.run("INSERT INTO things VALUES ('y')")
        self.assertEqual(self.count(), 0)

    def test_a_restart_is_waited_for(self) -> None:
        client = self.make_client(PATIENT)
        client.run("SELECT 1")
        self.postgres.stop()
        self.assertRaises(Unreachable, client.run, "SELECT 1")
        restart = threading.Timer(0.3, self.postgres.start)
        restart.start()
        self.addCleanup(restart.join)
        self.assertEqual(client.run("INSERT INTO things VALUES ('x') RETURNING 1", (), 60), [(1,)])
        restart.join()
        self.assertEqual(self.count(), 1)

    def test_a_crash_is_waited_for(self) -> None:
        client = self.make_client(PATIENT)
        client.run("SELECT 1")
        self.postgres.kill()
        restart = threading.Timer(0.3, self.postgres.start)
        restart.start()
        self.addCleanup(restart.join)
        with client.transaction(retry_for=60) as session:
            session.run("INSERT INTO things VALUES ('x')")
        restart.join()
        self.assertEqual(self.count(), 1)

    def test_a_crash_of_another_session_ends_all(self) -> None:
        client = self.make_client(PATIENT)
        victim = self.postgres.connect()
        self.addCleanup(victim.close)
        client.run("SELECT 1")
        self.postgres.kill_session(victim.info.backend_pid)
        self.assertEqual(client.run("SELECT 1", (), 60, may_repeat=True), [(1,)])

    def test_a_statement_without_an_answer_is_not_repeated(self) -> None:
        client = self.make_client(PATIENT)
        with self.assertRaisesRegex(AnswerLost, "may have done its part"):
            client.run("INSERT INTO things SELECT 'x' FROM pg_sleep(2)", (), 60, timeout=0.3)
        wait_until(lambda: self.count() == 1, timeout=60, message="it took effect")

    def test_one_that_may_be_repeated_is(self) -> None:
        client = self.make_client(PATIENT)
        client.run("CREATE SEQUENCE tries")
        statement = "SELECT pg_sleep(CASE WHEN nextval('tries') < 3 THEN 60 ELSE 0 END)::text"
        self.assertEqual(client.run(statement, (), 60, may_repeat=True, timeout=0.5), [("",)])

    def test_what_cannot_be_reached_is_refused_in_time(self) -> None:
        client = self.make_client(QUICK)
        self.postgres.kill()
        with self.assertRaisesRegex(Unreachable, "could not be reached for 1 s|could not be reached \\("):
            ended(client.run, "SELECT 1", (), 0.6)
        with self.assertRaises(Unreachable):
            ended(client.transaction(retry_for=0.6).__enter__)

    def test_while_one_thread_tries_the_others_fail_at_once(self) -> None:
        client = self.make_client(Timeouts(connect=30, answer=30, forget=30))
        client.run("SELECT 1")
        self.postgres.kill()
        self.assertRaises(Unreachable, client.run, "SELECT 1")
        begun, go_on = threading.Event(), threading.Event()

        def connect() -> None:
            begun.set()
            go_on.wait(60)
            raise psycopg.OperationalError("away")

        self.addCleanup(go_on.set)
        with mock.patch.object(client._pool._connector, "connect", side_effect=connect):
            first = threading.Thread(target=lambda: self.assertRaises(Unreachable, client.run, "SELECT 1"))
            first.start()
            self.assertTrue(begun.wait(60))
            with self.assertRaisesRegex(Unreachable, "another thread is trying"):
                client.run("SELECT 1")
            go_on.set()
            first.join()
        self.postgres.start()
        self.assertEqual(client.run("SELECT 1", (), 60), [(1,)])

    def test_all_connections_in_use_are_told(self) -> None:
        self.postgres.stop()
        self.postgres._command += ["-c", "max_connections=5", "-c", "superuser_reserved_connections=2"]
        self.postgres._command += ["-c", "max_wal_senders=0"]
        self.postgres.start()
        self.postgres.ask("CREATE ROLE app LOGIN")
        others = [psycopg.connect(self.postgres.url(user="app")) for _ in range(3)]
        for each in others:
            self.addCleanup(each.close)
        client = self.make_client(url=self.postgres.url(user="app"))
        with self.assertRaisesRegex(LogUnavailable, "connection slots|too many clients"):
            client.run("SELECT 1")
        others.pop().close()
        self.assertEqual(client.run("SELECT 1", (), 60), [(1,)])


class HangTest(unittest.TestCase):
    """A PostgreSQL that is stopped, or a network that swallows all: each call ends by itself."""

    def setUp(self) -> None:
        self.postgres = PostgresServer()
        self.addCleanup(self.postgres.close)
        self.postgres.ask("CREATE TABLE things (name text)")
        self.proxy = TcpProxy("127.0.0.1", ("127.0.0.1", self.postgres.port))
        self.addCleanup(self.proxy.close)

    # How it hangs, and goes on.
    def kinds(self) -> dict[str, tuple[str, Any, Any]]:
        direct, through = (
            f"postgresql://postgres@127.0.0.1:{port}/" for port in (self.postgres.port, self.proxy.port)
        )
        return {
            "stopped": (direct, self.postgres.pause, self.postgres.go_on),
            "swallowed": (through, self.proxy.cut, self.proxy.heal),
        }

    def each(self) -> Any:
        for name, (url, hang, go_on) in self.kinds().items():
            client = PostgresClient(parse_url(url), QUICK)
            with self.subTest(name):
                client.run("SELECT 1", timeout=30)
                try:
                    yield client, hang
                finally:
                    go_on()
                self.assertEqual(client.run("SELECT 1", (), 60, may_repeat=True), [(1,)])
            client.close()

    def test_at_connect(self) -> None:
        for client, hang in self.each():
            client.reconnect()
            hang()
            self.assertRaises(Unreachable, ended, client.run, "SELECT 1")

    def test_at_a_statement(self) -> None:
        for client, hang in self.each():
            hang()
            self.assertRaises(AnswerLost, ended, client.run, "INSERT INTO things VALUES ('x')")
            self.assertRaises(Unreachable, ended, client.run, "SELECT 1", (), 0.5)

    def test_in_the_middle_of_a_transaction(self) -> None:
        def transact(client: PostgresClient, hang: Any) -> None:
            with client.transaction() as session:
                session.run("INSERT INTO things VALUES ('x')")
                hang()
                session.connection.execute("INSERT INTO things VALUES ('y')")

        for client, hang in self.each():
            with self.assertRaises(Unreachable) as caught:
                ended(transact, client, hang)
            self.assertNotIsInstance(caught.exception, AnswerLost)

    def test_with_more_to_send_than_the_kernel_takes(self) -> None:
        def transact(client: PostgresClient, hang: Any) -> None:
            with client.transaction() as session:
                hang()
                session.run("INSERT INTO things VALUES (%s)", ["x" * 50_000_000])

        for client, hang in self.each():
            self.assertRaises(Unreachable, ended, transact, client, hang)

    def test_at_the_commit(self) -> None:
        def transact(client: PostgresClient, hang: Any) -> None:
            with client.transaction() as session:
                session.run("INSERT INTO things VALUES ('x')")
                hang()

        for client, hang in self.each():
            self.assertRaises(AnswerLost, ended, transact, client, hang)

    def test_at_the_rollback(self) -> None:
        def transact(client: PostgresClient, hang: Any) -> None:
            with client.transaction() as session:
                session.run("INSERT INTO things VALUES ('x')")
                hang()
                raise KeyError

        for client, hang in self.each():
            self.assertRaises(KeyError, ended, transact, client, hang)

    def test_at_close(self) -> None:
        for client, hang in self.each():
            spare = PostgresClient(parse_url(client._pool._connector._conninfo), QUICK)
            spare.run("SELECT 1", timeout=30)
            hang()
            ended(spare.close)
            ended(client.reconnect)

    def test_the_urls_own_time_for_a_connection(self) -> None:
        url = f"postgresql://postgres@127.0.0.1:{self.proxy.port}/?connect_timeout="
        self.proxy.cut()
        for seconds, timeouts in (("1", PATIENT), ("0", QUICK), ("-1", QUICK)):
            client = PostgresClient(parse_url(url + seconds), timeouts)
            with self.subTest(seconds), self.assertRaisesRegex(Unreachable, "no connection to .* in time"):
                ended(client.run, "SELECT 1")

    def test_every_answer_belongs_to_its_question(self) -> None:
        """An answer that comes too late must not be the answer to the next question."""
        client = PostgresClient(parse_url(self.postgres.url()), QUICK._replace(answer=0.1))
        self.addCleanup(client.close)
        wrong: list[object] = []
        refused = threading.Semaphore(0)
        answered = threading.Semaphore(0)
        stop = threading.Event()

        def ask(number: int) -> None:
            while not stop.is_set():
                number += 10
                try:
                    answer = client.run("SELECT %s::int", [number])
                    with client.transaction(timeout=0.1) as session:
                        answer += session.run("SELECT %s::int", [number])
                except LogUnavailable:
                    refused.release()
                else:
                    answered.release()
                    if answer != [(number,), (number,)]:
                        wrong.append((number, answer))

        threads = [threading.Thread(target=ask, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                self.assertTrue(answered.acquire(timeout=60))
                self.postgres.pause()
                for _ in range(4):
                    self.assertTrue(refused.acquire(timeout=60))
                self.postgres.go_on()
                while refused.acquire(blocking=False) or answered.acquire(blocking=False):
                    pass
        finally:
            self.postgres.go_on()
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(wrong, [])
        with client.transaction(retry_for=60):
            self.assertEqual(client._pool._free._value, client._pool._limit - 1)  # type: ignore[attr-defined]

    def test_a_slow_network_is_no_hang(self) -> None:
        class SlowProxy(TcpProxy):
            is_slow = False

            def _forward(self, source: socket.socket, sink: socket.socket) -> None:
                with contextlib.suppress(OSError):
                    while data := source.recv(65536):
                        sink.sendall(data)
                        time.sleep(0.1 if self.is_slow else 0)
                    for each in (source, sink):
                        each.shutdown(socket.SHUT_RDWR)

        proxy = SlowProxy("127.0.0.1", ("127.0.0.1", self.postgres.port))
        self.addCleanup(proxy.close)
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/"
        client = PostgresClient(parse_url(url), Timeouts(answer=1.0))
        self.addCleanup(client.close)
        client.run("SELECT 1", timeout=30)
        proxy.is_slow = True
        self.assertEqual(client.run("SELECT repeat('x', 2000000)"), [("x" * 2_000_000,)])
        with self.assertRaises(AnswerLost):  # it has a bound, too
            ended(client.run, "SELECT repeat('x', 20000000)", timeout=0.3)

    def test_a_name_server_that_does_not_answer(self) -> None:
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        client = PostgresClient(parse_url("postgresql://db.example:1/"), QUICK)

        def hang(*args: object, **options: object) -> None:
            go_on.wait()
            raise socket.gaierror("no such name")

        with mock.patch.object(socket, "getaddrinfo", side_effect=hang) as lookups:
            for _ in range(3):
                with self.assertRaisesRegex(Unreachable, "db.example was not found within"):
                    ended(client.run, "SELECT 1")
            self.assertEqual(lookups.call_count, 1)  # no thread more for each try
            go_on.set()
            wait_until(lambda: not lookup._running, message="the lookup ends")
            with self.assertRaisesRegex(Unreachable, "no such name"):
                ended(client.run, "SELECT 1")


class SeveralHostsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.primary = PostgresServer()
        self.addCleanup(self.primary.close)
        self.primary.ask("CREATE TABLE things (name text)")

    def make_client(self, *ports: int, options: str = "", timeouts: Timeouts = PATIENT) -> PostgresClient:
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        client = PostgresClient(parse_url(f"postgresql://postgres@{hosts}/postgres{options}"), timeouts)
        self.addCleanup(client.close)
        return client

    def test_the_first_that_answers_is_taken(self) -> None:
        client = self.make_client(free_port(), self.primary.port)
        self.assertEqual(client.run("SELECT 1"), [(1,)])
        # From now on the dead one is tried last.
        with mock.patch.object(
            client._pool._connector, "_connect_to", wraps=client._pool._connector._connect_to
        ) as tries:
            client.reconnect()
            client.run("SELECT 1")
        self.assertEqual(tries.call_count, 1)

    def test_all_reasons_are_told(self) -> None:
        ports = free_port(), free_port()
        with self.assertRaises(Unreachable) as caught:
            self.make_client(*ports).run("SELECT 1")
        for port in ports:
            self.assertIn(str(port), str(caught.exception))

    def test_hosts_and_addresses_and_ports_belong_together(self) -> None:
        port = self.primary.port
        options = f"?host=nowhere.example,other.example&hostaddr=127.0.0.1,127.0.0.1&port=1,{port}&user=postgres"
        client = PostgresClient(parse_url(f"postgresql:///postgres{options}"))
        self.addCleanup(client.close)
        self.assertEqual(client.run("SELECT 1"), [(1,)])
        with self.assertRaisesRegex(LogUnusable, "could not match"):
            PostgresClient(parse_url("postgresql:///?host=a,b,c&port=1,2")).run("SELECT 1")

    def test_a_name_may_have_several_addresses(self) -> None:
        answers = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.9", "127.0.0.1")
        ]
        client = PostgresClient(
            parse_url(f"postgresql://postgres@db.example:{self.primary.port}/postgres"), PATIENT
        )
        self.addCleanup(client.close)
        with mock.patch.object(socket, "getaddrinfo", return_value=answers):
            self.assertEqual(client.run("SELECT host(inet_server_addr())"), [("127.0.0.1",)])

    def test_connections_may_be_spread_over_the_hosts(self) -> None:
        if psycopg.pq.version() < 160000:
            return  # libpq has the option since release 16
        replica = self.primary.replica()
        self.addCleanup(replica.close)
        options = "?load_balance_hosts=random&target_session_attrs=any"
        client = self.make_client(self.primary.port, replica.port, options=options)
        found = set()

        def has_both() -> bool:
            client.reconnect()
            found.update(client.run("SELECT inet_server_port()"))
            return len(found) == 2

        wait_until(has_both, timeout=60, message="both are used")

    def test_a_socket_in_a_folder(self) -> None:
        folder = str(self.primary.folder).replace("/", "%2F")
        client = PostgresClient(parse_url(f"postgresql://postgres@{folder}:{self.primary.port}/postgres"))
        self.addCleanup(client.close)
        self.assertEqual(client.run("SELECT inet_server_addr()"), [(None,)])

    def test_a_failover(self) -> None:
        replica = self.primary.replica()
        self.addCleanup(replica.close)
        client = self.make_client(replica.port, self.primary.port)
        client.run("INSERT INTO things VALUES ('x')")  # not to the replica, although it comes first
        wait_until(lambda: self.primary.is_in_step(replica), message="the replica has it")
        self.primary.kill()
        promotion = threading.Timer(0.3, replica.promote)
        promotion.start()
        self.addCleanup(promotion.join)
        client.run("INSERT INTO things VALUES ('y')", (), 60)
        promotion.join()
        self.assertEqual(replica.ask("SELECT name FROM things ORDER BY name"), [("x",), ("y",)])

    def test_a_replica_alone_is_told(self) -> None:
        replica = self.primary.replica()
        self.addCleanup(replica.close)
        client = self.make_client(replica.port)
        with self.assertRaisesRegex(LogUnavailable, "takes no changes"):
            client.run("INSERT INTO things VALUES ('x')")
        with self.assertRaisesRegex(LogUnavailable, "takes no changes"), client.transaction() as session:
            session.run("INSERT INTO things VALUES ('x')")
        with self.assertRaisesRegex(Unreachable, "read-only"):
            self.make_client(replica.port, options="?target_session_attrs=read-write").run("SELECT 1")
        client = self.make_client(replica.port)
        self.assertEqual(client.run("SELECT 1"), [(1,)])
        promotion = threading.Timer(0.3, replica.promote)
        promotion.start()
        self.addCleanup(promotion.join)
        client.run("INSERT INTO things VALUES ('x')", (), 60)


class SecretsTest(PostgresCase):
    password = "sesame/open@?#%"

    def setUp(self) -> None:
        self.folder = temporary_directory(self)

    def place(self, user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.postgres.port}/postgres"

    def test_the_url_may_have_it(self) -> None:
        self.assertEqual(self.make_client().run("SELECT 1"), [(1,)])
        escaped = "sesame%2Fopen%40%3F%23%25"
        client = self.make_client(f"{self.place()}?password={escaped}")
        self.assertEqual(client.run("SELECT 1"), [(1,)])

    def test_a_passfile_may_have_it(self) -> None:
        path = self.folder / "passfile"
        path.write_text(f"127.0.0.1:{self.postgres.port}:*:postgres:{self.password}\n")
        path.chmod(0o600)
        client = self.make_client(f"{self.place()}?passfile={str(path).replace('/', '%2F')}")
        self.assertEqual(client.run("SELECT 1"), [(1,)])

    def test_a_service_file_may_have_it(self) -> None:
        path = self.folder / "services"
        lines = ("host=127.0.0.1,127.0.0.1", f"port=1,{self.postgres.port}", "user=postgres", "dbname=postgres")
        path.write_text("\n".join(("[main]", *lines, f"password={self.password}", "connect_timeout=5")) + "\n")
        with mock.patch.dict(os.environ, {"PGSERVICEFILE": str(path)}):
            client = self.make_client("postgresql:///?service=main")
            self.assertEqual(client.run("SELECT 1"), [(1,)])
            with self.assertRaisesRegex(LogUnusable, 'service "other" not found'):
                self.make_client("postgresql:///?service=other").run("SELECT 1")

    def test_the_environment_may_have_it(self) -> None:
        with mock.patch.dict(os.environ, {"PGPASSWORD": self.password, "PGUSER": "postgres"}):
            client = self.make_client(f"postgresql://127.0.0.1:{self.postgres.port}/postgres")
            self.assertEqual(client.run("SELECT 1"), [(1,)])

    def test_no_error_and_no_log_line_shows_it(self) -> None:
        wrong = "wrong-secret"
        listen = f"postgres%3A%2F%2Fme%3A{wrong}%40127.0.0.1%3A1"
        urls = (
            f"postgresql://postgres:{wrong}@127.0.0.1:{self.postgres.port}/postgres",
            f"postgresql://127.0.0.1:{self.postgres.port}/postgres?password={wrong}&user=postgres&listen={listen}",
            f"postgresql://postgres:{wrong}@127.0.0.1:1/postgres",
            f"postgresql://postgres:{wrong}@127.0.0.1:1,127.0.0.1:{self.postgres.port}/postgres",
            f"postgresql://postgres:{wrong}@nowhere.invalid/postgres",
        )
        with self.assertLogs(level=logging.DEBUG) as lines:
            logging.getLogger("sse_threaded").debug("so that there is one")
            for url in urls:
                with self.subTest(url), self.assertRaises((LogUnusable, LogUnavailable)) as caught:
                    self.make_client(url).run("SELECT 1")
                shown = everything_shown(caught.exception)
                self.assertNotIn(wrong, shown)
        self.assertNotIn(wrong, "\n".join(lines.output))
        for kind in (PostgresClient, connector.Connector, driver.BoundedConnection):
            for each in gc.get_objects():
                if isinstance(each, kind):
                    self.assertNotIn(wrong, repr(each))

    def test_an_error_in_the_middle_shows_none_either(self) -> None:
        client = self.make_client(timeouts=QUICK)
        client.run("SELECT 1")
        for statement in ("SELECT 1 / 0", "SELECT pg_sleep(60)"):
            with self.assertRaises((LogUnusable, LogUnavailable)) as caught:
                client.run(statement)
            shown = everything_shown(caught.exception)
            self.assertNotIn("sesame", shown)

    def test_a_wrong_one_is_told(self) -> None:
        for url in (self.place(), self.place().replace("@", ":wrong@"), self.place("unknown")):
            with self.subTest(url), self.assertRaisesRegex(LogUnusable, "denies this user"):
                self.make_client(url).run("SELECT 1", (), 60)
        url = self.postgres.url("no_database")
        with self.assertRaisesRegex(LogUnusable, "the database does not exist"):
            self.make_client(url).run("SELECT 1", (), 60)


class TlsTest(PostgresCase):
    def enable(self) -> Path:
        """Let PostgreSQL offer TLS; returns the file with its certificate."""
        chain, key = certificate(temporary_directory(self))
        data = self.postgres.folder / "data"
        owner = data.stat()
        for source, name in ((chain, "server.crt"), (key, "server.key")):
            (data / name).write_bytes(source.read_bytes())
            (data / name).chmod(0o600)
            os.chown(data / name, owner.st_uid, owner.st_gid)
        self.postgres.set("ssl", "off")
        self.postgres.set("ssl", "on")
        return chain

    def test_the_certificate_is_checked(self) -> None:
        chain = self.enable()
        encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        client = self.make_client(self.postgres.url(sslmode="require"), PATIENT)
        self.assertEqual(client.run(encrypted, (), 30), [(True,)])
        verified = self.postgres.url(sslmode="verify-full", sslrootcert=str(chain))
        self.assertEqual(self.make_client(verified, PATIENT).run(encrypted), [(True,)])
        other, _ = certificate(temporary_directory(self))
        for root in (other, Path("/nowhere/root.crt")):
            url = self.postgres.url(sslmode="verify-full", sslrootcert=str(root))
            with self.subTest(root), self.assertRaisesRegex(LogUnusable, "TLS is not possible"):
                self.make_client(url, PATIENT).run("SELECT 1")

    def test_a_server_without_it_is_told(self) -> None:
        self.postgres.set("ssl", "off")
        with self.assertRaisesRegex(LogUnusable, "TLS is not possible"):
            self.make_client(self.postgres.url(sslmode="require"), PATIENT).run("SELECT 1")

    def test_a_hang_has_a_bound_there_too(self) -> None:
        def transact(client: PostgresClient, size: int) -> None:
            with client.transaction(retry_for=60) as session:
                self.postgres.pause()
                session.run("SELECT length(%s)", ["x" * size])

        self.enable()
        for size in (1, 50_000_000):
            client = self.make_client(self.postgres.url(sslmode="require"), QUICK)
            spare = self.make_client(self.postgres.url(sslmode="require"), QUICK)
            self.assertEqual(spare.run("SELECT 1", (), 60, may_repeat=True), [(1,)])
            try:
                self.assertRaises(Unreachable, ended, transact, client, size)
                self.assertRaises(Unreachable, ended, client.run, "SELECT 1")
                ended(client.close)
                ended(spare.close)
            finally:
                self.postgres.go_on()


if __name__ == "__main__":
    unittest.main()
