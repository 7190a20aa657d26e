"""Real Django projects with their log in SQLite, with the code of docs/django.md and docs/usage.md."""

from __future__ import annotations

import re
import shutil
import sqlite3
import textwrap
import unittest
from contextlib import closing

from sse_threaded.log import open_log
from sse_threaded.log.sqlite.url import url_of
from tests.harness.django_project import DjangoProject, page_block
from tests.harness.django_shop import TESTS, URLS, VIEWS
from tests.live import django_page
from tests.support import ROOT, missing, temporary_directory

try:
    import django
except ImportError:
    django = None

IN_MEMORY = "\ndel DATABASES['default']['TEST']\n"

# What is so in SQLite only; with the tests of django_shop.py, this is shop/tests.py.
TESTS_OF_SQLITE = """
import datetime
import decimal
import uuid
from unittest import mock
from django.db import connections
from sse_threaded import LogUnavailable


class SQLiteTest(RowsCase):
    def test_inside_of_atomic_the_id_is_known(self):
        with transaction.atomic():
            event_id = publish("orders", "x")
            self.assertEqual(hub().log.last_sequence(), self.before)
        self.assertEqual(hub().log.last_event_id(), event_id)

    def test_djangos_own_values(self):
        moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
        publish("orders", {"at": moment, "price": decimal.Decimal("1.50"), "key": uuid.UUID(int=7)})
        (event,) = hub().log.read(self.before)
        expected = {
            "at": "2026-01-02T00:00:00Z", "price": "1.50", "key": "00000000-0000-0000-0000-000000000007"
        }
        self.assertEqual(json.loads(event.data), expected)
"""

# A hub of another file, which cannot be reached: publishing fails after the commit.
OTHER_HUB = """
from pathlib import Path
from django.db import transaction
from django.http import HttpResponse
from sse_threaded import Hub
from .models import Order

hub = Hub(Path(__file__).with_name("other.db"))

def order(request):
    item = request.POST["item"]
    save(item)
    return HttpResponse(status=201)

def order_events(request):
    raise AssertionError

def save(item):
"""
TESTS_AFTER_COMMIT = """
from django.test import TransactionTestCase
from .models import Order
from .views import hub

class OrderTest(TransactionTestCase):
    def test_what_becomes_of_it(self):
        self.client.post("/orders", {"item": "first"})
        self.assertEqual(hub.log.last_sequence(), 1)
        hub.close()
        self.client.raise_request_exception = False
        with LOGS as logs:
            status = self.client.post("/orders", {"item": "tea"}).status_code
        self.assertEqual(status, STATUS)
        self.assertEqual([item for item, in Order.objects.values_list("item")], ["first", "tea"])
        self.assertIn("the hub is closed; nothing was published", "".join(logs.output))
"""


class ProjectCase(unittest.TestCase):
    def setUp(self) -> None:
        if django is None:
            missing("django (pip install django)")

    def project(self, files: dict[str, str] | None = None, settings: str = "") -> DjangoProject:
        return DjangoProject(temporary_directory(self), None, files, settings)

    def assert_done(self, project: DjangoProject, *arguments: str) -> str:
        status, output = project.manage(*arguments)
        self.assertEqual(status, 0, output)
        return output


class PageTest(django_page.DjangoPageCase, ProjectCase):
    def port(self) -> None:
        return None


