"""PgBouncer in transaction mode between the log and PostgreSQL, and in session mode."""

from __future__ import annotations

import logging
import threading
import unittest

from sse_threaded import LogUnavailable, LogUnusable
from sse_threaded.log.postgres.client import PostgresClient
from sse_threaded.log.postgres.errors import AnswerLost, Unreachable
from sse_threaded.log.postgres.log import PostgresLog
from sse_threaded.log.postgres.url import parse_url
from tests.harness.postgres_server import PgBouncer, PostgresServer, find_program
from tests.postgres.patience import PATIENT
from tests.postgres.server_case import QUICK, PostgresCase, ended
from tests.postgres.test_listener import ALERT, LISTENERS, OpenListener
from tests.support import enter, missing, wait_until

ONCE = True  # it says the same under every Python

LOGGER = "sse_threaded.log.postgres.listener"


def setUpModule() -> None:
    if find_program("pgbouncer") is None:
        missing("pgbouncer (apt-get install pgbouncer)")


class TransactionModeTest(PostgresCase):
    def setUp(self) -> None:
        self.pooler = PgBouncer(self.postgres)
        self.addCleanup(self.pooler.close)

    def test_statements_and_transactions(self) -> None:
        client = self.make_client(self.pooler.url())
        client.run("CREATE TABLE IF NOT EXISTS things (name text)")
        client.run("TRUNCATE things")
        for _ in range(10):  # psycopg would prepare it
            client.run("INSERT INTO things VALUES (%s)", ["x"])
        with client.transaction() as session:
            session.run("INSERT INTO things VALUES ('y')")
        with self.assertRaises(KeyError), client.transaction() as session:
            session.run("INSERT INTO things VALUES ('z')")
            raise KeyError
        self.assertEqual(
            client.run("SELECT name, count(*) FROM things GROUP BY 1 ORDER BY 1"), [("x", 10), ("y", 1)]
        )

    def test_an_option_that_it_does_not_take(self) -> None:
        client = self.make_client(self.pooler.url(options="-c statement_timeout=1000"))
        with self.assertRaisesRegex(LogUnusable, "the pooler does not take an option"):
            client.run("SELECT 1", (), 60)

    def test_many_threads_share_few_connections(self) -> None:
        clients = [self.make_client(self.pooler.url()) for _ in range(4)]
        barrier = threading.Barrier(16)
        answers: list[object] = []

        def ask(client: PostgresClient) -> None:
            barrier.wait(60)
            for _ in range(20):
                answers.extend(client.run("SELECT %s::int", [1], 30))

        threads = [threading.Thread(target=ask, args=[clients[each % 4]]) for each in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, [(1,)] * 320)

    def test_without_notifications_it_polls_and_says_so_once(self) -> None:
        timeouts = ALERT._replace(listen=0.1)
        with self.assertLogs(LOGGER, logging.WARNING) as lines:
            opened = [OpenListener(self, self.pooler.url(), timeouts) for _ in range(2)]
            for each in opened:
                wait_until(lambda each=each: each.listener.why_polling, timeout=60, message="it polls")
                calls = each.calls
                wait_until(lambda each=each, calls=calls: each.calls > calls + 5, timeout=60, message="it goes on")
                each.wait_for_ring("it rings")
                self.assertIsNone(each.listener.failure)
                self.assertFalse(each.listener.is_numberer)
        self.assertEqual(len(lines.output), 2, lines.output)  # one each
        for line in lines.output:
            self.assertIn("name PostgreSQL itself in ?listen=", line)
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        self.assertEqual(self.postgres.ask(locks), [(0,)])

    def test_the_listener_may_go_around_it(self) -> None:
        opened = OpenListener(self, self.pooler.url(listen=self.postgres.url()), ALERT)
        wait_until(lambda: opened.is_listening, timeout=60, message="it listens")
        opened.wait_for_ring("it rings when it listens")
        opened.client.run("SELECT pg_notify(%s, 'abcdef-1')", [opened.address.bell])
        opened.wait_for_ring("a notification through the pooler")
        wait_until(lambda: opened.listener.is_numberer, message="it has the role")
        self.assertEqual(len(self.postgres.sessions(LISTENERS)), 1)

    def test_another_server_behind_it_is_noticed(self) -> None:
        other = PostgresServer()
        self.addCleanup(other.close)
        client = self.make_client(self.pooler.url())
        client.run("SELECT 1")
        before = client.system_identifier
        seen: list[str] = []
        client.on_new_server = lambda: seen.append(client.system_identifier)
        file = self.pooler._directory / "pgbouncer.ini"
        file.write_text(file.read_text().replace(f"port={self.postgres.port}", f"port={other.port}"))
        self.pooler.reload()

        def notices() -> bool:
            client.run("SELECT 1", (), 30)
            return bool(seen)

        wait_until(notices, timeout=60, message="another server")
        self.assertNotEqual(seen, [before])

    def test_a_pooler_whose_server_is_away_or_hangs(self) -> None:
        client = self.make_client(self.pooler.url(), QUICK)
        client.run("SELECT 1", timeout=30)
        self.postgres.pause()
        try:
            self.assertRaises(Unreachable, ended, client.run, "SELECT 1")
            self.assertRaises(Unreachable, ended, client.run, "SELECT 1", (), 0.5)
        finally:
            self.postgres.go_on()
        self.assertEqual(client.run("SELECT 1", (), 60, may_repeat=True), [(1,)])
        self.postgres.restart()
        self.assertEqual(client.run("SELECT 1", (), 60, may_repeat=True), [(1,)])

    def test_a_commit_whose_answer_the_pooler_lost_is_not_repeated(self) -> None:
        postgres = enter(self, PostgresServer())
        pooler = enter(self, PgBouncer(postgres))
        log = PostgresLog(pooler.url(), timeouts=PATIENT)
        self.addCleanup(log.close)
        log.append("a", "one")
        # The commit waits for a replica that there is not. Then PostgreSQL crashes, and has the commit.
        postgres.set("synchronous_standby_names", "nobody")
        errors: list[Exception] = []

        def append() -> None:
            try:
                log.append("a", "two")
            except LogUnavailable as error:
                errors.append(error)

        thread = threading.Thread(target=append)
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        wait_until(lambda: postgres.ask(waiting) == [(1,)], timeout=60, message="the commit waits")
        postgres.pause()
        postgres.kill()
        (postgres.folder / "data" / "postgresql.auto.conf").write_text("")
        postgres.start()
        thread.join()
        self.assertEqual([type(error) for error in errors], [AnswerLost])
        wait_until(log.check, timeout=60, message="it is back")
        self.assertEqual([record.data for record in log.read(0)], ["one", "two"])


class SessionModeTest(PostgresCase):
    def test_notifications_arrive(self) -> None:
        pooler = PgBouncer(self.postgres, "session", pool=10)
        self.addCleanup(pooler.close)
        opened = OpenListener(self, pooler.url(), ALERT)
        wait_until(lambda: opened.is_listening, timeout=60, message="it listens")
        opened.wait_for_ring("it rings when it listens")
        self.postgres.ask("SELECT pg_notify(%s, 'abcdef-1')", parse_url(pooler.url()).bell)
        opened.wait_for_ring("a notification")
        wait_until(lambda: opened.listener.is_numberer, message="it has the role")


if __name__ == "__main__":
    unittest.main()
