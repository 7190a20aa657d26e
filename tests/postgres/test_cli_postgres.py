"""The command line with a log in PostgreSQL, and the SQL that it prints."""

import contextlib
import unittest

from sse_threaded import LogUnusable, Retention, open_log
from tests.harness.postgres_server import PostgresServer
from tests.live.test_cli import CliCase
from tests.postgres.patience import be_patient

ONCE = True  # it says the same under every Python


class CliTest(CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = PostgresServer()
        cls.addClassCleanup(cls.server.close)

    def setUp(self):
        super().setUp()
        be_patient(self)
        self.database = self.server.make_database()
        self.env["SSE_THREADED_URL"] = self.log_url = self.server.url(self.database)

    def run_sql(self, text, user=None):
        return self.server.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", text, self.log_url)

    def test_publish_takes_nothing_from_an_apps_log(self):
        log = open_log(self.log_url, Retention(count=None, age=None))
        self.addCleanup(log.close)
        log.append("news", "first")
        self.assertEqual(self.run_command("publish", "news", "second").returncode, 0)
        self.assertEqual([record.data for record in log.read(0)], ["first", "second"])

    def test_listen_waits_for_a_postgresql_that_restarts(self):
        log = self.make_log()
        child = self.start("listen", "news", "--since", log.append("news", "first"))
        log.append("news", "second")
        self.assertEqual(child.stdout.readline(), "data: second\n")
        self.server.kill()
        try:
            self.read_until(child.stderr, "waiting")
        finally:
            self.server.start()
        log.append("news", "third")
        lines = []
        while "data: third\n" not in lines:
            lines.append(child.stdout.readline())
        self.assertEqual(lines[:2], [f"id: {log.epoch}-2\n", "\n"])

    def test_the_schema_makes_a_log_and_may_run_twice(self):
        printed = self.run_command("schema")
        self.assertEqual((printed.returncode, printed.stderr), (0, ""))
        self.assertEqual(
            self.server.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database=self.database),
            [(0,)],
        )
        self.run_sql(printed.stdout)
        with contextlib.closing(open_log(self.log_url)) as log:
            event_id = log.append("news", "first")
            self.run_sql(printed.stdout)
            self.assertEqual(log.last_event_id(), event_id)
        self.assertEqual(self.run_command("schema").stdout, printed.stdout)

    def test_the_schema_follows_the_url(self):
        printed = self.run_command("schema", "--url", f"{self.log_url}?schema=Events&prefix=shop")
        self.run_sql(printed.stdout)
        tables = "SELECT DISTINCT schemaname, left(tablename, 5) FROM pg_tables WHERE tablename LIKE 'shop%'"
        self.assertEqual(self.server.ask(tables, database=self.database), [("Events", "shop_")])

    def test_the_schema_needs_no_server(self):
        printed = self.run_command("schema", "--url", "postgresql://user:secret@nowhere.invalid/shop")
        self.assertEqual(printed.returncode, 0)
        self.assertNotIn("secret", printed.stdout)

    def test_the_schema_of_other_logs(self):
        for url in ("sqlite:///events.db", "redis://:secret@host", "memory://"):
            with self.subTest(url):
                printed = self.run_command("schema", "--url", url)
                self.assertEqual(printed.returncode, 1)
                self.assertIn("only a log in PostgreSQL has SQL to print", printed.stderr)
                self.assertNotIn("secret", printed.stderr)

    def test_with_the_grants_a_role_can_do_everything_and_without_one_it_cannot(self):
        for role in ("plain", 'Odd "name"'):
            quoted = role.replace('"', '""')
            self.server.ask(f'CREATE ROLE "{quoted}" LOGIN')
            printed = self.run_command("schema", "--role", role)
            self.assertEqual(printed.returncode, 0, printed.stderr)
            self.run_sql(printed.stdout)
            self.assertIn(f'TO "{quoted}";', printed.stdout)
        url = self.server.url(self.database, user="plain")
        self.use(url)
        tables = [line for line in printed.stdout.splitlines() if line.startswith("GRANT SELECT")]
        self.assertEqual(len(tables), 1)
        owner = "REVOKE {} ON ALL TABLES IN SCHEMA public FROM plain"
        for privilege in ("SELECT", "INSERT"):
            self.run_sql(owner.format(privilege))
            with self.subTest(privilege), self.assertRaises(LogUnusable):
                self.use(url)
            self.run_sql(f"GRANT {privilege} ON ALL TABLES IN SCHEMA public TO plain")
        self.use(url)

    def use(self, url):
        with contextlib.closing(open_log(url, Retention(count=1))) as log:
            log.append("news", "first")
            log.append("news", "second")
            with log.transaction() as transaction:
                transaction.append("news", "third")
            with log.snapshot() as snapshot:
                self.assertEqual(snapshot.last_event_id(), log.last_event_id())
            log.trim()
            doorbell = log.open_doorbell()
            doorbell.close()
            self.assertEqual([record.data for record in log.read(log.last_sequence() - 1)], ["third"])
            log.check()


if __name__ == "__main__":
    unittest.main()
