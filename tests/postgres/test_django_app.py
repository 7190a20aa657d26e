"""The Django app ``sse_threaded.django`` in a real project: publish, tests, checks, migrations, streams."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import textwrap
import threading
import unittest
from http.client import HTTPException
from typing import ClassVar

from sse_threaded import open_log
from sse_threaded.log.postgres.installation import objects
from sse_threaded.log.postgres.url import parse_url
from sse_threaded.testing import EventStreamClient, GunicornServer, ResumingClient, request
from tests.harness.django_project import DjangoProject
from tests.harness.django_shop import TESTS, URLS, VIEWS
from tests.harness.postgres_server import PgBouncer, PostgresServer
from tests.support import enter, kill_at_random, temporary_directory, wait_until

ALL = objects(parse_url("postgresql:///shop"))
ALL_TABLES = sorted(table.rpartition(".")[2].strip('"') for table in ALL.tables)

# What is so in PostgreSQL only; with the tests of django_shop.py, this is shop/tests.py.
TESTS_OF_POSTGRESQL = """
import psycopg
from django.db import DatabaseError
from sse_threaded import LogUnavailable, LogUnusable


class PostgresTest(RowsCase):
    def test_inside_of_atomic_the_id_is_not_known(self):
        with transaction.atomic():
            self.assertEqual(publish("orders", "x"), "")
            self.assertEqual(hub().log.last_sequence(), self.before)
        self.assertEqual(hub().log.last_sequence(), self.before + 1)

    def test_a_connection_that_is_lost(self):
        with self.assertRaises(LogUnavailable) as caught, transaction.atomic():
            Order.objects.create(item="gone")
            with connection.cursor() as cursor:
                with self.assertRaises(DatabaseError):
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            publish("orders", {"item": "gone"})
        self.assertIsInstance(caught.exception.__cause__, psycopg.Error)
        publish("orders", {"item": "kept"})
        self.assertEqual(items_in(hub().log.read(self.before)), ["kept"])

    def test_an_error_of_postgresql_is_the_cause_and_ends_the_block(self):
        with self.assertRaises(LogUnusable) as caught, transaction.atomic():
            Order.objects.create(item="tea")
            with connection.cursor() as cursor:
                cursor.execute("REVOKE INSERT ON sse_threaded_events FROM CURRENT_USER")
            publish("orders", {"item": "tea"})
        self.assertEqual(caught.exception.__cause__.sqlstate, "42501")
        self.assert_is()

    def test_queries(self):
        with transaction.atomic(), self.assertNumQueries(1):
            publish("orders", "x")
        with self.assertNumQueries(0):
            publish("orders", "x")
