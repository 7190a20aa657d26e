"""Which streams the board gives out, and which not: only those of boards that are known to be there."""

from __future__ import annotations

import sqlite3
import unittest
from contextlib import closing
from functools import partial
from typing import Any
from unittest import mock

from werkzeug.test import Client

from sse_threaded import open_log
from sse_threaded.board import create_app
from sse_threaded.board.app import BoardApp
from sse_threaded.board.store import open_store
from sse_threaded.log.sqlite.log import SQLiteLog
from sse_threaded.log.sqlite.timeouts import Timeouts
from sse_threaded.testing import LiveServer, Reply, request
from tests.support import enter, sqlite_url, temporary_directory

STREAM = {"Accept": "text/event-stream"}
POLL = {"Accept": "application/json"}

# No board has any of these ids, whatever the log says.
NO_BOARDS = (
    "secret",
    "board-0",
    "board-01",
    "board--1",
    "board-1%0A",
    "board-1%00",
    "board-1%2Ftasks",
    "..%2Fsecret",
    "%2e%2e",
    "BOARD-1",
    "board-%D9%A1",  # an Arabic digit
    "board-%EF%BC%91",  # a full-width one
    "board-" + "9" * 19,
    "b" * 5000,
    "t%C3%A9l%C3%A9",
    "%FF",
)


class ForeignChannelCase(unittest.TestCase):
    """A log in which another app has a channel of its own."""

    def serve(self, url: str) -> str:
        self.app: BoardApp = create_app(url, heartbeat=600)
        self.addCleanup(self.app.hub.close)
        return enter(self, LiveServer(self.app)).url

    def look(self, url: str, since: str, headers: dict[str, str]) -> Reply:
        # It reads the whole answer: a stream that goes on is silent, and fails by the timeout.
        return request("GET", f"{url}/events?wait=0&lastEventId={since}", headers=headers)

    def assert_tells_nothing(self, url: str, since: str) -> None:
        """A form that no board has is 404, what may be a board is told to come back; nothing is attached."""
        for name in ("secret", "board-01"):
            for headers in (STREAM, POLL):
                with self.subTest(name=name, headers=headers):
                    self.assertEqual(self.look(f"{url}/boards/{name}", since, headers).status, 404)
        # A line of this kind comes once a while; the poll would write the same one.
        with self.assertLogs("sse_threaded.board.app", "WARNING") as told:
            reply = self.look(f"{url}/boards/board-7", since, STREAM)
            poll = self.look(f"{url}/boards/board-7", since, POLL)
        self.assertEqual((reply.status, reply.headers["Content-Type"]), (200, "text/event-stream; charset=utf-8"))
        self.assertTrue(reply.body.startswith(b"retry: "), reply.body)
        self.assertNotIn(b"confidential", reply.body)
        self.assertEqual(len(told.output), 1)
        self.assertIn("/boards/board-7/events", told.output[0])
        self.assertEqual((poll.status, poll.headers["Content-Type"]), (503, "application/problem+json"))
        self.assertIn("Retry-After", poll.headers)
        self.assertEqual(self.app.hub.streams, 0)

    def publish(self, url: str) -> str:
        """An app's events in the channels that somebody will ask for; returns the id before them."""
        with closing(open_log(url)) as log:
            before = log.last_event_id()
            for channel in ("secret", "board-01", "board-7"):
                log.append(channel, "confidential")
            return before


class ForeignChannelTest(ForeignChannelCase):
    def test_a_log_that_can_be_read_and_not_written_gives_no_channel_away(self) -> None:
        # The board's tables are not there yet, and another program keeps the file locked.
        path = temporary_directory(self) / "log.db"
        url = f"sqlite:///{path}"
        since = self.publish(url)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            impatient = mock.patch("sse_threaded.hub.open_log", partial(SQLiteLog, timeouts=Timeouts(lock=0.1)))
            with impatient, self.assertLogs("sse_threaded.board.app", "WARNING"):
                server = self.serve(url)
            self.assert_tells_nothing(server, since)
            other.execute("ROLLBACK")
        # Now it can be seen that there is no such board, and that another is there.
        self.assertEqual(self.look(f"{server}/boards/board-7", since, STREAM).status, 404)
        self.assertEqual(request("HEAD", f"{server}/boards/board-1/events").status, 200)


class UnknownIdTest(unittest.TestCase):
    """Ids that no board has, over every log of ``urls``."""

    def urls(self) -> tuple[str, ...]:
        return "memory://", sqlite_url(temporary_directory(self))

    def test_ids_that_no_board_has_reach_neither_a_channel_nor_a_key(self) -> None:
        for url in self.urls():
            app = create_app(url)
            self.addCleanup(app.hub.close)
            client = Client(app)
            for name in NO_BOARDS:
                ways: list[tuple[str, str, Any]] = [
                    ("GET", f"/boards/{name}", None),
                    ("GET", f"/boards/{name}/events", None),
                    ("POST", f"/boards/{name}/tasks", {"title": "x"}),
                    ("PATCH", f"/boards/{name}/tasks/task-1", {"title": "x"}),
                    ("DELETE", f"/boards/{name}/tasks/task-1", None),
                    ("GET", f"/boards/board-1/tasks/{name}", None),
                    ("PATCH", f"/boards/board-1/tasks/{name}", {"title": "x"}),
                    ("DELETE", f"/boards/board-1/tasks/{name}", None),
                ]
                for method, path, body in ways:
                    with self.subTest(url=url, method=method, path=path[:60]):
                        status = client.open(path, method=method, json=body, headers=POLL).status_code
                        # A slash that was encoded is one to WSGI, so there is no such route, or no such method.
                        self.assertIn(status, (404, 405) if "%2F" in name else (404,))
            self.assertEqual(app.hub.log.last_event_id().rpartition("-")[2], "0")
            self.assertEqual(len(open_store(app.hub.log).snapshot("board-1")["tasks"]), 4)


if __name__ == "__main__":
    unittest.main()
