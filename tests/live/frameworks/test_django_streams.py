"""A hundred streams of a Django app with SQLite: users, a logout, and no database connection."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from sse_threaded import Hub
from tests.live.frameworks.case import Served
from tests.live.frameworks.django_streams import DjangoStreamsCase
from tests.support import enter, missing

try:
    import django.conf
    from django.http import StreamingHttpResponse
    from django.test import RequestFactory
except ImportError:
    django = None

ONCE = True  # Django is the same under every Python


class SQLiteTest(DjangoStreamsCase):
    def database(self, folder: Path) -> dict[str, Any]:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "app.sqlite3")}

    def connections(self, served: Served) -> int:
        return sum("/app.sqlite3" in name for name in served.whole_state()["files"])

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")

    def test_with_atomic_requests_under_gthread(self) -> None:
        self.check("gthread", ATOMIC_REQUESTS=True)

    def test_with_atomic_requests_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker", ATOMIC_REQUESTS=True)


class ResponseTest(unittest.TestCase):
    """The response of ``sse_threaded.django.stream``, without a server."""

    def setUp(self) -> None:
        if django is None:
            missing("django (pip install django)")
        if not django.conf.settings.configured:
            django.conf.settings.configure(ALLOWED_HOSTS=["*"], DATABASES={})
            django.setup()
        from sse_threaded.django import stream  # noqa: PLC0415  # it needs Django

        self.stream = stream
        self.requests = RequestFactory()
        self.hub = enter(self, Hub(secret="x" * 32, max_streams_per_user=1))

    def test_it_is_djangos_and_has_the_status_and_the_fields(self) -> None:
        response = self.stream(self.requests.get("/"), "a", hub=self.hub)
        self.assertIsInstance(response, StreamingHttpResponse)
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response["Content-Type"], "text/event-stream; charset=utf-8")
        self.assertEqual(response["Cache-Control"], "no-cache, no-transform")
        response.close()
        self.assertEqual(self.hub.streams, 0)

    def test_it_passes_on_whose_stream_it_is(self) -> None:
        first = self.stream(self.requests.get("/"), "a", hub=self.hub, user=7)
        chunks = iter(first)
        self.assertIn(b"stream-start", next(chunks))
        self.assertIn(
            b"stream-unavailable", b"".join(self.stream(self.requests.get("/"), "a", hub=self.hub, user=7))
        )
        self.hub.disconnect(user=7)
        self.assertIn(b"stream-end", b"".join(chunks))

    def test_it_passes_on_from_start_and_the_end(self) -> None:
        self.hub.publish("a", "early")
        self.hub.finish("a")
        body = b"".join(self.stream(self.requests.get("/"), "a", hub=self.hub, from_start=True))
        self.assertIn(b"data: early", body)
        self.assertIn(b"event: stream-finished", body)
        newest = self.hub.log.last_event_id()
        over = self.stream(self.requests.get("/", headers={"last-event-id": newest}), "a", hub=self.hub)
        self.assertEqual((over.status_code, b"".join(over)), (204, b""))

    def test_it_passes_on_tickets_and_their_refusal(self) -> None:
        self.assertEqual(self.stream(self.requests.get("/"), hub=self.hub).status_code, 403)
        ticket = self.hub.ticket("a", user=7)
        response = self.stream(self.requests.get("/", {"ticket": ticket}), hub=self.hub)
        self.assertEqual(response.status_code, 200)
        response.close()

    def test_it_passes_on_whether_long_polls_are_answered(self) -> None:
        poll = self.requests.get("/?wait=0", headers={"accept": "application/json"})
        self.assertEqual(self.stream(poll, "a", hub=self.hub, long_poll=False).status_code, 406)
        self.assertEqual(self.stream(poll, "a", hub=self.hub)["Content-Type"], "application/json")

    def test_what_is_not_a_hub_is_refused(self) -> None:
        with self.assertRaisesRegex(TypeError, r"hub must be a sse_threaded\.Hub, not 'a'"):
            self.stream(self.requests.get("/"), "a", hub="a")

    def test_connections_are_released_when_it_is_sent_and_not_before(self) -> None:
        for begin in (iter, lambda response: response.bare_iterator()):
            with mock.patch("sse_threaded.django.streams.release_connections") as release:
                response = self.stream(self.requests.get("/"), "a", hub=self.hub)
                release.assert_not_called()
                begin(response)
                release.assert_called_once_with()
                response.close()

    def test_a_response_that_changes_its_bytes_is_not_taken_out(self) -> None:
        response = self.stream(self.requests.get("/"), "a", hub=self.hub)
        response.make_bytes = bytes.upper
        self.assertIsNone(response.bare_iterator())
        response.close()


if __name__ == "__main__":
    unittest.main()
