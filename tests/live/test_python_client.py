"""``sse_threaded.client`` against this package's hub under the real gunicorn, over TLS, and as a command."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import threading
import unittest
from collections.abc import Mapping
from typing import Any

import requests

from sse_threaded import Hub
from sse_threaded.client import EventSource, StreamLost, StreamRefused
from sse_threaded.testing import GunicornServer
from tests.harness.certificate import certificate
from tests.harness.connect_proxy import ConnectProxy
from tests.harness.scripted_server import ScriptedServer, chunk, head, silent, stream
from tests.support import enter, sqlite_url, temporary_directory, wait_until

APP = """
import os
from sse_threaded import Hub
from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Request

places = int(os.environ["PLACES"]) if "PLACES" in os.environ else None
hub = Hub(
    os.environ["LOG"], heartbeat=0.5, lease=float(os.environ["LEASE"]), retry=50, max_streams=places
)


@Request.application
def app(web):
    if web.path == "/private":
        raise Forbidden
    return hub.stream(web, web.path.strip("/").split(","), from_start="start" in web.args)
"""

THREADS = ("-k", "gthread", "--threads", "24", "-c", "python:sse_threaded.gunicorn_hooks")
PARKED = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "8")

FAST: dict[str, Any] = {"retry": 50, "max_backoff": 0.1}

_SECONDS = 60.0


class Follower:
    """A thread that iterates over a source; a context manager.

    :ivar ids: the last event IDs of the events so far.
    :ivar opened: how many connections became streams.
    :ivar ended: how the iteration ended, or ``None``.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.ids: list[str] = []
        self.data: list[str] = []
        self.opened = 0
        self.ended: str | None = None
        self.source = EventSource(url, on_open=self._open, **{**FAST, **options})
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _open(self) -> None:
        self.opened += 1

    def _run(self) -> None:
        try:
            for event in self.source:
                self.ids.append(event.last_event_id)
                self.data.append(event.data)
            self.ended = "end"
        except BaseException as error:
            self.ended = repr(error)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        self._thread.join(_SECONDS)


class GunicornCase(unittest.TestCase):
    args: tuple[str, ...] = THREADS
    lease = "3600"
    workers = 2
    env: Mapping[str, str] = {}

    def setUp(self) -> None:
        folder = temporary_directory(self)
        (folder / "streaming.py").write_text(APP, encoding="utf-8")
        url = sqlite_url(folder)
        self.hub = enter(self, Hub(url))
        args = [*self.args, "-w", str(self.workers), "--chdir", str(folder)]
        env = {"LOG": url, "LEASE": self.lease, **self.env}
        self.server = enter(self, GunicornServer("streaming:app", args=args, env=env))

    def follow(self, path: str, **options: Any) -> Follower:
        return enter(self, Follower(f"{self.server.url}/{path}", **options))

    def publish_until(self, followers: list[Follower], opened: int, published: list[str]) -> None:
        """Publish until each follower has had so many connections."""

        def done() -> bool:
            published.append(self.hub.publish("news", {"n": len(published)}))
            return all(each.opened >= opened for each in followers)

        wait_until(done, timeout=_SECONDS, message=f"{opened} connections each")

    def same(self, followers: list[Follower], published: list[str]) -> None:
        for each in followers:
            wait_until(
                lambda: each.ids[-1:] == published[-1:] or each.ended,  # noqa: B023
                timeout=_SECONDS,
                message="the last event",
            )
            self.assertEqual((each.ids, each.ended), (published, None))


class FaultsTest(GunicornCase):
    """Each event comes once, and in order, however the server ends."""

    def test_kill_9(self) -> None:
        followers = [self.follow("news") for _ in range(3)]
        wait_until(lambda: all(each.opened for each in followers), timeout=_SECONDS)
        published: list[str] = []
        for count in (1, 2, 3):
            self.publish_until(followers, count, published)
            self.server.kill()
            published += [self.hub.publish("news", {"while": "down"}) for _ in range(50)]
            self.server.restart()
        self.publish_until(followers, 4, published)
        self.same(followers, published)

    def test_reload_and_restart(self) -> None:
        followers = [self.follow("news") for _ in range(3)]
        wait_until(lambda: all(each.opened for each in followers), timeout=_SECONDS)
        published: list[str] = []
        for count, end in ((1, self.server.hup), (2, self.server.restart), (3, self.server.hup)):
            self.publish_until(followers, count, published)
            end()
        self.publish_until(followers, 4, published)
        self.same(followers, published)


class ParkedFaultsTest(FaultsTest):
    args = PARKED


