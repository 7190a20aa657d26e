"""The same checks over the shortest example of each framework, with both workers of gunicorn."""

from __future__ import annotations

import json
import unittest
from typing import ClassVar

from sse_threaded.testing import request
from tests.live.frameworks.case import Served, serve

ONCE = True  # the frameworks are the same under every Python

_STREAMS = 50


class FrameworkCase(unittest.TestCase):
    """All checks, of one framework; ``sign`` is a text of its block on the page."""

    sign: ClassVar[str]
    # Whether a stream needs no thread at all. Else its thread returns while no event comes.
    is_parked: ClassVar[bool] = True
    # Whether the framework keeps a request and its response in each thread, until the thread's next request.
    threads_keep: ClassVar[bool] = False

    def check(self, worker: str) -> None:
        served = serve(self, self.sign, worker)
        self.check_delivery(served)
        self.check_hang_up(served)
        self.check_many(served, worker)
        self.check_finish(served)
        self.check_disconnect(served)  # last, as it also ends the streams that begin within a second
        output = served.server.output()
        for words in ("Traceback", "keeps its thread", "Exception ignored"):
            self.assertNotIn(words, output)

    def check_delivery(self, served: Served) -> None:
        client = served.connect("/orders/events")
        self.assertEqual(client.status, 200)
        self.assertEqual(client.headers["Content-Type"], "text/event-stream; charset=utf-8")
        self.assertEqual(client.headers["Cache-Control"], "no-cache, no-transform")
        self.assertEqual(client.headers.getlist("Content-Length"), [])
        self.assertEqual(served.post("/orders", "item=tea").status, 201)
        event = client.next_event()
        self.assertEqual(json.loads(event.data), {"type": "order", "item": "tea"})
        client.close()
        for item in ("milk", "sugar"):
            served.post("/orders", f"item={item}")
        resumed = served.connect("/orders/events", last_event_id=event.last_event_id)
        self.assertEqual([json.loads(each.data)["item"] for each in resumed.events(2)], ["milk", "sugar"])
        resumed.close()
        poll = request(
            "GET",
            f"{served.url}/orders/events?wait=0&lastEventId={event.last_event_id}",
            headers={"Accept": "application/json"},
        )
        self.assertEqual(len(poll.json()["events"]), 2)
        refused = request("GET", f"{served.url}/orders/events", headers={"Accept": "image/png"})
        self.assertEqual((refused.status, refused.json()["status"]), (406, 406))
        served.wait_for_streams(0)

    def check_disconnect(self, served: Served) -> None:
        served.post("/orders", "item=again")  # opens the channel that was finished
        client = served.connect("/orders/events")
        served.hub.disconnect(channel="orders")
        client.wait_for_end()
        self.assertTrue(client.complete)
        self.assertIn("stream-end", client.notices)
        self.assertEqual(client.pending(), [])
        served.wait_for_streams(0)

    def check_hang_up(self, served: Served) -> None:
        for leave in ("close", "abort"):
            with self.subTest(leave):
                client = served.connect("/orders/events")
                served.wait_for_streams(1)
                getattr(client, leave)()
                served.wait_for_streams(0)

    def check_many(self, served: Served, worker: str) -> None:
        before = served.whole_state()["threads"]
        with served.streams("/orders/events", _STREAMS) as clients:
            served.wait_for_streams(_STREAMS)
            during = served.whole_state()["threads"]
            if worker == "ThreadWorker":
                # It has 4 threads for requests, so none of them waits for a stream.
                self.assertLessEqual(during, before + 1)
            served.post("/orders", "item=all")
            for client in clients:
                self.assertEqual(json.loads(client.next_event().data)["item"], "all")
        served.wait_for_streams(0)
        if self.threads_keep:
            served.come_and_go("/orders/events", 200)  # more than there are threads
        served.wait_until_nothing_is_left(self.threads_keep)

    def check_finish(self, served: Served) -> None:
        client = served.connect("/orders/events")
        served.hub.finish("orders", {"sum": 7})
        (last,) = client.events(1)
        self.assertEqual((last.event, last.data), ("stream-finished", '{"sum":7}'))
        client.wait_for_end()
        self.assertTrue(client.complete)
        again = served.connect("/orders/events", last_event_id=last.last_event_id)
        self.assertEqual(again.status, 204)

    def check_parked(self) -> None:
        """Under this package's worker, the pump has the connection, or a thread is lent to the stream."""
        served = serve(self, self.sign, "ThreadWorker")
        client = served.connect("/orders/events")
        served.wait_for_streams(1)
        objects = served.whole_state()["objects"]
        self.assertEqual("SocketSubscriber" in objects, self.is_parked, objects)
        self.assertEqual("WrappedSubscriber" in objects, not self.is_parked, objects)
        client.close()


# A class for each framework, as the runner hands out classes.


class WsgiTest(FrameworkCase):
    sign = "return hub.stream(environ"

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")

    def test_where_its_stream_waits(self) -> None:
        self.check_parked()


class FlaskTest(FrameworkCase):
    sign = '@app.post("/orders")\ndef order() -> tuple'

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")

    def test_where_its_stream_waits(self) -> None:
        self.check_parked()


class DjangoTest(FrameworkCase):
    sign = "from django.http import HttpRequest, HttpResponse\nfrom django.urls"

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")

    def test_where_its_stream_waits(self) -> None:
        self.check_parked()


class BottleTest(FrameworkCase):
    sign = "from bottle import"
    is_parked = False
    threads_keep = True

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")

    def test_where_its_stream_waits(self) -> None:
        self.check_parked()


class FalconTest(FrameworkCase):
    sign = "import falcon"

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")

    def test_where_its_stream_waits(self) -> None:
        self.check_parked()


class PyramidTest(FrameworkCase):
    sign = "from pyramid.config"

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")

    def test_where_its_stream_waits(self) -> None:
        self.check_parked()


if __name__ == "__main__":
    unittest.main()
