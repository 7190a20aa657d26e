"""Refusals as curl, a real browser and the Python client see them; and no ticket is in any log."""

from __future__ import annotations

import re
import subprocess
import threading
import time
import unittest
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from werkzeug.wrappers import Request, Response

from sse_threaded import Hub
from sse_threaded.client import EventSource, StreamRefused
from sse_threaded.testing import GunicornServer, LiveServer
from tests.harness.chromium import Windows, wait_for, windows
from tests.support import enter, sqlite_url, temporary_directory, wait_until

APP = """
import os
from sse_threaded import Hub
from werkzeug.wrappers import Request, Response

hub = Hub(
    os.environ["LOG"],
    retry=200,
    secret=["the new secret", "the old secret"],
    origins=[os.environ["OTHER"]],
    max_streams_per_user=1,
)


@Request.application
def app(web):
    if web.path == "/page":
        return Response("<!doctype html><title>page</title>", mimetype="text/html")
    if web.path == "/other-user":
        return Response("not yours", 403)
    if web.path == "/login":
        return Response("", 302, {"Location": "/page"})
    if web.path == "/later":
        return hub.come_back("the database is away")
    if web.path == "/mine":
        return hub.stream(web, "mine", user="7")
    if web.path == "/finished":
        return hub.stream(web, "finished")
    return hub.stream(web)
"""

# Opens a stream, and counts what happens to it.
OPEN = """
window.seen = {open: 0, error: 0, states: [], data: []};
window.source = new EventSource(arguments[0], {withCredentials: true});
source.onopen = () => { seen.open += 1; };
source.onerror = () => { seen.error += 1; seen.states.push(source.readyState); };
source.onmessage = (event) => seen.data.push(event.data);
"""
CONNECTING, CLOSED = 0, 2


class Refusal(NamedTuple):
    """One refusal.

    :ivar path: what is asked for; ``TICKET`` stands for the ticket.
    :ivar status: what curl sees.
    :ivar says: a part of the body that curl sees.
    :ivar ticket: the ticket, made by a hub with this secret, valid for so many seconds.
    :ivar at_the_end: the status that a client gets that follows redirects; ``None`` for ``status``.
    """

    path: str
    status: int
    says: str
    ticket: tuple[str, float] | None = None
    at_the_end: int | None = None


STOPS = {
    "no ticket": Refusal("/", 403, "needs a ticket"),
    "an expired ticket": Refusal("/?ticket=TICKET", 403, "has expired", ("the new secret", -1)),
    "a forged ticket": Refusal("/?ticket=TICKETx", 403, "is not valid", ("the new secret", 60)),
    "a ticket of another secret": Refusal("/?ticket=TICKET", 403, "is not valid", ("another secret", 60)),
    "another user": Refusal("/other-user", 403, "not yours"),
    "a login page": Refusal("/login", 302, "", at_the_end=200),
    "a finished channel": Refusal("/finished", 204, ""),
}


def setUpModule() -> None:
    """Start one browser for all tests."""
    with ExitStack() as stack:
        RefusalsTest.windows = stack.enter_context(windows())
        unittest.addModuleCleanup(stack.pop_all().close)