"""

IN_USE = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND application_name {} 'sse_threaded%'"


def post(url: str, form: bytes = b"") -> int:
    return request("POST", url, body=form, headers={"Content-Type": "application/x-www-form-urlencoded"}).status


class ProjectCase(unittest.TestCase):
    server: ClassVar[PostgresServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = PostgresServer()
        cls.addClassCleanup(cls.server.close)
        cls.server.ask("CREATE ROLE shop LOGIN CREATEDB PASSWORD 'secret'")

    def make(
        self, files: dict[str, str] | None = None, settings: str = "", migrated: bool = True
    ) -> DjangoProject:
        self.server.ask("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        self.server.ask("CREATE DATABASE shop OWNER shop")
        everything = {"shop/views.py": VIEWS, "urls.py": URLS, **(files or {})}
        project = DjangoProject(temporary_directory(self), self.server.port, everything, settings)
        if migrated:
            self.assert_done(project, "migrate")
        return project

    def tables(self) -> list[str]:
        """The tables of the log."""
        found = "SELECT tablename FROM pg_tables WHERE tablename LIKE 'sse_threaded%' ORDER BY tablename"
        return [name for (name,) in self.server.ask(found, database="shop")]

    def count(self, operator: str) -> int:
        ((count,),) = self.server.ask(IN_USE.format(operator))
        return int(count)

    def assert_done(self, project: DjangoProject, *arguments: str) -> str:
        status, output = project.manage(*arguments)
        self.assertEqual(status, 0, output)
        return output


class PublishTest(ProjectCase):
    def test_in_all_of_djangos_classes(self) -> None:
        project = self.make({"shop/tests.py": TESTS + TESTS_OF_POSTGRESQL}, migrated=False)
        for flags in (("--keepdb",), ("--keepdb",), ("--parallel", "2")):
            with self.subTest(flags):
                output = self.assert_done(project, "test", "--noinput", *flags)
                self.assertIn("Ran 23 tests", output)
        settings = project.folder / "settings.py"
        before = settings.read_text()
        options = "{'isolation_level': 4, 'server_side_binding': True}"
        settings.write_text(f"{before}\nDATABASES['default']['OPTIONS'] = {options}\n")
        self.assertIn("Ran 23 tests", self.assert_done(project, "test", "--noinput"))
        # The tests have not written into the app's own database.
        self.assertEqual(self.tables(), [])


class StreamTest(ProjectCase):
    def serve(self, settings: str = "") -> GunicornServer:
        return self.start(self.make({"wsgi.py": IMPATIENT_WSGI}, settings))

    def start(self, project: DjangoProject) -> GunicornServer:
        worker = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "8", "--worker-connections", "200"]
        server = GunicornServer("wsgi:application", args=worker, cwd=project.folder, env=project.env)
        return enter(self, server)

    def assert_hundred_streams_hold_no_connection(self, settings: str = "") -> None:
        server = self.serve(settings)
        with contextlib.ExitStack() as stack:
            clients = [EventStreamClient(f"{server.url}/order_events", timeout=60) for _ in range(100)]
            for client in clients:
                stack.enter_context(client).wait_for_retry()
            # PostgreSQL shows a connection for a moment after it was closed.
            wait_until(lambda: self.count("NOT LIKE") == 0, timeout=30, message="no connection of Django's")
            wait_until(
                lambda: self.count("LIKE") == 1, timeout=30, message="the listening connection alone to stay"
            )
            self.assertEqual(post(f"{server.url}/order", b"item=tea"), 201)
            self.assertEqual(post(f"{server.url}/broken_order", b"item=gone"), 500)
            self.assertEqual(post(f"{server.url}/half_order"), 201)
            for client in clients:
                items = [json.loads(event.data)["item"] for event in client.events(3)]
                self.assertEqual(items, ["tea", "first", "fourth"])
            wait_until(lambda: self.count("NOT LIKE") == 0, message="the connections of the requests to end")

    def test_a_hundred_streams_hold_no_connection_of_djangos(self) -> None:
        self.assert_hundred_streams_hold_no_connection()

    def test_through_pgbouncer(self) -> None:
        project = self.make()
        bouncer = PgBouncer(self.server)
        self.addCleanup(bouncer.close)
        settings = project.folder / "settings.py"
        listen = f"\nSSE_THREADED = {{'LISTEN': {{'HOST': '127.0.0.1', 'PORT': {self.server.port}}}}}\n"
        settings.write_text(settings.read_text().replace(f'"{self.server.port}"', f'"{bouncer.port}"') + listen)
        server = self.start(project)
        with EventStreamClient(f"{server.url}/order_events") as client:
            client.wait_for_retry()
            self.assertEqual(post(f"{server.url}/order", b"item=tea"), 201)
            self.assertEqual(post(f"{server.url}/broken_order", b"item=gone"), 500)
            self.assertEqual(post(f"{server.url}/half_order"), 201)
            self.assertEqual(post(f"{server.url}/plain_order", b"item=milk"), 200)
            items = [json.loads(event.data)["item"] for event in client.events(4)]
            self.assertEqual(items, ["tea", "first", "fourth", "milk"])
            # Only the listening connection does not come from PgBouncer, which connects as postgres.
            direct = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND usename = 'shop'"
            self.assertEqual(self.server.ask(direct), [(1,)])

    def test_nor_with_atomic_requests(self) -> None:
        self.assert_hundred_streams_hold_no_connection('\nDATABASES["default"]["ATOMIC_REQUESTS"] = True\n')


# A project without psycopg 3: Django then uses psycopg2.
HIDE_PSYCOPG = """
import importlib.util
import sys

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: None if name == "psycopg" else find_spec(name, *package)


class Hide:
    def find_spec(name, path, target=None):
        if name == "psycopg":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Hide)
"""


# A connection of the log that no thread uses is closed soon.
IMPATIENT_WSGI = """
from django.core.wsgi import get_wsgi_application
from sse_threaded.log.postgres import log
from sse_threaded.log.postgres.timeouts import Timeouts