class LeaseTest(GunicornCase):
    args = PARKED
    lease = "0.3"

    def test_streams_that_end_all_the_time(self) -> None:
        followers = [self.follow("news")]
        wait_until(lambda: followers[0].opened, timeout=_SECONDS)
        published: list[str] = []
        self.publish_until(followers, 5, published)
        self.same(followers, published)


class NoRoomTest(GunicornCase):
    args = PARKED
    workers = 1
    env: Mapping[str, str] = {"PLACES": "1"}

    def test_a_client_without_a_place_tries_until_there_is_one(self) -> None:
        first = self.follow("news")
        wait_until(lambda: first.opened, timeout=_SECONDS)
        second = self.follow("news")
        wait_until(lambda: second.opened >= 3, timeout=_SECONDS, message="three answers without a stream")
        published = [self.hub.publish("news", "a")]
        self.same([first], published)
        self.assertEqual(second.ids, [])
        first.source.close()

        def arrived() -> bool:
            self.hub.publish("news", "b")
            return len(second.ids) > 1

        wait_until(arrived, timeout=_SECONDS, message="events for the second client")
        self.assertNotIn("{}", second.data, "a notice is hidden")


class AnswersTest(GunicornCase):
    args = PARKED

    def test_a_finished_channel_ends_the_iteration(self) -> None:
        follower = self.follow("job?start=1")
        for number in range(5):
            self.hub.publish("job", str(number))
        self.hub.finish("job", {"result": 7})
        wait_until(lambda: follower.ended, timeout=_SECONDS, message="the end")
        self.assertEqual((follower.data, follower.ended), ([*"01234", '{"result":7}'], "end"))

    def test_a_reset_is_an_event(self) -> None:
        self.hub.publish("news", "a")
        source = enter(self, EventSource(f"{self.server.url}/news", last_event_id="zzzzzz-5", **FAST))
        event = next(source)
        self.assertEqual(event.event, "reset")
        self.assertIn("epoch", event.data)

    def test_a_refusal(self) -> None:
        with self.assertRaises(StreamRefused) as caught:
            next(EventSource(f"{self.server.url}/private"))
        self.assertEqual(caught.exception.status, 403)

    def test_heartbeats_keep_a_quiet_stream_open(self) -> None:
        follower = self.follow("news", read_timeout=3.0)
        wait_until(lambda: follower.opened, timeout=_SECONDS)
        decoder = follower.source._decoder
        wait_until(lambda: decoder.comments >= 4, timeout=_SECONDS, message="four heartbeats")
        self.assertEqual(follower.opened, 1)


class CommandTest(GunicornCase):
    args = PARKED

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "sse_threaded.cli", "listen", *arguments],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        return child

    def test_a_url_is_printed_like_a_channel(self) -> None:
        first = self.hub.publish("news", "before")
        child = self.start(f"{self.server.url}/news", "--since", first)
        second = self.hub.publish("news", "a\nb", event="named")
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(5)]
        self.assertEqual("".join(lines), f"event: named\ndata: a\ndata: b\nid: {second}\n\n")
        self.server.kill()
        self.server.restart()
        third = self.hub.publish("news", "c")
        self.assertEqual("".join(child.stdout.readline() for _ in range(3)), f"data: c\nid: {third}\n\n")
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(_SECONDS), 130)
        assert child.stderr is not None
        self.assertRegex(child.stderr.read(), r"\A(sse-threaded: waiting: .*\n)+\Z")

    def test_its_end(self) -> None:
        self.hub.publish("job", "one")
        self.hub.finish("job")
        out, err = self.start(f"{self.server.url}/job?start=1").communicate(timeout=_SECONDS)
        self.assertRegex(out, r"\Adata: one\nid: .*\n\nevent: stream-finished\ndata: \{\}\nid: .*\n\n\Z")
        self.assertEqual(err, "")

    def test_errors(self) -> None:
        for arguments, words in (
            ([f"{self.server.url}/private?ticket=secret"], "/private?...: the answer was 403 FORBIDDEN"),
            ([f"{self.server.url}/news", "other"], "give one URL"),
            (["http://"], "is not a URL of a stream"),
            (["news", "--header", "A: b"], "--header belongs to a URL"),
        ):
            with self.subTest(arguments):
                child = self.start(*arguments)
                out, err = child.communicate(timeout=_SECONDS)
                self.assertEqual((child.returncode, out), (1, ""))
                self.assertIn(words, err)
                self.assertNotIn("secret", err)
                self.assertNotIn("Traceback", err)


