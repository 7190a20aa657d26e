"""Channels that are finished, under the real gunicorn: on threads, parked, and wrapped by the app."""

from __future__ import annotations

import threading
import unittest
from pathlib import Path

from werkzeug.test import Client
from werkzeug.wrappers import Request

from sse_threaded import FINISHED, Hub, Retention
from sse_threaded.testing import EventStreamClient, GunicornServer, StreamedResponse, request
from tests.support import enter, sqlite_url, temporary_directory, wait_until

APP = """
import os
from sse_threaded import Hub, Retention
from werkzeug.wrappers import Request, Response

hub = Hub(os.environ["LOG"], heartbeat=0.5, lease=60)


@Request.application
def app(web):
    if web.path == "/streams":
        return Response(str(hub.streams))
    channels = web.path.strip("/").split(",")
    response = hub.stream(web, channels, from_start="start" in web.args)
    if "wrapped" in web.args:
        parts = response.response
        response.response = (part for part in parts)
    return response
"""

THREADS = ("-k", "gthread", "--threads", "24", "-c", "python:sse_threaded.gunicorn_hooks")
PARKED = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "8")


class FinishCase(unittest.TestCase):
    args: tuple[str, ...] = THREADS
    query = ""

    def setUp(self) -> None:
        folder = temporary_directory(self)
        (folder / "finishing.py").write_text(APP, encoding="utf-8")
        self.log_url = url = self.make_log_url(folder)
        self.hub = enter(self, Hub(url))
        self.server = enter(
            self,
            GunicornServer(
                "finishing:app", args=[*self.args, "-w", "1", "--chdir", str(folder)], env={"LOG": url}
            ),
        )

    def make_log_url(self, folder: Path) -> str:
        return sqlite_url(folder)

    def url(self, path: str, query: str = "") -> str:
        asked = "&".join(each for each in (self.query, query) if each)
        return f"{self.server.url}/{path}" + (f"?{asked}" if asked else "")

    def connect(self, path: str, query: str = "", last_event_id: str | None = None) -> EventStreamClient:
        client = EventStreamClient(self.url(path, query), last_event_id=last_event_id)
        self.addCleanup(client.close)
        client.open()
        if client.status == 200:
            client.wait_for_retry()
        return client

    def text(self, client: EventStreamClient) -> list[tuple[str, str]]:
        """Read to the end; returns types and data."""
        client.wait_for_end()
        self.assertTrue(client.complete)
        return [(event.event, event.data) for event in client.pending()]