log.Timeouts = lambda: Timeouts(idle=0.5)
application = get_wsgi_application()
"""


class StressTest(ProjectCase):
    """Requests that commit and that fail, in two processes that are killed at random."""

    def test_rows_and_events_agree(self) -> None:
        project = self.make()
        worker = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "4", "-w", "2"]
        server = enter(self, GunicornServer("wsgi:application", args=worker, cwd=project.folder, env=project.env))
        clients = [enter(self, ResumingClient(f"{server.url}/order_events", retry_factor=0.01)) for _ in range(4)]
        for client in clients:
            client.wait_for_connections(1)
        chance = random.Random(12)
        stop, done = threading.Event(), itertools.count()
        posted = 0

        def work(number: int) -> None:
            nonlocal posted
            views = random.Random(number)
            while not stop.is_set():
                view = views.choice(["order", "broken_order", "half_order"])
                with contextlib.suppress(OSError, HTTPException):  # its worker was killed
                    post(f"{server.url}/{view}", f"item={next(done)}".encode())
                    posted += 1

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for each in workers:
            each.start()
        try:
            for _ in range(6):
                wait_until(lambda: len(server.worker_pids()) == 2, timeout=30, message="both workers")
                goal = posted + chance.randrange(10, 60)
                wait_until(lambda goal=goal: posted >= goal, timeout=60, message="requests")  # type: ignore[misc]
                kill_at_random(server.worker_pids(), chance)
        finally:
            stop.set()
            for each in workers:
                each.join()
        # PostgreSQL may be about to commit for a worker that was killed just now. Its sessions then end.
        wait_until(lambda: self.count("NOT LIKE") == 0, message="the sessions of the requests to end")
        with contextlib.closing(open_log(self.server.url("shop"))) as log:
            log.ring()
            records = []
            while page := log.read(records[-1].sequence if records else 0):
                records += page
            ids = [log.event_id(record.sequence) for record in records]
        rows = self.server.ask("SELECT item FROM shop_order ORDER BY item", database="shop")
        self.assertEqual(sorted(json.loads(record.data)["item"] for record in records), [item for (item,) in rows])
        for client in clients:
            client.wait_for(lambda client=client: client.ids[-1:] == ids[-1:], 60, "the last event")
            self.assertEqual((client.ids, client.resets), (ids, []))


class MigrationTest(ProjectCase):
    def functions(self) -> int:
        found = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'sse_threaded%'"
        return int(self.server.ask(found, database="shop")[0][0])

    def test_it_makes_everything_and_drops_everything(self) -> None:
        project = self.make()
        self.assertEqual(self.tables(), ALL_TABLES)
        self.assertEqual(self.functions(), len(ALL.functions))
        self.assert_done(project, "migrate", "sse_threaded", "zero")
        self.assertEqual((self.tables(), self.functions()), ([], 0))
        self.assert_done(project, "migrate")
        self.assertIn(
            "No changes detected in app 'sse_threaded'",
            self.assert_done(project, "makemigrations", "sse_threaded", "--check", "--dry-run"),
        )

    def test_it_leaves_a_log_alone_that_is_there(self) -> None:
        project = self.make(migrated=False)
        with contextlib.closing(open_log(self.server.url("shop"))) as log:
            event_id = log.append("orders", "tea")
            # The tables are the other role's, so the migration could not replace the functions.
            self.assert_done(project, "migrate")
            self.assertEqual(log.last_event_id(), event_id)

    def test_its_sql_makes_the_same(self) -> None:
        project = self.make(migrated=False)
        text = self.assert_done(project, "sqlmigrate", "sse_threaded", "0001")
        self.server.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", text, self.server.url("shop"))
        self.assertEqual(self.tables(), ALL_TABLES)
        self.assertEqual(self.functions(), len(ALL.functions))

    def test_a_schema_and_a_prefix(self) -> None:
        self.make(settings="SSE_THREADED = {'SCHEMA': 'Events', 'PREFIX': 'shop_log'}")
        found = "SELECT count(*) FROM pg_tables WHERE schemaname = 'Events' AND tablename LIKE 'shop_log_%'"
        self.assertEqual(self.server.ask(found, database="shop"), [(len(ALL_TABLES),)])
        self.assertEqual(self.tables(), [])

    def test_other_databases_get_no_tables(self) -> None:
        other = (
            "DATABASES['other'] = DATABASES['default'] | {'NAME': 'other'}\nSSE_THREADED = {'DATABASE': 'other'}"
        )
        self.server.ask("CREATE DATABASE other OWNER shop")
        self.addCleanup(self.server.ask, "DROP DATABASE other")
        project = self.make(settings=other)
        self.assertEqual(self.tables(), [])
        self.assert_done(project, "migrate", "--database", "other")
        found = "SELECT to_regclass('sse_threaded_state') IS NOT NULL"
        self.assertEqual(self.server.ask(found, database="other"), [(True,)])


class CheckTest(ProjectCase):
    """Each check says what is wrong and what to do."""

    def check(self, project: DjangoProject, number: str, *parts: str) -> None:
        status, output = project.manage("check", "--database", "default")
        self.assertIn(f"(sse_threaded.{number})", output)
        self.assertEqual(status, int(number.startswith("E")), output)
        self.assertIn("HINT: ", output)
        for part in parts:
            self.assertIn(part, output)
        self.assertEqual(len(re.findall(r"\(sse_threaded\.", output)), 1, output)

    def test_a_project_that_is_right(self) -> None:
        output = self.assert_done(self.make(), "check", "--database", "default")
        self.assertEqual(output, "System check identified no issues (0 silenced).\n")

    def test_settings(self) -> None:
        cases: list[tuple[object, str, list[str]]] = [
            ("x", "E001", ["must be a dictionary, not str"]),
            ({"PREFX": "x"}, "E001", ["no key 'PREFX'", "PREFIX"]),
            ({"DATABASE": "x"}, "E001", ["DATABASES has no 'x'"]),
            ({"HUB": 5}, "E001", ["HUB must be a dictionary"]),
            ({"HUB": {"hartbeat": 5}}, "E004", ["'hartbeat'", "heartbeat"]),
            ({"PREFIX": "a b"}, "E005", ["?prefix= takes"]),
            ({"LISTEN": "x"}, "E001", ["LISTEN must be a dictionary", "HOST"]),
            ({"LISTEN": {"NAME": "x"}}, "E001", ["LISTEN must be a dictionary", "HOST"]),
        ]
        code = f"""
            import json
            from django.core.checks import run_checks
            from django.test.utils import override_settings
            for value in {[case[0] for case in cases]!r}:
                with override_settings(SSE_THREADED=value):
                    found = run_checks(databases=["default"])
                print("FOUND", json.dumps([[each.id, str(each), each.hint] for each in found]))
        """
        output = self.assert_done(self.make(migrated=False), "shell", "-c", textwrap.dedent(code))
        printed = [json.loads(line[6:]) for line in output.splitlines() if line.startswith("FOUND ")]
        for (value, number, parts), found in zip(cases, printed, strict=True):
            with self.subTest(value):
                self.assertEqual([each[0] for each in found], [f"sse_threaded.{number}"])
                self.assertTrue(found[0][2])
                for part in parts:
                    self.assertIn(part, found[0][1])

    def test_another_engine(self) -> None:
        other = "DATABASES['default'] = {'ENGINE': 'django.db.backends.dummy'}"
        self.check(self.make(settings=other, migrated=False), "E002", "is in unknown", "docs/django.md")

    def test_without_the_driver(self) -> None:
        project = self.make(migrated=False)
        (project.folder / "sitecustomize.py").write_text(HIDE_PSYCOPG)
        status, output = project.manage("check")
        self.assertEqual(status, 1, output)
        self.assertIn("(sse_threaded.E003) The log needs psycopg 3, which is not installed.", output)
        self.assertIn("HINT: Run: pip install", output)

    def test_an_old_postgresql(self) -> None:
        config = """
            from django.apps import AppConfig
            from sse_threaded.django import checks

            class ShopConfig(AppConfig):
                name = "shop"

                def ready(self):
                    checks._OLDEST = 990_000
        """
        project = self.make({"shop/apps.py": textwrap.dedent(config)}, migrated=False)
        self.check(project, "E007", "is too old for the log", "PostgreSQL 13")

    def test_without_tables(self) -> None:
        project = self.make(migrated=False)
        self.check(project, "W001", "do not exist", "manage.py migrate sse_threaded")
        self.assert_done(project, "migrate")
        self.assert_done(project, "check", "--database", "default")

    def test_a_database_that_cannot_be_read(self) -> None:
        project = self.make()
        self.server.ask("DROP DATABASE shop WITH (FORCE)")
        self.check(project, "E006", "cannot be read", "does not exist")

    def test_privileges(self) -> None:
        project = self.make()
        self.server.ask("ALTER TABLE sse_threaded_events OWNER TO postgres", database="shop")
        self.server.ask("REVOKE ALL ON sse_threaded_events FROM shop", database="shop")
        self.server.ask("GRANT SELECT ON sse_threaded_events TO shop", database="shop")
        self.check(
            project, "W002", 'INSERT, UPDATE, DELETE on "public"."sse_threaded_events"', "GRANT", 'TO "shop"'
        )
        (grants,) = re.findall(
            r"HINT: Run, as the owner of the tables: (.*)", project.manage("check", "--database", "default")[1]
        )
        self.server.ask("ALTER FUNCTION sse_threaded_append OWNER TO postgres", database="shop")
        self.server.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", grants, self.server.url("shop"))
        self.assert_done(project, "check", "--database", "default")

    def test_a_replica(self) -> None:
        project = self.make()
        replica = self.server.replica()
        self.addCleanup(replica.close)
        wait_until(lambda: self.server.is_in_step(replica), message="the replica has everything")
        at_replica = project.folder / "settings.py"
        at_replica.write_text(at_replica.read_text().replace(str(self.server.port), str(replica.port)))
        self.check(project, "E008", "is a replica", "the primary")


if __name__ == "__main__":
    unittest.main()
