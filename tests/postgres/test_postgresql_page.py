"""Each block of docs/postgresql.md, run."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import unittest
from contextlib import closing
from typing import Any, ClassVar

import psycopg

from sse_threaded import Hub, LogUnusable
from sse_threaded.log.postgres.client import _CONNECTIONS as CONNECTIONS
from sse_threaded.log.postgres.numberer import NUMBERING
from sse_threaded.log.postgres.timeouts import Timeouts
from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.harness.django_project import DjangoProject, page_block, page_blocks
from tests.harness.postgres_server import PostgresServer, find_program
from tests.live import django_page
from tests.postgres.patience import be_patient
from tests.support import ROOT, enter, temporary_directory

ONCE = True  # it says the same under every Python

TEXT = (ROOT / "docs" / "postgresql.md").read_text(encoding="utf-8")
WORKER = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "4")
EVENT = '{"type":"order","item":"tea"}'


class PageCase(unittest.TestCase):
    """A server with the role, the password and the database of the page."""

    server: ClassVar[PostgresServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = PostgresServer(password="of the owner")
        cls.addClassCleanup(cls.server.close)
        cls.server.ask("CREATE ROLE shop LOGIN CREATEDB PASSWORD 'secret'")

    def setUp(self) -> None:
        be_patient(self)
        self.server.ask("CREATE DATABASE shop OWNER shop")
        self.addCleanup(self.server.ask, "DROP DATABASE shop WITH (FORCE)")
        self.place = f"127.0.0.1:{self.server.port}"
        self.url = f"postgresql://shop:secret@{self.place}/shop"

    def here(self, block: str) -> str:
        """A block with this server in place of the page's."""
        self.assertIn("@db.internal/", block)
        return block.replace("@db.internal/", f"@{self.place}/")

    def make_orders(self) -> Hub:
        self.server.ask("CREATE TABLE orders (item text)", database="shop")
        self.server.ask("ALTER TABLE orders OWNER TO shop", database="shop")
        hub = Hub(self.url)
        self.addCleanup(hub.close)
        return hub

    def items(self) -> list[str]:
        return [item for (item,) in self.server.ask("SELECT item FROM orders", database="shop")]


class DjangoPageTest(django_page.DjangoPageCase, PageCase):
    def port(self) -> int:
        return self.server.port

    def test_the_defaults_of_the_setting(self) -> None:
        """With the defaults the log is where it is without the setting."""
        block = page_block("django.md", "SSE_THREADED = {")
        outputs = []
        for settings in ("", block):
            project = DjangoProject(temporary_directory(self), self.server.port, settings=settings)
            outputs.append(project.manage("sqlmigrate", "sse_threaded", "0001"))
        self.assertIn("sse_threaded_events", outputs[0][1])
        self.assertEqual(outputs[0], outputs[1])


class FlaskPageTest(PageCase):
    def test_the_app_under_the_worker(self) -> None:
        folder = temporary_directory(self)
        block = self.here(page_block("postgresql.md", "from flask_sqlalchemy"))
        (folder / "shop.py").write_text(block)
        make = "import shop\nwith shop.app.app_context():\n    shop.db.create_all()\n"
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        subprocess.run([sys.executable, "-c", make], cwd=folder, env=env, check=True, timeout=60)
        server = enter(self, GunicornServer("shop:app", args=WORKER, cwd=folder))
        with EventStreamClient(f"{server.url}/orders/events") as page:
            page.wait_for_retry()
            # No value of JSON's for the column: the commit fails, and the event is gone with the row.
            self.assertEqual(request("POST", f"{server.url}/orders", json={"item": {}}).status, 500)
            self.assertEqual(request("POST", f"{server.url}/orders", json={"item": "tea"}).status, 201)
            self.assertEqual(page.next_event().data, EVENT)
            idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND state LIKE 'idle in%'"
            self.assertEqual(self.server.ask(idle), [(0,)])
        self.assertEqual(self.server.ask('SELECT item FROM "order"', database="shop"), [("tea",)])


class DriverPageTest(PageCase):
    def test_the_lines_of_both_drivers(self) -> None:
        hub = self.make_orders()
        block = self.here(page_block("postgresql.md", "import psycopg2"))
        for driver in ("psycopg2", "psycopg"):
            with self.subTest(driver):
                exec(block.replace("psycopg2", driver), {"hub": hub, "item": "tea"})
        self.assertEqual(self.items(), ["tea", "tea"])
        self.assertEqual([record.data for record in hub.log.read(0)], [EVENT, EVENT])

    def test_the_log_lends_a_connection(self) -> None:
        hub = self.make_orders()
        names: dict[str, Any] = {"hub": hub, "item": "tea"}
        exec(page_block("postgresql.md", "hub.log.transaction()"), names)
        self.assertEqual(self.items(), ["tea"])
        self.assertEqual(names["event_id"], hub.log.last_event_id())