class FinishTest(FinishCase):
    def test_streams_end_with_the_last_event_and_do_not_come_back(self) -> None:
        clients = [self.connect("job") for _ in range(5)]
        other = self.connect("other")
        self.hub.publish("job", "one")
        last = self.hub.finish("job", {"result": 7})
        for client in clients:
            self.assertEqual(self.text(client), [("message", "one"), ("stream-finished", '{"result":7}')])
            self.assertEqual(client.last_event_id, last)
            self.assertIn("stream-end", client.notices)
        for _ in range(2):
            again = self.connect("job", last_event_id=last)
            self.assertEqual((again.status, again.raw), (204, b""))
            self.assertEqual(again.headers["Cache-Control"], "no-store")
        self.hub.publish("other", "still open")
        self.assertEqual(other.next_event().data, "still open")

    def test_a_client_that_was_away_gets_what_it_missed_first(self) -> None:
        first = self.hub.publish("job", "one")
        self.hub.publish("job", "two")
        last = self.hub.finish("job")
        for query, after in (("", first), ("start", None)):
            client = self.connect("job", query, last_event_id=after)
            expected = [("message", "one"), ("message", "two"), ("stream-finished", "{}")]
            self.assertEqual(self.text(client), expected[1:] if after else expected)
            self.assertEqual(client.last_event_id, last)
        self.assertEqual(self.connect("job").status, 204)
        self.assertEqual(self.connect("job", "start", last_event_id=last).status, 204)

    def test_from_the_start_is_from_the_oldest_that_is_left(self) -> None:
        """Without a reset: a page that loads again at a reset would do so again and again."""
        with Hub(self.log_url, retention=Retention(count=5, age=None)) as small:
            for number in range(20):
                small.publish("job", str(number))
            small.log.trim()
        client = self.connect("job", "start")
        self.assertEqual([event.data for event in client.events(5)], ["15", "16", "17", "18", "19"])
        answer = request("GET", self.url("job", "start&wait=0"), headers={"Accept": "application/json"}).json()
        self.assertEqual([event["data"] for event in answer["events"]], ["15", "16", "17", "18", "19"])
        self.assertFalse(answer["reset"])

    def test_many_events_before_the_last_one(self) -> None:
        with self.hub.log.transaction() as transaction:
            for number in range(900):
                transaction.append("job", f"{number} " + "x" * 2000)
            transaction.append("job", "over", FINISHED)
        found = self.text(self.connect("job", "start"))
        self.assertEqual([data.split(" ")[0] for _, data in found], [*map(str, range(900)), "over"])

    def test_a_stream_of_several_channels_ends_with_the_last_of_them(self) -> None:
        client = self.connect("a,b,c")
        self.hub.finish("a")
        self.hub.publish("b", "one")
        self.hub.finish("c")
        self.assertEqual(len(client.events(3)), 3)
        resumed = self.connect("a,b,c", last_event_id=client.last_event_id)
        last = self.hub.finish("b")
        for each in (client, resumed):
            self.assertEqual(self.text(each), [("stream-finished", "{}")])
        self.assertEqual(self.connect("a,b,c", last_event_id=last).status, 204)
        self.assertEqual(self.connect("a,b", last_event_id=last).status, 204)
        self.assertEqual(self.connect("a,d", last_event_id=last).status, 200)

    def test_a_later_event_opens_the_channel_again(self) -> None:
        last = self.hub.finish("job")
        self.assertEqual(self.connect("job", last_event_id=last).status, 204)
        self.hub.publish("job", "again")
        client = self.connect("job", last_event_id=last)
        self.assertEqual(client.next_event().data, "again")
        live = self.connect("job")
        self.hub.publish("job", "live")
        self.assertEqual((live.next_event().data, client.next_event().data), ("live", "live"))
        self.hub.finish("job")
        for each in (client, live):
            self.assertEqual(self.text(each), [("stream-finished", "{}")])

    def test_finished_and_opened_again_at_once(self) -> None:
        client = self.connect("job")
        with self.hub.log.transaction() as transaction:
            transaction.append("job", "over", FINISHED)
            transaction.append("job", "not quite")
        self.assertEqual([event.data for event in client.events(2)], ["over", "not quite"])
        self.hub.publish("job", "live")
        self.assertEqual(client.next_event().data, "live")

    def test_a_client_whose_id_is_unknown_gets_a_reset_and_the_end(self) -> None:
        self.hub.finish("job")
        client = self.connect("job", last_event_id="zzzzzz-1")
        self.assertEqual(self.text(client), [("reset", '{"reason":"epoch"}')])
        self.assertEqual(self.connect("job", last_event_id=client.last_event_id).status, 204)

    def test_long_polls_are_told(self) -> None:
        headers = {"Accept": "application/json"}
        first = self.hub.publish("job", "one")
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(
                request("GET", self.url("job", f"lastEventId={first}&wait=30"), headers=headers, timeout=60).json()
            )
        )
        thread.start()
        wait_until(lambda: request("GET", f"{self.server.url}/streams").body == b"1", message="it waits")
        last = self.hub.finish("job")
        thread.join(60)
        event = {"id": last, "data": "{}", "event": "stream-finished"}
        told = {"events": [event], "lastEventId": last, "reset": False, "finished": True}
        self.assertEqual(answers, [told])
        answer = request("GET", self.url("job", f"lastEventId={last}&wait=30"), headers=headers).json()
        self.assertEqual(answer, {**told, "events": []})

    def test_openings_while_it_is_finished_again_and_again(self) -> None:
        """However a client comes in between, it gets each event once, and is told to stop after the last one."""
        stop = threading.Event()
        found: list[list[str]] = [[] for _ in range(6)]
        failures: list[str] = []

        def follow(ids: list[str]) -> None:
            after = f"{self.hub.log.epoch}-0"
            try:
                while True:
                    is_last = stop.is_set()
                    with EventStreamClient(self.url("job"), last_event_id=after, timeout=30) as client:
                        if client.status == 204:
                            if is_last:
                                return
                            stop.wait(0.01)
                            continue
                        client.wait_for_end()
                        after = client.last_event_id
                        ids += [event.last_event_id for event in client.pending()]
            except Exception as error:
                failures.append(repr(error))

        followers = [threading.Thread(target=follow, args=(ids,)) for ids in found]
        for thread in followers:
            thread.start()
        for number in range(60):
            self.hub.publish("job", str(number))
            self.hub.finish("job")
        stop.set()
        for thread in followers:
            thread.join(60)
        self.assertEqual(failures, [])
        everything = [self.hub.log.event_id(number) for number in range(1, 121)]
        self.assertEqual(found, [everything] * 6)


class ParkedFinishTest(FinishTest):
    args = PARKED


class WrappedFinishTest(FinishTest):
    args = PARKED
    query = "wrapped"


class ExpiryTest(unittest.TestCase):
    def make_log_url(self, folder: Path) -> str:
        return sqlite_url(folder)

    def test_finished_channels_leave_nothing_behind(self) -> None:
        url = self.make_log_url(temporary_directory(self))
        hub = enter(self, Hub(url, retention=Retention(count=10, age=1)))
        client = Client(Request.application(lambda web: hub.stream(web, ["job-7", "other"])))
        names = [f"job-{number}" for number in range(1000)]
        with StreamedResponse(client.get("/"), timeout=30) as stream:
            for name in names:
                hub.finish(name)
            self.assertEqual(stream.next_event().event, FINISHED)
            hub.publish("other", "last")
            self.assertEqual(stream.next_event().data, "last")

            def is_empty() -> bool:
                hub.log.trim()
                return not any(map(hub.log.newest, names))

            wait_until(is_empty, timeout=30, message="they expire")
            self.assertEqual(len(hub._pump._finished._going), 0)


class MemoryExpiryTest(ExpiryTest):
    def make_log_url(self, folder: Path) -> str:
        return "memory://"


if __name__ == "__main__":
    unittest.main()
