"""A real Django project, made of what docs/django.md and docs/usage.md show, under Django's own test runner."""

import os
import re
import subprocess
import sys
import unittest

from tests.support import CHECKOUT, ROOT, missing, temporary_directory

try:
    import django
except ImportError:
    django = None

TEXT = (ROOT / "docs" / "django.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
DATABASES, EVENTS, VIEWS, AFTER_COMMIT = BLOCKS

SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).parent
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.contenttypes", "shop"]
ROOT_URLCONF = "urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
IN_MEMORY = """
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
"""
APPS = """
from django.apps import AppConfig

class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        from . import events
"""
APPS_WITHOUT = """
from django.apps import AppConfig

class ShopConfig(AppConfig):
    name = "shop"
"""
MODELS = """
from django.db import models

class Order(models.Model):
    item = models.TextField()
"""
URLS = """
from django.urls import path
from shop import views

urlpatterns = [path("orders", views.order), path("orders/events", views.order_events)]
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

TESTS = """
from django.db import connection, transaction
from django.test import Client, LiveServerTestCase, TestCase, TransactionTestCase
from sse_threaded.testing import EventStreamClient
from .events import hub
from .models import Order

def events_here():
    with connection.cursor() as cursor:
        return cursor.execute("SELECT channel, data FROM sse_events ORDER BY sequence").fetchall()

EVENT = '{"type":"order","item":"tea"}'

class OrderTest(TestCase):
    @classmethod
    def setUpTestData(cls):
        Order.objects.create(item="earlier")

    def post(self):
        before = len(events_here())
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            self.assertEqual(self.client.post("/orders", {"item": "tea"}).status_code, 201)
        self.assertEqual(len(callbacks), 1)
        self.assertEqual([item for item, in Order.objects.values_list("item")], ["earlier", "tea"])
        self.assertEqual(events_here()[before:], [("orders", EVENT)])

    def test_once(self):
        self.post()
        self.assertEqual(hub().log.last_sequence(), 0, "rolled back, or not committed")

    def test_again(self):
        self.post()
        self.assertEqual(hub().log.last_sequence(), 0, "rolled back, or not committed")

class WholeTest(TransactionTestCase):
    def test_committed(self):
        for _ in range(2):
            before = hub().log.last_sequence()
            self.assertEqual(self.client.post("/orders", {"item": "tea"}).status_code, 201)
            self.assertEqual([record.data for record in hub().log.read(before)], [EVENT])

    def test_rolled_back(self):
        before = hub().log.last_sequence()
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            self.assertEqual(self.client.post("/orders", {"item": "tea"}).status_code, 201)
            raise ZeroDivisionError
        self.assertEqual(hub().log.last_sequence(), before)
        self.assertEqual(Order.objects.count(), 0)