class SQLPageTest(PageCase):
    def test_an_event_from_sql(self) -> None:
        hub = self.make_orders()
        with psycopg.connect(self.url) as connection:
            connection.execute("INSERT INTO orders VALUES ('tea')")
            connection.execute(page_block("postgresql.md", "SELECT sse_threaded_publish", "sql").encode())
        hub.log.ring()
        (record,) = hub.log.read(0)
        self.assertEqual((record.channel, record.data, record.event), ("orders", EVENT, "paid"))

    def test_a_prepared_transaction(self) -> None:
        hub = self.make_orders()
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT sse_threaded_publish('orders', 'x', NULL, false)")
            connection.execute("PREPARE TRANSACTION 'a'")
            hub.log.ring()
            self.assertEqual(hub.log.last_sequence(), 0)
            connection.execute("COMMIT PREPARED 'a'")
        hub.log.ring()
        self.assertEqual(hub.log.last_sequence(), 1)

    def test_events_that_no_stream_can_carry_are_refused(self) -> None:
        self.make_orders()
        for arguments in (
            "'', 'x'",
            "'a', 'x', ''",
            "'a', 'x', E'b\\nid: 1'",
            "'a', 'x', 'reset'",
            "'a', 'x', 'stream-end'",
        ):
            with self.subTest(arguments), self.assertRaises(psycopg.errors.CheckViolation):
                self.server.ask(f"SELECT sse_threaded_publish({arguments})", database="shop")

    def test_the_role_that_only_adds_events(self) -> None:
        hub = self.make_orders()
        self.server.ask("CREATE ROLE reporter LOGIN PASSWORD 'secret'")
        self.addCleanup(self.server.ask, "DROP ROLE reporter")
        self.addCleanup(self.server.ask, "DROP OWNED BY reporter", database="shop")
        grants = page_block("postgresql.md", "TO reporter", "sql").splitlines()
        url = self.url.replace("//shop:", "//reporter:")
        for number in range(len(grants) + 1):
            with psycopg.connect(url) as connection:
                if number == len(grants):
                    hub.log.append("orders", "tea", connection=connection)
                elif number:  # without the first one, as every role has it for the schema "public"
                    with self.assertRaises(LogUnusable):
                        hub.log.append("orders", "tea", connection=connection)
                    connection.rollback()
            if number < len(grants):
                self.server.ask(grants[number], database="shop")
        hub.log.ring()
        self.assertEqual(hub.log.last_sequence(), 1)
        with psycopg.connect(url) as connection, self.assertRaises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM sse_threaded_events")


class CommandPageTest(PageCase):
    def test_the_grants_are_enough(self) -> None:
        self.server.ask("DROP DATABASE shop")
        self.server.ask("CREATE DATABASE shop")  # of another role than shop
        (line,) = page_block("postgresql.md", "sse-threaded schema", "sh").splitlines()
        owner = self.server.url("shop")
        self.assertEqual(line.count("postgresql://owner@db.internal/shop"), 2)
        line = line.replace("postgresql://owner@db.internal/shop", owner)
        line = line.replace("sse-threaded ", f"{sys.executable} -m sse_threaded.cli ", 1)
        psql = find_program("psql")
        assert psql is not None
        line = line.replace("| psql ", f"| {psql} -v ON_ERROR_STOP=1 ")
        subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True, timeout=60, stdout=subprocess.DEVNULL)
        with closing(Hub(self.url)) as hub:
            self.assertEqual(hub.publish("orders", "tea"), hub.log.last_event_id())
            hub.health()


class SizeTest(PageCase):
    def test_the_bytes_of_an_event(self) -> None:
        (bytes_a_row,) = re.findall(r"its data and about ([0-9]+) bytes", TEXT)
        hub = self.make_orders()
        count, size = 1000, 100
        for _ in range(count):
            hub.publish("orders", "x" * size)
        total = "sum(pg_relation_size(t) + pg_indexes_size(t))"
        tables = "unnest(ARRAY['sse_threaded_events', 'sse_threaded_numbers']::regclass[]) t"
        ((found,),) = self.server.ask(f"SELECT {total} FROM {tables}", database="shop")
        self.assertAlmostEqual(found / count - size, int(bytes_a_row), delta=60)


class WordsTest(unittest.TestCase):
    def test_the_blocks_are_those_that_are_run(self) -> None:
        counts = [len(page_blocks("postgresql.md", language)) for language in ("python", "sh", "sql")]
        self.assertEqual(counts, [4, 1, 2])
        for block in page_blocks("postgresql.md"):
            ast.parse(block)

    def test_the_times_are_those_of_the_code(self) -> None:
        times = Timeouts()
        for pattern, value in (
            (r"tries again for ([0-9]+) seconds", times.retry),
            (r"waits for ([0-9]+) seconds between two statements", times.hold),
            (r"at the latest ([0-9]+) seconds after the commit", NUMBERING),
            (r"Up to ([0-9]+) others read", CONNECTIONS),
            (r"was idle for ([0-9]+) seconds is closed", times.idle),
        ):
            with self.subTest(pattern):
                (number,) = re.findall(pattern, " ".join(TEXT.split()))
                self.assertEqual(float(number), value)
        self.assertEqual(1 / times.poll, 2)  # "twice a second"


if __name__ == "__main__":
    unittest.main()
