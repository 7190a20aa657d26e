"""The code of docs/django.md, with the log in either database."""

from __future__ import annotations

import json
import unittest
from abc import abstractmethod

from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.harness.django_project import DjangoProject, page_block
from tests.support import enter, temporary_directory

_WORKER = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "4")
_EVENT = '{"type":"order","item":"tea"}'
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_URLS = """
from django.urls import path
from shop import pages, views

urlpatterns = [
    path("orders", views.order),
    path("orders/events", views.order_events),
    path("", pages.orders),
]
"""


class DjangoPageCase(unittest.TestCase):
    @abstractmethod
    def port(self) -> int | None:
        """PostgreSQL's, or ``None`` for SQLite."""

    def make(self, files: dict[str, str] | None = None, settings: str = "") -> DjangoProject:
        return DjangoProject(temporary_directory(self), self.port(), files, settings)

    def test_the_tests_of_the_page_pass(self) -> None:
        project = self.make({"shop/tests.py": page_block("django.md", "uncommitted_events(hub(), connection)")})
        for options in ((), ("--parallel", "2"), ("--keepdb",), ("--keepdb",)):
            with self.subTest(options):
                status, output = project.manage("test", "--noinput", *options)
                self.assertEqual(status, 0, output)
                self.assertIn("Ran 3 tests", output)

    def test_a_project_that_is_right(self) -> None:
        project = self.make()
        status, output = project.manage("migrate")
        self.assertEqual(status, 0, output)
        status, output = project.manage("check", "--database", "default")
        self.assertEqual((status, output), (0, "System check identified no issues (0 silenced).\n"))

    def test_the_views_under_the_worker(self) -> None:
        project = self.make({"shop/pages.py": page_block("django.md", "def orders(request"), "urls.py": _URLS})
        self.assertEqual(project.manage("migrate")[0], 0)
        server = enter(self, GunicornServer("wsgi:application", args=_WORKER, cwd=project.folder, env=project.env))
        with EventStreamClient(f"{server.url}/orders/events", headers={"Accept-Encoding": "gzip"}) as page:
            page.wait_for_retry()
            self.assertEqual(request("POST", f"{server.url}/orders", body=b"", headers=_FORM).status, 500)
            self.assertEqual(request("POST", f"{server.url}/orders", body=b"item=tea", headers=_FORM).status, 201)
            event = page.next_event()
            self.assertEqual(event.data, _EVENT)
        shown = json.loads(request("GET", server.url).body)
        self.assertEqual(shown, {"items": ["tea"], "lastEventId": event.last_event_id})
        self.assertEqual(request("POST", f"{server.url}/orders", body=b"item=milk", headers=_FORM).status, 201)
        resumed = f"{server.url}/orders/events?lastEventId={shown['lastEventId']}"
        with EventStreamClient(resumed) as page:
            self.assertEqual(json.loads(page.next_event().data)["item"], "milk")
        poll = request("GET", f"{resumed}&wait=0", headers={"Accept": "application/json"})
        self.assertEqual([json.loads(each["data"])["item"] for each in poll.json()["events"]], ["milk"])