class PublishTest(ProjectCase):
    def shop(self, tests: str = TESTS + TESTS_OF_SQLITE, settings: str = "") -> DjangoProject:
        return self.project({"shop/views.py": VIEWS, "urls.py": URLS, "shop/tests.py": tests}, settings)

    def test_in_all_of_djangos_classes(self) -> None:
        project = self.shop()
        for flags in (("--keepdb",), ("--keepdb",), ("--parallel", "2"), ()):
            with self.subTest(flags):
                self.assertIn("Ran 21 tests", self.assert_done(project, "test", "--noinput", *flags))
        self.assertFalse((project.folder / "db.sqlite3").exists(), "the tests wrote into the app's own database")

    def test_with_transactions_that_begin_with_the_lock(self) -> None:
        if django.VERSION < (5, 1):
            return
        project = self.shop(settings="\nDATABASES['default']['OPTIONS'] = {'transaction_mode': 'IMMEDIATE'}\n")
        self.assertIn("Ran 21 tests", self.assert_done(project, "test", "--noinput"))

    def test_with_a_transaction_for_each_request(self) -> None:
        project = self.shop(settings="\nDATABASES['default']['ATOMIC_REQUESTS'] = True\n")
        self.assertIn("Ran 21 tests", self.assert_done(project, "test", "--noinput"))

    def test_a_restored_file_whose_first_event_is_in_a_transaction(self) -> None:
        project = self.shop()
        self.assert_done(project, "migrate")
        path = project.folder / "db.sqlite3"
        with closing(open_log(path)) as log:
            before = log.append("orders", "before")
        copy = path.with_name("copy")
        shutil.copy(path, copy)
        for beside in project.folder.glob("db.sqlite3-*"):
            shutil.rmtree(beside) if beside.is_dir() else beside.unlink()
        copy.replace(path)
        code = """
            from django.db import transaction
            from shop.models import Order
            from sse_threaded.django import publish
            with transaction.atomic():
                Order.objects.create(item="tea")
                print("ID", publish("orders", "tea"))
        """
        output = self.assert_done(project, "shell", "-c", textwrap.dedent(code))
        self.assertIn("its ids begin a new epoch", output)
        (event_id,) = re.findall("^ID (.*)$", output, re.MULTILINE)
        self.assertNotEqual(event_id.partition("-")[0], before.partition("-")[0])
        with closing(open_log(path)) as log:
            self.assertEqual(log.last_event_id(), event_id)

    def test_without_a_name_for_the_test_database_the_error_says_what_to_set(self) -> None:
        project = self.shop(settings=IN_MEMORY)
        status, output = project.manage("test", "shop.tests.CommittedTest")
        self.assertEqual(status, 1)
        self.assertIn("DATABASES['default']['TEST'] = {'NAME': BASE_DIR / 'test.sqlite3'}", output)
        self.assertEqual(list(project.folder.glob("*memory*")), [])

    def test_tests_without_events_need_no_name(self) -> None:
        tests = """
            from django.test import TestCase
            from .models import Order

            class OrderTest(TestCase):
                def test_a_row(self):
                    Order.objects.create(item="tea")
                    self.assertEqual(Order.objects.count(), 1)
        """
        project = self.shop(textwrap.dedent(tests), settings=IN_MEMORY)
        for flags in ((), ("--parallel", "2")):
            self.assertIn("Ran 1 test", self.assert_done(project, "test", *flags))


class MigrationTest(ProjectCase):
    def test_it_makes_the_log_once(self) -> None:
        project = self.project()
        path = project.folder / "db.sqlite3"
        made = f"made a new log in {str(path)!r}"
        self.assertIn(made, self.assert_done(project, "migrate"))
        with closing(open_log(url_of(path))) as log:
            event_id = log.append("orders", "tea")
        self.assertNotIn("made a new log", self.assert_done(project, "migrate"))
        with closing(open_log(url_of(path))) as log:
            self.assertEqual(log.last_event_id(), event_id)

    def test_other_databases_get_no_log(self) -> None:
        other = "DATABASES['other'] = {**DATABASES['default'], 'NAME': BASE_DIR / 'other.sqlite3'}\n"
        project = self.project(settings=other + "SSE_THREADED = {'DATABASE': 'other'}")
        for database, expected in (("default", 0), ("other", 1)):
            self.assert_done(project, "migrate", "--database", database)
            name = "db" if database == "default" else database
            with closing(sqlite3.connect(project.folder / f"{name}.sqlite3")) as connection:
                found = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'sse_events'")
                self.assertEqual(found.fetchone(), (expected,))


