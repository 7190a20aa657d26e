"""Whose stream it is: a logout ends it in every process, and one owner has a bounded number of streams."""

from __future__ import annotations

import itertools
import threading
import time
import unittest
from pathlib import Path

from sse_threaded import Hub, InvalidEvent
from sse_threaded.fanout.owners import DECISION
from sse_threaded.testing import EventStreamClient, GunicornServer, ResumingClient, request
from tests.support import enter, sqlite_url, temporary_directory, wait_until

APP = """
import os
from sse_threaded import Hub
from werkzeug.wrappers import Request, Response

hub = Hub(
    os.environ["LOG"],
    heartbeat=0.5,
    max_streams_per_user=int(os.environ["PER_USER"]) or None,
    max_streams_per_address=int(os.environ["PER_ADDRESS"]) or None,
)


@Request.application
def app(web):
    if web.path == "/streams":
        return Response(f"{os.getpid()} {hub.streams}")
    user = web.args.get("user")
    if user is not None and os.path.exists(os.environ["GONE"] + user):
        return Response("log in", 403)
    response = hub.stream(web, web.path.strip("/").split(","), user=user)
    if "wrapped" in web.args:
        parts = response.response
        response.response = (part for part in parts)
    return response
"""

THREADS = ("-k", "gthread", "--threads", "40", "-c", "python:sse_threaded.gunicorn_hooks")
PARKED = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "8")


class DisconnectCase(unittest.TestCase):
    args: tuple[str, ...] = THREADS
    query = ""
    per_user = per_address = 0
    servers = 3

    def setUp(self) -> None:
        self.folder = temporary_directory(self)
        (self.folder / "disconnecting.py").write_text(APP, encoding="utf-8")
        self.log_url = self.make_log_url(self.folder)
        self.hub = enter(self, Hub(self.log_url))
        env = {"LOG": self.log_url, "GONE": str(self.folder / "gone-")}
        env |= {"PER_USER": str(self.per_user), "PER_ADDRESS": str(self.per_address)}
        args = [*self.args, "-w", "1", "--chdir", str(self.folder)]
        made = [GunicornServer("disconnecting:app", args=args, env=env) for _ in range(self.servers)]
        self.urls = itertools.cycle([enter(self, server).url for server in made])

    def make_log_url(self, folder: Path) -> str:
        return sqlite_url(folder)

    def log_out(self, user: str) -> None:
        """End the user's session, as the view sees it, and then the streams."""
        (self.folder / f"gone-{user}").touch()
        self.hub.disconnect(user=user)

    def connect(self, path: str, user: str | None = None, last_event_id: str | None = None) -> EventStreamClient:
        query = "&".join(filter(None, (self.query, user and f"user={user}")))
        client = EventStreamClient(f"{next(self.urls)}/{path}?{query}", last_event_id=last_event_id)
        self.addCleanup(client.close)
        client.open()
        if client.status == 200:
            client.wait_for_retry()
        return client

    def streams(self) -> int:
        """How many streams and long polls there are."""
        urls = [next(self.urls) for _ in range(self.servers)]
        return sum(int(request("GET", f"{url}/streams").body.split()[1]) for url in urls)