class RefusalsTest(unittest.TestCase):
    args: tuple[str, ...] = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "8")
    windows: Windows

    def setUp(self) -> None:
        folder = temporary_directory(self)
        (folder / "refusing.py").write_text(APP, encoding="utf-8")
        self.other = enter(self, LiveServer(Request.application(self.other_page)))
        self.evil = enter(self, LiveServer(Request.application(self.other_page)))
        self.log_url = sqlite_url(folder)
        self.hub = enter(self, Hub(self.log_url))
        self.hub.finish("finished")
        args = [*self.args, "--access-logfile", "-", "--log-level", "debug", "--chdir", str(folder)]
        env = {"LOG": self.log_url, "OTHER": self.other.url}
        self.server = enter(self, GunicornServer("refusing:app", args=args, env=env))

    @staticmethod
    def other_page(web: Request) -> Response:
        return Response("<!doctype html><title>other</title>", mimetype="text/html")

    def ticket(self, secret: str, seconds: float) -> str:
        with Hub(self.log_url, secret=secret) as hub:
            return hub.ticket("mine", user=7, seconds=seconds)

    def path_of(self, refusal: Refusal) -> str:
        return (
            refusal.path
            if refusal.ticket is None
            else refusal.path.replace("TICKET", self.ticket(*refusal.ticket))
        )

    def curl(self, path: str, *args: str) -> tuple[int, str]:
        command = ["curl", "-sN", "--max-time", "5", "-w", "\\n%{http_code}", *args, f"{self.server.url}{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def open(self, page: str, path: str) -> Any:
        """Open a stream in a page of this server; returns the browser."""
        handle = self.windows.take()
        self.addCleanup(self.windows.give_back, handle)
        browser = self.windows.browser
        browser.get(f"{page}/page")
        browser.execute_script(OPEN, f"{self.server.url}{path}")
        return browser

    def arrives(self, browser: Any) -> bool:
        self.hub.publish("mine", "for me")
        return bool(browser.execute_script("return seen.data.length"))

    def requests(self, path: str) -> int:
        # Not those of the page and of its icon.
        return len(re.findall(rf'"GET {re.escape(path.partition("?")[0])}[ ?]', self.server.output()))

    def has_requests(self, path: str, number: int) -> bool:
        return self.requests(path) >= number

    def test_where_a_client_may_not_read_it_stops_for_good(self) -> None:
        for name, refusal in STOPS.items():
            with self.subTest(name):
                path = self.path_of(refusal)
                expected = self.requests(path) + 2
                status, body = self.curl(path)
                self.assertEqual(status, refusal.status)
                self.assertIn(refusal.says, body)
                browser = self.open(self.server.url, path)
                wait_for(browser, "seen.error > 0")
                # The line of an answer comes after the answer.
                wait_until(partial(self.has_requests, path, expected), message="the lines of both")
                time.sleep(0.5)  # over twice the reconnection time
                seen = browser.execute_script("return [seen.open, seen.states, source.readyState]")
                self.assertEqual(seen, [0, [CLOSED], CLOSED])
                self.assertEqual(self.requests(path), expected)

    def test_the_python_client_stops_for_good_with_the_reason(self) -> None:
        for name, refusal in STOPS.items():
            with self.subTest(name):
                path = self.path_of(refusal)
                source = EventSource(f"{self.server.url}{path}")
                if refusal.status == 204:
                    self.assertEqual(list(source), [])
                    continue
                with self.assertRaises(StreamRefused) as caught:
                    next(source)
                self.assertEqual(caught.exception.status, refusal.at_the_end or refusal.status)
                # The app's own answer is plain text, which the client does not show.
                words = "may not read the stream" if refusal.path == "/other-user" else refusal.says
                self.assertIn(words, str(caught.exception))
                if refusal.ticket is not None:
                    self.assertNotIn(path.rpartition("=")[2], str(caught.exception))
                self.assertEqual(list(source), [], "the loop has ended")

    def test_the_python_client_comes_again(self) -> None:
        with EventSource(f"{self.server.url}/mine", notices=True) as first:
            while next(first).event != "stream-start":  # the stream of another test may still have the only place
                pass
            for name, path in (("too many streams", "/mine"), ("the view cannot decide", "/later")):
                with self.subTest(name), EventSource(f"{self.server.url}{path}", notices=True) as source:
                    timer = threading.Timer(30, source.close)
                    timer.start()
                    self.addCleanup(timer.cancel)
                    self.assertEqual([next(source).event for _ in range(3)], ["stream-unavailable"] * 3)

    def test_tickets_and_origins_that_are_right(self) -> None:
        for page in (self.server.url, self.other.url):
            for secret in ("the new secret", "the old secret"):
                with self.subTest(page=page, secret=secret):
                    browser = self.open(page, f"/?ticket={self.ticket(secret, 60)}")
                    wait_for(browser, "seen.open > 0")
                    # The stream before it may still have the user's only place.
                    arrives = partial(self.arrives, browser)
                    wait_until(arrives, timeout=30, message="an event")
                    browser.execute_script("source.close()")

    def test_a_page_of_another_origin(self) -> None:
        status, body = self.curl("/mine", "-H", f"Origin: {self.evil.url}")
        self.assertEqual(status, 403)
        self.assertIn("may not read", body)
        browser = self.open(self.evil.url, "/mine")
        wait_for(browser, "seen.error > 0")
        self.assertEqual(browser.execute_script("return [seen.open, seen.states]"), [0, [CLOSED]])
        with self.assertRaisesRegex(StreamRefused, "may not read"):
            next(EventSource(f"{self.server.url}/mine", headers={"Origin": self.evil.url}))

    def test_where_it_may_come_again_it_does(self) -> None:
        for name, path in (("too many streams", "/mine"), ("the view cannot decide", "/later")):
            with self.subTest(name):
                first = self.open(self.server.url, "/mine")
                wait_for(first, "seen.open == 1")
                status, body = self.curl(path)
                self.assertEqual(status, 200)
                self.assertIn("event: stream-unavailable\n", body)
                browser = self.open(self.server.url, path)
                wait_for(browser, "seen.error > 2")
                states = browser.execute_script("return seen.states")
                self.assertEqual({*states}, {CONNECTING})

    def test_no_ticket_is_in_a_log(self) -> None:
        ticket = self.ticket("the new secret", 60)
        browser = self.open(self.other.url, f"/?a=1&ticket={ticket}&b=2")
        wait_for(browser, "seen.open == 1")
        self.curl(f"/?ticket={ticket}x", "-H", f"Referer: {self.server.url}/page?ticket={ticket}")
        browser.execute_script("source.close()")
        wait_until(lambda: self.server.output().count("ticket=...") >= 3, message="the lines of both")
        self.server.terminate()
        self.server.wait(30)
        self.assertIn("a=1&ticket=...&b=2", self.server.output())
        self.assertNotIn(ticket, self.server.output())
        self.assertNotIn(ticket.rpartition(".")[2], self.server.output())


class OnThreadsTest(RefusalsTest):
    args = ("-k", "gthread", "--threads", "16", "-c", "python:sse_threaded.gunicorn_hooks")


if __name__ == "__main__":
    unittest.main()
