"""The tools for tests of apps: responses of test clients, a clock, and the plug-in for pytest."""

from __future__ import annotations

import subprocess
import sys
import time
import unittest
from typing import Any

import django
import flask
from django.conf import settings
from django.http import StreamingHttpResponse
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import path
from werkzeug.test import Client
from werkzeug.wrappers import Request

from sse_threaded import Hub
from sse_threaded.testing import FakeClock, StreamedResponse, StreamEnded, StreamTimeout
from tests.support import enter, temporary_directory, wait_until

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"], SECRET_KEY="none")
    django.setup()

hub = Hub()


def django_events(request: Any) -> StreamingHttpResponse:
    made = hub.stream(request, "news", from_start="start" in request.GET)
    return StreamingHttpResponse(made.response, status=made.status_code, headers=dict(made.headers))


urlpatterns = [path("events", django_events)]


def flask_client() -> Any:
    app = flask.Flask("app")

    @app.get("/events")
    def events() -> Any:
        return hub.stream(flask.request, "news", from_start="start" in flask.request.args)

    return app.test_client()


def werkzeug_client() -> Any:
    @Request.application
    def app(web: Request) -> Any:
        return hub.stream(web, "news", from_start="start" in web.args)

    return Client(app)


CLIENTS = {"Flask": flask_client, "Werkzeug": werkzeug_client, "Django": DjangoClient}


class StreamedResponseTest(unittest.TestCase):
    def setUp(self) -> None:
        global hub
        hub = enter(self, Hub())
        enter(self, override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"]))

    def each(self) -> Any:
        for name, make in CLIENTS.items():
            with self.subTest(name):
                yield make()

    def test_it_reads_events_without_reading_for_ever(self) -> None:
        for client in self.each():
            with StreamedResponse(client.get("/events")) as stream:
                ids = [hub.publish("news", number) for number in range(3)]
                self.assertEqual(stream.next_event().data, "0")
                self.assertEqual([event.data for event in stream.events(2)], ["1", "2"])
                self.assertEqual(stream.last_event_id, ids[-1])
                self.assertEqual(stream.pending(), [])
            wait_until(lambda: hub.streams == 0, message="its place is free")

    def test_a_wait_has_an_end(self) -> None:
        for client in self.each():
            with StreamedResponse(client.get("/events")) as stream:
                self.assertRaises(StreamTimeout, stream.next_event, 0.2)
                self.assertRaises(StreamTimeout, stream.next_event, 0.0)
                self.assertRaises(StreamTimeout, stream.wait_for_end, 0.2)
        wait_until(lambda: hub.streams == 0, message="their places are free")

    def test_a_stream_that_ends(self) -> None:
        hub.publish("news", "one")
        hub.finish("news", "over")
        for client in self.each():
            with StreamedResponse(client.get("/events?start=1")) as stream:
                self.assertEqual([event.data for event in stream.events(2)], ["one", "over"])
                stream.wait_for_end()
                self.assertTrue(stream.ended)
                self.assertRaises(StreamEnded, stream.next_event)
            with StreamedResponse(client.get("/events")) as stream:
                self.assertEqual((stream.raw, stream.ended), (b"", True))

    def test_the_error_of_an_app_is_the_error_of_the_test(self) -> None:
        @Request.application
        def app(web: Request) -> Any:
            def parts() -> Any:
                yield b"data: one\n\n"
                raise ZeroDivisionError

            return flask.Response(parts())

        with StreamedResponse(Client(app).get("/")) as stream:
            self.assertEqual(stream.next_event().data, "one")
            self.assertRaises(ZeroDivisionError, stream.next_event)

    def test_what_is_no_response(self) -> None:
        for wrong in (None, "text", b"bytes", object()):
            self.assertRaises(TypeError, StreamedResponse, wrong)


class FakeClockTest(unittest.TestCase):
    def test_heartbeats_and_leases(self) -> None:
        made = enter(self, Hub(heartbeat=100, lease=1000))
        clock = enter(self, FakeClock(made))
        begun = time.monotonic()
        with StreamedResponse(Client(Request.application(lambda web: made.stream(web, "a"))).get("/")) as stream:
            for number in range(1, 4):
                clock.advance(100)
                wait_until(lambda number=number: self.heartbeats(stream) >= number, message="a heartbeat")
            clock.advance(1000)
            stream.wait_for_end()
            self.assertIn(b"event: stream-end\n", stream.raw)
        self.assertEqual(clock.passed, 1300)
        self.assertLess(time.monotonic() - begun, 100)

    @staticmethod
    def heartbeats(stream: StreamedResponse) -> int:
        stream.pending()
        return stream.raw.count(b": heartbeat\n")

    def test_tickets(self) -> None:
        made = enter(self, Hub(secret="secret"))
        client = Client(Request.application(made.stream))
        with FakeClock(made) as clock:
            ticket = made.ticket("a", seconds=60)
            clock.advance(59)
            StreamedResponse(client.get(f"/?ticket={ticket}")).close()
            clock.advance(2)
            self.assertEqual(client.get(f"/?ticket={ticket}").status_code, 403)
        StreamedResponse(client.get(f"/?ticket={ticket}")).close()

    def test_after_the_block_time_is_as_before(self) -> None:
        with FakeClock() as clock:
            clock.advance(10**9)
        made = enter(self, Hub(lease=1000))
        client = Client(Request.application(lambda web: made.stream(web, "a")))
        stream = enter(self, StreamedResponse(client.get("/")))
        made.publish("a", "one")
        self.assertEqual(stream.next_event().data, "one")


PYTEST = """
import time

from sse_threaded import Hub
from sse_threaded.fanout import registry
from werkzeug.test import Client
from werkzeug.wrappers import Request

pytest_plugins = ["sse_threaded.testing.pytest_plugin"]


def test_all(sse_server, sse_client, sse_stream, sse_clock):
    with Hub(lease=1000, heartbeat=None) as hub:
        app = Request.application(lambda web: hub.stream(web, "a"))
        server = sse_server(app)
        client = sse_client(server.url)
        client.wait_for_retry()
        stream = sse_stream(Client(app).get("/"))
        hub.publish("a", "one")
        assert client.next_event().data == stream.next_event().data == "one"
        sse_clock(hub).advance(1000)
        client.wait_for_end()
        stream.wait_for_end()


def test_time_is_as_before():
    assert registry.time is time
"""


class PytestTest(unittest.TestCase):
    def test_the_fixtures(self) -> None:
        folder = temporary_directory(self)
        (folder / "test_app.py").write_text(PYTEST, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertIn("2 passed", done.stdout, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