SIGNALLED = """
import signal, sys
from sse_threaded.client import EventSource

source = EventSource(sys.argv[1], read_timeout=3600, on_open=lambda: print("open", flush=True))
signal.signal(signal.SIGTERM, lambda *_: source.close())
print("begin", flush=True)
for event in source:
    print(event.data, flush=True)
print("end", flush=True)
"""


class SignalTest(unittest.TestCase):
    def test_a_signal_handler_of_the_thread_that_iterates_may_close(self) -> None:
        for name, answer, before in (
            ("the head", silent(), "begin\n"),
            ("the next byte", silent(head(), b"data: a\n\n"), "begin\nopen\na\n"),
            ("the reconnection time", stream(b"retry: 3600000\ndata: a\n\n"), "begin\nopen\na\n"),
        ):
            with self.subTest(name), ScriptedServer(answer) as server:
                child = subprocess.Popen(
                    [sys.executable, "-c", SIGNALLED, server.url], stdout=subprocess.PIPE, text=True
                )
                self.addCleanup(child.communicate)
                self.addCleanup(child.kill)
                assert child.stdout is not None
                self.assertEqual("".join(child.stdout.readline() for _ in before.splitlines()), before)
                child.terminate()
                self.assertEqual((child.stdout.read(), child.wait(_SECONDS)), ("end\n", 0))


class TLSTest(unittest.TestCase):
    def setUp(self) -> None:
        self.chain, key = certificate(temporary_directory(self))
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.chain, key)
        self.session = requests.Session()
        self.session.trust_env = False

    def test_an_unknown_certificate_is_an_error_that_says_what_to_do(self) -> None:
        server = enter(self, ScriptedServer(tls=self.tls))
        with self.assertRaisesRegex(StreamRefused, "session.verify"):
            next(EventSource(server.url, session=self.session))

    def test_a_stream_and_its_end_by_another_thread(self) -> None:
        self.session.verify = str(self.chain)
        for body in ([head()], [head("200 OK", "text/event-stream", "Transfer-Encoding: chunked")]):
            data = b"id: 1\ndata: a\n\n"
            is_chunked = b"chunked" in body[0]
            server = enter(self, ScriptedServer(silent(*body, chunk(data) if is_chunked else data), tls=self.tls))
            with Follower(server.url, session=self.session, read_timeout=3600.0) as follower:
                wait_until(lambda: follower.data == ["a"], timeout=_SECONDS, message="the event")
                follower.source.close()
                wait_until(lambda: follower.ended, timeout=_SECONDS, message="the end")
                self.assertEqual(follower.ended, "end")

    def test_through_a_proxy(self) -> None:
        self.session.verify = str(self.chain)
        proxy = enter(self, ConnectProxy())
        self.session.proxies = {"https": proxy.url.replace("//", "//user:secret@")}
        answers = silent(head(), b"id: 1\ndata: a\n\n"), silent(head(), b"id: 2\ndata: b\n\n")
        server = enter(self, ScriptedServer(*answers, tls=self.tls))
        with Follower(server.url, session=self.session, retry=10, max_backoff=0.1) as follower:
            for expected in (["a"], ["a", "b"]):
                wait_until(lambda: follower.data == expected, timeout=_SECONDS, message="the event")  # noqa: B023
                proxy.cut()
            wait_until(lambda: follower.ended, timeout=_SECONDS, message="the end")
        self.assertEqual(server.requests[1].fields["last-event-id"], "1")
        self.assertEqual(len(proxy.heads), 3)
        for each in proxy.heads:
            self.assertIn(f"CONNECT {server.url.split('/')[2]} ", each)
            self.assertIn("Proxy-Authorization: Basic ", each)

    def test_a_proxy_that_refuses(self) -> None:
        for answer, words in (
            ("407 Proxy Authentication Required", "user name"),
            ("403 Forbidden", "403 Forbidden"),
        ):
            with self.subTest(answer), ConnectProxy(answer) as proxy:
                self.session.proxies = {"https": proxy.url}
                with self.assertRaisesRegex(StreamRefused, words) as caught:
                    next(EventSource("https://app.invalid/events?ticket=secret", session=self.session))
                self.assertIn("the proxy answered", caught.exception.reason)
                self.assertEqual(caught.exception.status, None)
                self.assertNotIn("secret", str(caught.exception))

    def test_a_proxy_that_is_overloaded(self) -> None:
        with ConnectProxy("503 No") as proxy:
            self.session.proxies = {"https": proxy.url}
            source = EventSource("https://app.invalid/", session=self.session, retry=10, max_failures=3)
            with self.assertRaisesRegex(StreamLost, "the proxy answered 503 No"):
                next(source)
            self.assertEqual(len(proxy.heads), 3)


if __name__ == "__main__":
    unittest.main()