class LiveTest(LiveServerTestCase):
    def test_streamed(self):
        with EventStreamClient(self.live_server_url + "/orders/events") as client:
            client.wait_for_retry()
            self.assertEqual(Client().post("/orders", {"item": "tea"}).status_code, 201)
            events = [client.next_event()]
            while events[-1].event != "message":
                events.append(client.next_event())
            self.assertEqual(events[-1].data, EVENT)
            hub().request_close()
            client.wait_for_end()
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
    # What makemigrations has made of MODELS: once, as it takes a second.
    migration = None

    def setUp(self):
        if django is None:
            missing("django (pip install django)")
        self.folder = temporary_directory(self)
        (self.folder / "shop").mkdir()

    def make(self, files):
        everything = {"settings.py": SETTINGS, "urls.py": URLS, "shop/models.py": MODELS, "shop/__init__.py": ""}
        for name, text in {**everything, **files}.items():
            (self.folder / name).write_text(text)
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": f"{self.folder}:{CHECKOUT}"}
        self.env = {name: value for name, value in env.items() if not name.startswith("SSE_THREADED_")}
        migration = self.folder / "shop" / "migrations" / "0001_initial.py"
        if ProjectCase.migration is None:
            self.manage("makemigrations", "shop")
            ProjectCase.migration = migration.read_text()
        else:
            migration.parent.mkdir()
            (migration.parent / "__init__.py").touch()
            migration.write_text(ProjectCase.migration)
            (self.folder / "db.sqlite3").touch()  # as makemigrations leaves it

    def manage(self, *arguments):
        command = [sys.executable, "-m", "django", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def logs(self):
        """What is there of logs; Django itself makes an empty db.sqlite3."""
        names = {path.name for path in self.folder.rglob("*") if "sqlite3" in path.name or "memory" in path.name}
        return sorted(names - {"db.sqlite3"})


class DefaultDatabaseTest(ProjectCase):
    def test_the_project_of_the_page_passes_its_tests(self):
        views = {"shop/events.py": EVENTS, "shop/views.py": VIEWS}
        settings = {"settings.py": SETTINGS + DATABASES}
        self.make({**settings, **views, "shop/apps.py": APPS, "shop/tests.py": TESTS})
        for _ in range(2):  # also beside what the first run left
            status, output = self.manage("test", "-v", "2")
            self.assertEqual(status, 0, output)
            self.assertIn("Ran 5 tests", output)
            self.assertIn(f"made a new log in {str(self.folder / 'test.sqlite3')!r}", output)
        size = (self.folder / "db.sqlite3").stat().st_size
        self.assertEqual(size, 0, "the tests have written into the app's own database")
        status, output = self.manage("migrate")
        self.assertEqual(status, 0, output)
        self.assertIn(f"made a new log in {str(self.folder / 'db.sqlite3')!r}", output)
        self.assertNotIn("made a new log", self.manage("migrate")[1])

    def test_without_a_name_for_the_test_database_the_error_says_what_to_set(self):
        views = {"shop/events.py": EVENTS, "shop/views.py": VIEWS, "shop/tests.py": TESTS}
        settings = {"settings.py": SETTINGS + IN_MEMORY}
        self.make({**settings, **views, "shop/apps.py": APPS})
        status, output = self.manage("test")
        self.assertEqual(status, 1)
        self.assertIn("DATABASES['default']['TEST'] = {'NAME': BASE_DIR / 'test.sqlite3'}", output)
        self.assertEqual(self.logs(), [])
        self.assertEqual((self.folder / "db.sqlite3").stat().st_size, 0)

    def test_a_hub_of_a_file_beside_djangos_memory_says_so_too(self):
        # The hub was made with the app's own database; only Django's connection went into memory.
        events = "from pathlib import Path\nfrom sse_threaded import Hub\n"
        events += "_hub = Hub(Path(__file__).with_name('events.sqlite3'))\ndef hub():\n    return _hub\n"
        views = {"shop/events.py": events, "shop/views.py": VIEWS, "shop/tests.py": TESTS}
        settings = {"settings.py": SETTINGS + IN_MEMORY}
        self.make({**settings, **views, "shop/apps.py": APPS_WITHOUT})
        status, output = self.manage("test", "shop.tests.WholeTest.test_committed")
        self.assertEqual(status, 1)
        self.assertIn("the connection is to a database in memory", output)
        self.assertIn(repr(str(self.folder / "shop" / "events.sqlite3")), output)
        self.assertIn("DATABASES['default']['TEST'] = {'NAME': BASE_DIR / 'test.sqlite3'}", output)

    def test_a_hub_of_another_file_names_both(self):
        events = "from pathlib import Path\nfrom sse_threaded import Hub\n"
        events += "_hub = Hub(Path(__file__).with_name('events.sqlite3'))\ndef hub():\n    return _hub\n"
        views = {"shop/events.py": events, "shop/views.py": VIEWS, "shop/tests.py": TESTS}
        settings = {"settings.py": SETTINGS + DATABASES}
        self.make({**settings, **views, "shop/apps.py": APPS_WITHOUT})
        status, output = self.manage("test", "shop.tests.WholeTest.test_committed")
        self.assertEqual(status, 1)
        for name in ("test.sqlite3", "shop/events.sqlite3"):
            self.assertIn(repr(str(self.folder / name)), output)


class AfterCommitTest(ProjectCase):
    def exercise(self, block, logs, status):
        views = OTHER_HUB + "".join(f"    {line}\n" for line in block.splitlines())
        tests = TESTS_AFTER_COMMIT.replace("LOGS", logs).replace("STATUS", str(status))
        settings = {"settings.py": SETTINGS + DATABASES}
        self.make({**settings, "shop/views.py": views, "shop/apps.py": APPS_WITHOUT, "shop/tests.py": tests})
        code, output = self.manage("test")
        self.assertEqual(code, 0, output)
        self.assertIn("Ran 1 test", output)

    def test_as_the_page_shows_it_a_failure_is_logged_and_the_answer_is_a_success(self):
        self.assertIn("robust=True", AFTER_COMMIT)
        self.exercise(AFTER_COMMIT, "self.assertLogs('django.db.backends.base', 'ERROR')", 201)

    def test_as_the_usage_page_shows_it_too(self):
        text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        (line,) = [block for block in blocks if block.startswith("transaction.on_commit(")]
        block = f"with transaction.atomic():\n    Order.objects.create(item=item)\n    {line}"
        self.exercise(block, "self.assertLogs('django.db.backends.base', 'ERROR')", 201)

    def test_without_robust_the_answer_is_a_failure_for_a_row_that_is_there(self):
        # What the page says; if Django changes it, the page must.
        block = AFTER_COMMIT.replace(", robust=True", "")
        self.exercise(block, "self.assertLogs('django.request', 'ERROR')", 500)


if __name__ == "__main__":
    unittest.main()