class DisconnectTest(DisconnectCase):
    def test_after_a_logout_no_event_reaches_the_streams_of_the_user(self) -> None:
        mine = [self.connect("news", "42") for _ in range(18)]
        others = [self.connect("news", "43") for _ in range(6)] + [self.connect("news") for _ in range(6)]
        self.hub.publish("news", "before")
        self.log_out("42")
        self.hub.publish("news", "after")
        for client in mine:
            client.wait_for_end(timeout=30)
            self.assertTrue(client.complete)
            self.assertEqual([event.data for event in client.pending()], ["before"])
            self.assertIn("stream-end", client.notices)
        for client in others:
            self.assertEqual([event.data for event in client.events(2)], ["before", "after"])
        self.assertEqual(self.connect("news", "42", last_event_id=mine[0].last_event_id).status, 403)

    def test_by_channel_and_by_both(self) -> None:
        clients = {(user, path): self.connect(path, user) for user in ("1", "2") for path in ("a", "b", "a,b")}
        nobody = self.connect("a")
        self.hub.disconnect(user=1, channel="a")
        for (user, path), client in clients.items():
            if user == "1" and "a" in path:
                client.wait_for_end(timeout=30)
        self.hub.publish("b", "one")
        open_now = [key for key, client in clients.items() if not client.ended]
        self.assertEqual(open_now, [("1", "b"), ("2", "a"), ("2", "b"), ("2", "a,b")])
        for key in open_now:
            if "b" in key[1]:
                self.assertEqual(clients[key].next_event().data, "one")
        self.hub.disconnect(channel="a")
        for client in (clients["2", "a"], clients["2", "a,b"], nobody):
            client.wait_for_end(timeout=30)
        self.hub.publish("b", "two")
        self.assertEqual(clients["2", "b"].next_event().data, "two")
        # A new stream of the channel is the view's business.
        time.sleep(DECISION)
        again = self.connect("a")
        self.hub.publish("a", "three")
        self.assertEqual(again.next_event().data, "three")

    def test_a_user_who_logs_in_again_streams_again(self) -> None:
        for _ in range(self.servers):
            self.connect("news")  # so that all processes know that the logout was before
        client = self.connect("news", "42")
        first = self.hub.publish("news", "one")
        self.log_out("42")
        client.wait_for_end(timeout=30)
        (self.folder / "gone-42").unlink()
        self.hub.publish("news", "two")
        # Within a second of the disconnection a new stream is cut, too. Its client reconnects, as this one does.
        url = f"{next(self.urls)}/news?{self.query}&user=42"
        with ResumingClient(url, last_event_id=first, retry_factor=0.1, timeout=30) as again:
            self.assertEqual([event.data for event in again.wait_for_events(1)], ["two"])
            self.hub.publish("news", "three")
            self.assertEqual([event.data for event in again.wait_for_events(2)], ["two", "three"])

    def test_long_polls_end_too(self) -> None:
        answers: list[dict[str, object]] = []
        url = f"{next(self.urls)}/news?user=42&wait=60"

        def poll() -> None:
            answers.append(request("GET", url, headers={"Accept": "application/json"}, timeout=90).json())

        thread = threading.Thread(target=poll)
        thread.start()
        wait_until(self.streams, message="it waits")
        self.log_out("42")
        thread.join(30)
        self.assertEqual([answer["events"] for answer in answers], [[]])

    def test_a_logout_while_streams_open(self) -> None:
        """Whatever comes in between, a stream that the view had allowed before has ended."""
        failures: list[str] = []

        def open_one(user: str) -> None:
            try:
                client = self.connect("news", user)
                if client.status == 200:
                    client.wait_for_end(timeout=30)
            except Exception as error:
                failures.append(f"{user}: {error!r}")

        for number in range(10):
            threads = [threading.Thread(target=open_one, args=(f"u{number}",)) for _ in range(6)]
            for thread in threads:
                thread.start()
            self.log_out(f"u{number}")
            for thread in threads:
                thread.join(60)
        self.assertEqual(failures, [])

    def test_wrong_calls(self) -> None:
        self.assertRaises(ValueError, self.hub.disconnect)
        self.assertRaises(InvalidEvent, self.hub.disconnect, channel="")
        self.assertRaises(InvalidEvent, self.hub.publish, "sse_threaded:control", "x")
        self.assertRaises(InvalidEvent, self.hub.finish, "sse_threaded:x")
        self.assertRaises(InvalidEvent, self.hub.stream, {"REQUEST_METHOD": "GET"}, ["a", "sse_threaded:control"])
        self.assertEqual(self.hub.log.last_sequence(), 0)

    def test_an_unknown_control_event_is_skipped(self) -> None:
        client = self.connect("news", "42")
        for data in ("rubbish", "[]", '{"type":"later"}', '{"type":"disconnect","user":null,"channel":null}'):
            self.hub.log.append("sse_threaded:control", data)
        later = self.connect("news", "42")
        self.hub.publish("news", "one")
        self.assertEqual((client.next_event().data, later.next_event().data), ("one", "one"))


class ParkedDisconnectTest(DisconnectTest):
    args = PARKED


class WrappedDisconnectTest(DisconnectTest):
    args = PARKED
    query = "wrapped"


class LimitsTest(DisconnectCase):
    servers = 1
    per_user = 3
    per_address = 5

    def count(self, user: str | None, number: int) -> int:
        """Open streams, and return how many stay open."""
        clients = [self.connect("news", user) for _ in range(number)]
        event_id = self.hub.publish("news", "one")
        opened = 0
        for client in clients:
            # One that comes at the same time as another may be refused after its first bytes.
            client.wait_for(lambda client=client: client.ended or client.has_events())
            if client.ended:
                self.assertTrue(client.complete)
                continue
            self.assertEqual(client.next_event().last_event_id, event_id)
            opened += 1
        return opened

    def test_each_owner_has_its_number(self) -> None:
        self.assertEqual(self.count("1", 5), 3)
        self.assertEqual(self.count("2", 5), 2)  # all come from one address
        self.assertEqual(self.count(None, 2), 0)

    def test_ended_streams_make_room(self) -> None:
        clients = [self.connect("news", "1") for _ in range(3)]
        wait_until(lambda: self.streams() == 3)  # the first bytes of a wrapped stream come before its place
        self.assertEqual(self.count("1", 2), 0)
        for client in clients:
            client.close()
        wait_until(lambda: self.count("1", 1) == 1, timeout=30, message="there is room again")


class ParkedLimitsTest(LimitsTest):
    args = PARKED


class WrappedLimitsTest(LimitsTest):
    args = PARKED
    query = "wrapped"


if __name__ == "__main__":
    unittest.main()