class CheckTest(ProjectCase):
    def test_each_fault(self) -> None:
        for settings, number, words in (
            ("SSE_THREADED = {'SCHEMA': 'x'}", "E009", "SSE_THREADED has SCHEMA, but a log in SQLite"),
            ("SSE_THREADED = {'LISTEN': {'PORT': 5}}", "E009", "SSE_THREADED has LISTEN, but a log in SQLite"),
            (
                "SSE_THREADED = {'HUB': {'hartbeat': 5}}",
                "E004",
                "SSE_THREADED['HUB'] has 'hartbeat', which is not an argument",
            ),
            ("SSE_THREADED = {'HUB': {'origins': ['*']}}", "E010", "SSE_THREADED['HUB'] has an invalid value: "),
            ("SSE_THREADED = {'HUB': {'secret': ''}}", "E010", "SSE_THREADED['HUB'] has an invalid value: "),
            ("", "W001", "The log's tables do not exist"),
        ):
            with self.subTest(settings):
                status, output = self.project(settings=settings).manage("check", "--database", "default")
                self.assertEqual(status, int(number.startswith("E")), output)
                self.assertIn(f"(sse_threaded.{number}) {words}", output)
                self.assertIn("HINT: ", output)
                self.assertEqual(len(re.findall(r"\(sse_threaded\.", output)), 1, output)

    def test_a_file_that_cannot_be_opened(self) -> None:
        project = self.project(settings="\nDATABASES['default']['NAME'] = BASE_DIR / 'nowhere' / 'db.sqlite3'\n")
        status, output = project.manage("check", "--database", "default")
        self.assertEqual(status, 1, output)
        self.assertIn("(sse_threaded.E006) The log's database cannot be read: unable to open", output)

    def test_an_invalid_setting_fails_uses_of_the_hub_alone(self) -> None:
        project = self.project()
        self.assert_done(project, "migrate")
        with (project.folder / "settings.py").open("a") as settings:
            settings.write(
                "\nSSE_THREADED = {'HUB': {'secret': ''}}\nSILENCED_SYSTEM_CHECKS = ['sse_threaded.E010']\n"
            )
        code = "from shop.models import Order; print('ROWS', Order.objects.count())"
        self.assertIn("ROWS 0", self.assert_done(project, "shell", "-c", code))
        code = "from sse_threaded.django import publish; publish('orders', 'tea')"
        status, output = project.manage("shell", "-c", code)
        self.assertEqual(status, 1)
        self.assertIn("secret must be text", output)

    def test_a_database_in_memory(self) -> None:
        project = self.project(settings="\nDATABASES['default']['NAME'] = ':memory:'\n")
        self.assert_done(project, "migrate")
        code = "from sse_threaded.django import publish; publish('orders', 'tea')"
        status, output = project.manage("shell", "-c", code)
        self.assertEqual(status, 1)
        self.assertIn("only one connection can see a database in SQLite's memory", output)


class AfterCommitTest(ProjectCase):
    """Of a log in another place."""

    def setUp(self) -> None:
        super().setUp()
        self.block = page_block("django.md", "transaction.on_commit(lambda: hub.publish")

    def exercise(self, block: str, logs: str, status: int) -> None:
        views = OTHER_HUB + textwrap.indent(block, "    ")
        tests = TESTS_AFTER_COMMIT.replace("LOGS", logs).replace("STATUS", str(status))
        settings = "\nINSTALLED_APPS.remove('sse_threaded.django')\n"
        project = self.project({"shop/views.py": views, "shop/tests.py": tests}, settings)
        self.assertIn("Ran 1 test", self.assert_done(project, "test"))

    def test_as_the_page_shows_it_a_failure_is_logged_and_the_answer_is_a_success(self) -> None:
        self.assertIn("robust=True", self.block)
        self.exercise(self.block, "self.assertLogs('django.db.backends.base', 'ERROR')", 201)

    def test_as_the_usage_page_shows_it_too(self) -> None:
        text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        (line,) = [block for block in blocks if block.startswith("transaction.on_commit(")]
        block = f"with transaction.atomic():\n    Order.objects.create(item=item)\n    {line}"
        self.exercise(block, "self.assertLogs('django.db.backends.base', 'ERROR')", 201)

    def test_without_robust_the_answer_is_a_failure_for_a_row_that_is_there(self) -> None:
        # What the page says; if Django changes it, the page must.
        block = self.block.replace(", robust=True", "")
        self.exercise(block, "self.assertLogs('django.request', 'ERROR')", 500)


if __name__ == "__main__":
    unittest.main()
