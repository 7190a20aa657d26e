"""``sse_threaded.client`` across connections: refusals, redirects, faults, limits, closing, with bad servers."""

from __future__ import annotations

import gzip
import logging
import socket
import threading
import unittest
import zlib
from typing import Any
from unittest import mock

import requests
import requests.auth

from sse_threaded import SSEError
from sse_threaded.client import DecodedEvent, EventSource, EventTooLarge, StreamError, StreamLost, StreamRefused
from sse_threaded.protocol.decoder import EventStreamDecoder
from tests.harness.scripted_server import (
    Answer,
    Connection,
    ScriptedServer,
    chunk,
    head,
    pieces,
    redirect,
    refusal,
    reset,
    silent,
    stream,
)
from tests.support import enter, free_port, wait_until

FAST: dict[str, Any] = {"retry": 1, "max_backoff": 0.01}

CHUNKED = head("200 OK", "text/event-stream", "Transfer-Encoding: chunked")

# Seconds for a wait that must not take any time.
_LONG = 30.0


class ClientCase(unittest.TestCase):
    def serve(self, *answers: Answer) -> ScriptedServer:
        return enter(self, ScriptedServer(*answers))

    def source(self, server: ScriptedServer, **options: Any) -> EventSource:
        self.reasons: list[str] = []
        self.waits: list[float] = []

        def on_retry(reason: str, seconds: float) -> None:
            self.reasons.append(reason)
            self.waits.append(seconds)

        source = EventSource(server.url, **{**FAST, "on_retry": on_retry, **options})
        self.addCleanup(source.close)
        return source

    def data(self, *answers: Answer, **options: Any) -> list[str]:
        """The data of all events, up to the answer 204."""
        self.server = self.serve(*answers)
        return [event.data for event in self.source(self.server, **options)]

    def refused(self, *answers: Answer, **options: Any) -> StreamRefused:
        source = self.source(self.serve(*answers), **options)
        with self.assertRaises(StreamRefused) as caught:
            next(source)
        self.assertTrue(source.closed)
        self.assertEqual(list(source), [], "the error has ended the iteration")
        return caught.exception

    def on_thread(self, source: EventSource) -> list[str]:
        """Iterate on another thread; "end" follows the data of the last event."""
        found: list[str] = []

        def run() -> None:
            try:
                for event in source:
                    found.append(event.data)
                found.append("end")
            except BaseException as error:
                found.append(repr(error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(thread.join, _LONG)
        return found


class StatusTest(ClientCase):
    def test_204_ends_the_iteration_for_good(self) -> None:
        source = self.source(self.serve(stream(b"data: a\n\n")))
        self.assertEqual([event.data for event in source], ["a"])
        self.assertTrue(source.closed)
        self.assertRaises(StopIteration, next, source)

    def test_other_statuses_are_errors_that_say_why(self) -> None:
        for status, words in (
            ("401 Unauthorized", "auth="),
            ("403 Forbidden", "may not read"),
            ("404 Not Found", "no such stream"),
            ("407 Proxy Authentication Required", "proxy"),
            ("410 Gone", "410 Gone"),
            ("201 Created", "201 Created"),
            ("205 Reset Content", "205"),
            ("301 Moved Permanently", "301"),  # without a Location
            ("304 Not Modified", "304"),
            ("501 Not Implemented", "501"),
            ("505 HTTP Version Not Supported", "505"),
        ):
            with self.subTest(status):
                error = self.refused(refusal(status))
                self.assertEqual((error.status, error.content_type), (int(status[:3]), "text/plain"))
                self.assertIn(words, error.reason)
                self.assertIsInstance(error, SSEError)
                self.assertIsInstance(error, StreamError)

    def test_an_error_has_the_sentence_of_a_problem_document(self) -> None:
        start = head("403 No", "application/problem+json; charset=utf-8")

        def endless(connection: Connection) -> None:
            connection.send(start)
            while not connection.ending.is_set():
                connection.send(b" " * 10_000)

        plain = "the answer was 403 No"
        for name, answer, expected in (
            (
                "whole",
                pieces(start, b'{"title":"x","detail":"Log in', b' first.\\n Then \\u00fc."}'),
                ": Log in first. Then ü.",
            ),
            ("long", pieces(start, b'{"detail":"%b"}' % (b"x" * 1000)), f": {'x' * 300}"),
            ("no text", pieces(start, b'{"detail":["x"]}'), ""),
            ("empty", pieces(start, b'{"detail":""}'), ""),
            ("not printable", pieces(start, b'{"detail":"\\u001b[2J"}'), ""),
            ("no member", pieces(start, b"{}"), ""),
            ("no object", pieces(start, b"7"), ""),
            ("deep", pieces(start, b"[" * 60_000), ""),
            ("no JSON", pieces(start, b"<p>no"), ""),
            ("not UTF-8", pieces(start, b'{"detail":"\xff"}'), ""),
            ("without a body", pieces(start), ""),
            ("silent", silent(start), ""),
            ("endless", endless, ""),
        ):
            with self.subTest(name):
                self.assertEqual(self.refused(answer, read_timeout=0.5).reason, plain + expected)

    def test_overload_and_restarts_are_retried(self) -> None:
        for status in ("429 Too Many Requests", "500 Oh", "502 Bad Gateway", "503 No", "504 Gateway Timeout"):
            with self.subTest(status):
                self.assertEqual(self.data(refusal(status), refusal(status), stream(b"data: a\n\n")), ["a"])
                self.assertEqual(self.reasons, [f"the answer was {status}"] * 2 + ["the stream ended"])

    def test_which_statuses_are_retried_is_a_setting(self) -> None:
        self.assertEqual(self.refused(refusal("503 No"), retry_statuses=()).status, 503)
        self.assertEqual(self.data(refusal("404 No"), stream(b"data: a\n\n"), retry_statuses={404}), ["a"])

    def test_the_client_waits_for_retry_after(self) -> None:
        answers = refusal("503 No", "Retry-After: 1"), stream(b"data: a\n\n")
        self.assertEqual(self.data(*answers), ["a"])
        self.assertGreaterEqual(self.waits[0], 1.0)
        self.assertLess(self.waits[1], 0.1)

    def test_an_answer_without_a_content_type_and_a_login_page(self) -> None:
        error = self.refused(pieces(head("200 OK", None), b"data: a\n\n"))
        self.assertIn("without a content type", error.reason)
        self.assertIsNone(error.content_type)
        error = self.refused(
            redirect("302 Found", "/login?next=secret"), pieces(head("200 OK", "text/html"), b"<p>")
        )
        self.assertIn("/login?..., which may be a login page", error.reason)
        self.assertNotIn("secret", str(error))

    def test_an_answer_of_another_type_without_a_body(self) -> None:
        for answer in (
            pieces(head("200 OK", "text/html", "Content-Length: 0")),
            pieces(head("200 OK", "text/html", "Transfer-Encoding: chunked"), chunk(b"")),
            silent(head("200 OK", "text/html")),
        ):
            self.assertEqual(self.refused(answer, read_timeout=0.3).content_type, "text/html")


class RedirectTest(ClientCase):
    def targets(self) -> list[str]:
        return [request.target for request in self.server.requests]

    def test_permanent_ones_are_remembered(self) -> None:
        for status in ("301 Moved Permanently", "308 Permanent Redirect"):
            with self.subTest(status):
                answers = redirect(status, "/new"), stream(b"id: 1\ndata: a\n\n"), stream(b"data: b\n\n")
                self.assertEqual(self.data(*answers), ["a", "b"])
                self.assertEqual(self.targets(), ["/events", "/new", "/new", "/new"])
                sent = [request.fields.get("last-event-id") for request in self.server.requests]
                self.assertEqual(sent, [None, None, "1", "1"])

    def test_temporary_ones_are_not(self) -> None:
        for status in ("302 Found", "303 See Other", "307 Temporary Redirect"):
            with self.subTest(status):
                answers = (
                    redirect(status, "/new"),
                    stream(b"id: 1\ndata: a\n\n"),
                    redirect(status, "/b"),
                    stream(b"data: b\n\n"),
                )
                self.assertEqual(self.data(*answers), ["a", "b"])
                self.assertEqual(self.targets(), ["/events", "/new", "/events", "/b", "/events"])
                self.assertEqual(self.server.requests[3].fields["last-event-id"], "1")
                self.assertTrue(all(request.line.startswith("GET ") for request in self.server.requests))

    def test_a_permanent_one_after_a_temporary_one_is_not(self) -> None:
        answers = redirect("307 T", "/b"), redirect("301 P", "/c"), stream(b"data: a\n\n")
        self.assertEqual(self.data(*answers), ["a"])
        self.assertEqual(self.targets(), ["/events", "/b", "/c", "/events"])
        answers = redirect("301 P", "/b"), redirect("307 T", "/c"), stream(b"data: a\n\n")
        self.assertEqual(self.data(*answers), ["a"])
        self.assertEqual(self.targets(), ["/events", "/b", "/c", "/b"])

    def test_a_permanent_one_that_leads_to_no_stream_is_not(self) -> None:
        answers = redirect("301 P", "/b"), refusal("503 No"), stream(b"data: a\n\n")
        self.assertEqual(self.data(*answers), ["a"])
        self.assertEqual(self.targets()[:3], ["/events", "/b", "/events"])

    def test_another_host_gets_no_credentials_now_and_later(self) -> None:
        other = self.serve(stream(b"data: a\n\n"), stream(b"data: b\n\n"))
        location = other.url.replace("127.0.0.1", "localhost")
        to_other = redirect("301 Moved", location)
        self.assertEqual(self.data(to_other, to_other, auth=("user", "secret")), ["a", "b"])
        self.assertEqual([request.fields.get("authorization") for request in other.requests], [None, None])
        self.assertTrue(all("authorization" in request.fields for request in self.server.requests))
        self.assertEqual(self.targets(), ["/events"] * 3)

    def test_too_many_and_invalid_ones_are_errors(self) -> None:
        self.assertIn("too often", self.refused(*[redirect("302 Found", "/events")] * 40).reason)
        for location in ("ftp://127.0.0.1/x", "http://a:b/", "file:///etc/passwd"):
            with self.subTest(location):
                self.assertIn("leads to", self.refused(redirect("302 Found", location)).reason)

    def test_the_body_of_a_redirect_is_not_read(self) -> None:
        for fields in ((), ("Transfer-Encoding: chunked",), ("Content-Length: 1000000000000",)):
            with self.subTest(fields):
                endless = silent(head("302 Found", "text/html", "Location: /new", *fields), b"400\r\nabc")
                self.assertEqual(self.data(endless, stream(b"data: a\n\n")), ["a"])


class FaultTest(ClientCase):
    """Each server breaks in its own way; then a whole stream follows, and nothing is lost or given twice."""

    def test_the_ways_of_breaking(self) -> None:
        events = b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n"
        zipped = gzip.compress(events)
        broken = {
            "cut in the middle of an event": pieces(head(), events[:20]),
            "cut in the middle of a chunk": pieces(CHUNKED, b"%x\r\n%b" % (len(events), events[:20])),
            "cut between two chunks": pieces(CHUNKED, chunk(events[:20])),
            "cut in the size of a chunk": pieces(CHUNKED, chunk(events[:20]) + b"1"),
            "shorter than its length": pieces(
                head("200 OK", "text/event-stream", "Content-Length: 99"), events[:20]
            ),
            "a reset": reset(head(), events[:15]),
            "a size of a chunk that is no number": pieces(CHUNKED, chunk(events[:20]) + b"xyz\r\n"),
            "gzip that breaks off": pieces(
                head("200 OK", "text/event-stream", "Content-Encoding: gzip"), zipped[:-12]
            ),
            "gzip that is none": pieces(head("200 OK", "text/event-stream", "Content-Encoding: gzip"), b"no gzip"),
            "silent before its head": silent(),
            "silent in its head": silent(b"HTTP/1.1 200 OK\r\n"),
            "silent after its head": silent(head()),
            "silent in an event": silent(head(), events[:20]),
            "closed at once": pieces(),
            "cut in the name of a field": pieces(b"HTTP/1.1 200 OK\r\nContent-Ty"),
            "cut in the content type": pieces(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nContent-Type: text/ev"),
            "cut after a field": pieces(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"),
            "cut in the status": pieces(b"HTTP/1.1 2"),
            "no HTTP": pieces(b"SSH-2.0-OpenSSH\r\n"),
            "an endless head": pieces(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000),
            "empty": pieces(head()),
        }
        for name, answer in broken.items():
            with self.subTest(name):
                given: dict[str, bytes] = {"": events, "1": events[15:], "2": b""}

                def resumed(connection: Connection) -> None:
                    connection.send(head() + given[connection.request.fields.get("last-event-id", "")])  # noqa: B023

                self.assertEqual(self.data(answer, resumed, read_timeout=0.5), ["a", "b"])

    def test_a_silent_connection_counts_as_dead(self) -> None:
        answers = silent(head(), b"data: a\n\n"), silent(), stream(b"data: b\n\n")
        self.assertEqual(self.data(*answers, read_timeout=0.3), ["a", "b"])
        self.assertEqual(self.reasons[:2], ["no byte came in 0.3 seconds", "no answer came in time"])

    def test_a_head_that_comes_too_slowly_counts_as_silence(self) -> None:
        def slow(connection: Connection) -> None:
            connection.send(b"HTTP/1.1 200 OK\r\nX: ")
            while not connection.ending.wait(0.05):
                connection.send(b"x")

        answers = slow, stream(b"data: a\n\n")
        self.assertEqual(self.data(*answers, connect_timeout=0.3, read_timeout=0.5), ["a"])
        self.assertEqual(self.reasons[0], "no answer came in 0.8 seconds")

    def test_heartbeats_keep_a_connection_alive(self) -> None:
        beats = threading.Event()

        def slow(connection: Connection) -> None:
            connection.send(head())
            for _ in range(12):  # in all longer than the limit
                connection.ending.wait(0.1)
                connection.send(b":\n")
            beats.set()
            connection.send(b"data: a\n\n")

        self.assertEqual(self.data(slow, read_timeout=1.0), ["a"])
        self.assertTrue(beats.is_set())
        self.assertEqual(self.reasons, ["the stream ended"])

    def test_an_event_is_given_when_its_last_byte_comes(self) -> None:
        given = threading.Semaphore(0)

        def patient(connection: Connection) -> None:
            connection.send(CHUNKED + b"ffff\r\n")  # one chunk for all: its end never comes
            for byte in b"data: a\n\ndata: b\r\r":
                connection.send(bytes([byte]))
            self.assertTrue(given.acquire(timeout=_LONG) and given.acquire(timeout=_LONG))

        source = self.source(self.serve(patient))
        for expected in ("a", "b"):
            self.assertEqual(next(source).data, expected)
            given.release()
        self.assertEqual(list(source), [])

    def test_compressed_answers(self) -> None:
        raw = zlib.compressobj(wbits=31)
        first = raw.compress(b"data: a\n\n") + raw.flush(zlib.Z_SYNC_FLUSH)
        rest = raw.compress(b"data: b\n\n") + raw.flush()
        given = threading.Event()

        def answer(connection: Connection) -> None:
            connection.send(head("200 OK", "text/event-stream", "Content-Encoding: gzip") + first)
            self.assertTrue(given.wait(_LONG))  # the first event must not wait for the second
            connection.send(rest)

        server = self.serve(answer)
        source = self.source(server)
        self.assertEqual(next(source).data, "a")
        given.set()
        self.assertEqual([event.data for event in source], ["b"])
        self.assertEqual(server.requests[0].fields["accept-encoding"], "identity")

    def test_a_refused_connection(self) -> None:
        reasons: list[str] = []
        url = f"http://127.0.0.1:{free_port()}/events?ticket=secret"
        source = EventSource(url, max_failures=3, **FAST, on_retry=lambda reason, _: reasons.append(reason))
        with self.assertRaises(StreamLost) as caught:
            next(source)
        self.assertEqual(caught.exception.failures, 3)
        self.assertIn("ConnectionRefusedError", caught.exception.reason)
        self.assertEqual(len(reasons), 2)
        self.assertNotIn("secret", f"{caught.exception} {reasons} {source!r}")

    def test_failures_count_only_in_a_row(self) -> None:
        fault, works = refusal("503 No"), stream(b"data: a\n\n")
        self.assertEqual(self.data(fault, works, fault, works, fault, max_failures=2), ["a", "a"])
        source = self.source(self.serve(stream(), stream()), max_failures=2)
        self.assertRaisesRegex(StreamLost, "before its first byte", next, source)

    def test_waits_are_logged_without_secrets(self) -> None:
        server = self.serve(refusal("503 No"))
        with self.assertLogs("sse_threaded.client", logging.INFO) as logs:
            list(EventSource(server.url + "?ticket=secret", **FAST))
        self.assertIn("/events?...: the answer was 503 No; next attempt in", logs.output[0])
        self.assertNotIn("secret", str(logs.output))


class LimitTest(ClientCase):
    def test_an_endless_line_is_a_clear_error(self) -> None:
        for begin, more in (
            (b"data: ", b"x" * 65536),
            (b"", b"data: x\n" * 8192),
            (b":", b"x" * 65536),
            (b"", b"data\n" * 9999),
        ):
            with self.subTest(begin + more[:8]):

                def endless(connection: Connection) -> None:
                    connection.send(head() + b"id: 1\ndata: a\n\n" + begin)  # noqa: B023
                    while not connection.ending.is_set():
                        connection.send(more)  # noqa: B023

                source = self.source(self.serve(endless), max_event_bytes=1_000_000)
                self.assertEqual(next(source).data, "a")
                with self.assertRaisesRegex(EventTooLarge, "1,000,000 bytes.*max_event_bytes") as caught:
                    next(source)
                self.assertEqual((caught.exception.limit, source.last_event_id), (1_000_000, "1"))

    def test_comments_and_events_do_not_add_up(self) -> None:
        body = (b": x\n" * 1000 + b"data: " + b"y" * 3000 + b"\n\n") * 100
        self.assertEqual(len(self.data(stream(body), max_event_bytes=65536)), 100)

    def test_an_event_below_the_limit_is_whole(self) -> None:
        self.assertEqual(self.data(stream(b"data: " + b"x" * 5_000_000 + b"\n\n")), ["x" * 5_000_000])

    def test_a_small_answer_that_unpacks_to_gigabytes(self) -> None:
        packer = zlib.compressobj(9, wbits=31)
        bomb = (
            packer.compress(b"data: ")
            + b"".join(packer.compress(bytes(1 << 20)) for _ in range(64))
            + packer.flush()
        )
        answer = pieces(head("200 OK", "text/event-stream", "Content-Encoding: gzip"), bomb)
        source = self.source(self.serve(answer), max_event_bytes=1_000_000)
        self.assertRaises(EventTooLarge, next, source)


class ClosingTest(ClientCase):
    def test_close_ends_every_wait_of_another_thread(self) -> None:
        hour: dict[str, Any] = {"connect_timeout": 3600.0, "read_timeout": 3600.0}
        retry = b"retry: 3600000\n\n"
        for name, answer, seen in (
            ("the head", silent(), lambda: self.server.requests),
            ("the next byte", silent(head()), lambda: self.opened),
            ("the next chunk", silent(CHUNKED, chunk(b":\n")), lambda: self.opened),
            ("the rest of a chunk", silent(CHUNKED, b"ff\r\n:"), lambda: self.opened),
            ("the reconnection time", stream(retry), lambda: self.waits),
        ):
            with self.subTest(name):
                self.opened: list[bool] = []
                self.server = self.serve(answer)
                source = self.source(self.server, **hour, on_open=lambda: self.opened.append(True))
                found = self.on_thread(source)
                wait_until(seen, message=name)
                self.assertEqual(found, [])
                source.close()
                wait_until(lambda: found, message="the end of the iteration")  # noqa: B023
                self.assertEqual(found, ["end"])
                source.close()

    def test_close_while_a_name_is_looked_up(self) -> None:
        looking, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        class Blocked(requests.adapters.HTTPAdapter):
            def send(self, *args: Any, **kwargs: Any) -> requests.Response:
                looking.set()
                go_on.wait(_LONG)
                raise requests.ConnectionError

        session = requests.Session()
        session.mount("http://", Blocked())
        source = EventSource("http://slow.invalid/", session=session)
        found = self.on_thread(source)
        self.assertTrue(looking.wait(_LONG))
        source.close()
        wait_until(lambda: found == ["end"], message="the end")

    def test_the_server_sees_that_the_client_leaves(self) -> None:
        left = threading.Event()

        def answer(connection: Connection) -> None:
            connection.send(head() + b"data: a\n\n")
            connection.wait_for_client()
            left.set()

        for leave in ("close", "with", "while open"):
            with self.subTest(leave):
                left.clear()
                source = self.source(self.serve(answer))
                with source:
                    self.assertEqual(next(source).data, "a")
                    if leave == "close":
                        source.close()
                self.assertTrue(left.wait(_LONG))
                self.assertEqual(list(source), [])

    def test_the_thread_that_iterates_closes_the_connection(self) -> None:
        left = threading.Event()

        def answer(connection: Connection) -> None:
            connection.send(head() + b"data: a\n\n")
            connection.wait_for_client()
            left.set()

        source = self.source(self.serve(answer))
        found = self.on_thread(source)
        wait_until(lambda: found == ["a"], message="the event")
        source.close()
        self.assertTrue(left.wait(_LONG))
        wait_until(lambda: found == ["a", "end"], message="the end")

    def test_an_answer_that_comes_after_close_is_closed(self) -> None:
        closed, left = threading.Event(), threading.Event()

        def late(connection: Connection) -> None:
            self.assertTrue(closed.wait(_LONG))
            connection.send(head())
            connection.wait_for_client()
            left.set()

        server = self.serve(late)
        source = self.source(server)
        found = self.on_thread(source)
        wait_until(lambda: server.requests, message="the request")
        source.close()
        wait_until(lambda: found == ["end"], message="the end")
        closed.set()
        self.assertTrue(left.wait(_LONG))

    def test_the_thread_of_a_request_ends(self) -> None:
        source = self.source(self.serve(silent()), read_timeout=0.3)
        found = self.on_thread(source)
        wait_until(lambda: len(self.reasons) >= 1, message="a failure")
        source.close()
        wait_until(lambda: found == ["end"], message="the end")
        wait_until(
            lambda: not any(thread.name == f"EventSource {source.url}" for thread in threading.enumerate()),
            message="the end of the threads",
        )

    def test_close_before_and_after(self) -> None:
        server = self.serve(stream(b"data: a\n\ndata: b\n\n"))
        with self.source(server) as source:
            source.close()
            self.assertEqual(list(source), [])
        self.assertEqual(server.requests, [])

    def test_a_session_of_the_caller_stays_open(self) -> None:
        session = requests.Session()
        closed: list[bool] = []
        session.close = lambda: closed.append(True)  # type: ignore[method-assign]
        list(self.source(self.serve(), session=session))
        self.assertEqual(closed, [])


class IterationTest(ClientCase):
    def test_a_second_loop_goes_on_after_a_break(self) -> None:
        source = self.source(self.serve(stream(b"data: a\n\ndata: b\n\ndata: c\n\n")))
        for event in source:
            self.assertEqual(event.data, "a")
            break
        self.assertEqual([event.data for event in source], ["b", "c"])

    def test_last_event_id_is_that_of_the_event_in_hand(self) -> None:
        source = self.source(self.serve(silent(head(), b"id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\n\n")))
        self.assertEqual(source.last_event_id, "")
        for expected in ("1", "2"):
            self.assertEqual((next(source).last_event_id, source.last_event_id), (expected, expected))
        found = self.on_thread(source)
        wait_until(lambda: source.last_event_id == "3", message="the id without an event")
        source.close()
        wait_until(lambda: found, message="the end")

    def test_the_parameter_is_sent(self) -> None:
        server = self.serve(stream(b"data: a\n\n"))
        source = self.source(server, last_event_id="kx-7")
        self.assertEqual(next(source).last_event_id, "kx-7")
        self.assertEqual(server.requests[0].fields["last-event-id"], "kx-7")

    def test_notices_are_hidden_and_count(self) -> None:
        body = (
            b"retry: 5\nevent: stream-start\nid: k-1\ndata: {}\n\n"
            b"event: reset\ndata: {}\n\nevent: stream-finished\nid: k-2\ndata: {}\n\n"
            b"event: stream-other\ndata: {}\n\n"
            b"event: stream-unavailable\ndata: {}\n\nretry: 6\nevent: stream-end\ndata: {}\n\n"
        )
        for notices, expected in (
            (False, ["reset", "stream-finished", "stream-other"]),
            (
                True,
                ["stream-start", "reset", "stream-finished", "stream-other", "stream-unavailable", "stream-end"],
            ),
        ):
            with self.subTest(notices=notices):
                server = self.serve(stream(body))
                source = self.source(server, notices=notices)
                self.assertEqual([event.event for event in source], expected)
                self.assertEqual(self.waits, [0.006])
                self.assertEqual(server.requests[1].fields["last-event-id"], "k-2")

    def test_two_threads_at_a_time_are_refused(self) -> None:
        server = self.serve(silent(head()))
        source = self.source(server)
        found = self.on_thread(source)
        wait_until(lambda: server.requests, message="the request")
        self.assertRaisesRegex(RuntimeError, "another thread", next, source)
        source.close()
        wait_until(lambda: found == ["end"], message="the end")

    def test_an_error_of_the_callers_own_code_passes_and_the_client_goes_on(self) -> None:
        class Broken(requests.auth.AuthBase):
            tries = 0

            def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
                self.tries += 1
                if self.tries == 1:
                    raise LookupError("no token")
                request.headers["Authorization"] = f"Bearer {self.tries}"
                return request

        server = self.serve(stream(b"data: a\n\n"))
        source = self.source(server, auth=Broken())
        self.assertRaises(LookupError, next, source)
        self.assertEqual([event.data for event in source], ["a"])
        # The object is asked for each request, so it can renew a token.
        self.assertEqual([each.fields["authorization"] for each in server.requests], ["Bearer 2", "Bearer 3"])

    def test_an_interruption_while_bytes_are_decoded_loses_nothing(self) -> None:
        server = self.serve(stream(b"id: 1\ndata: a\n\n"), stream(b"id: 2\ndata: b\n\n"))
        source = self.source(server)
        self.assertEqual(next(source).data, "a")
        feed = EventStreamDecoder.feed

        def interrupted(decoder: EventStreamDecoder, data: bytes) -> list[DecodedEvent]:
            feed(decoder, data)
            raise KeyboardInterrupt

        with mock.patch.object(EventStreamDecoder, "feed", interrupted):
            self.assertRaises(KeyboardInterrupt, next, source)
        self.assertEqual(list(source), [])
        self.assertEqual([each.fields.get("last-event-id") for each in server.requests], [None, "1", "1"])


class RequestsTest(ClientCase):
    """What requests does for the client."""

    def test_headers_and_auth(self) -> None:
        self.data(headers={"X-Key": "k", "accept": "text/event-stream;q=1"}, auth=("user", "pass"))
        (request,) = self.server.requests
        self.assertEqual(request.fields["authorization"], "Basic dXNlcjpwYXNz")
        self.assertEqual((request.fields["x-key"], request.fields["accept"]), ("k", "text/event-stream;q=1"))

    def test_an_invalid_header_is_an_error_at_once(self) -> None:
        self.assertIn("header field", self.refused(headers={"X-Key": "a\nb: c"}).reason)

    def test_digest(self) -> None:
        challenge = refusal("401 Unauthorized", 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"')
        self.assertEqual(
            self.data(challenge, stream(b"data: a\n\n"), auth=requests.auth.HTTPDigestAuth("u", "p")), ["a"]
        )
        self.assertIn('username="u"', self.server.requests[1].fields["authorization"])

    def test_cookies_and_hooks_of_the_session(self) -> None:
        session = requests.Session()
        seen: list[int] = []
        session.hooks["response"].append(lambda response, *_, **__: seen.append(response.status_code))
        answer = pieces(head("200 OK", "text/event-stream", "Set-Cookie: session=7; Path=/"), b"data: a\n\n")
        self.data(answer, session=session)
        self.assertEqual(self.server.requests[1].fields["cookie"], "session=7")
        self.assertEqual(seen, [200, 204])

    def test_a_proxy(self) -> None:
        proxy = self.serve(stream(b"data: a\n\n"))
        session = requests.Session()
        session.trust_env = False
        session.proxies = {"http": proxy.url.removesuffix("/events")}
        with EventSource("http://app.invalid/events", session=session, **FAST) as source:
            self.assertEqual([event.data for event in source], ["a"])
        self.assertEqual(proxy.requests[0].line, "GET http://app.invalid/events HTTP/1.1")


class ArgumentTest(unittest.TestCase):
    def test_invalid_arguments_say_what_to_do(self) -> None:
        for url in (
            "",
            "events",
            "/events",
            "ftp://host/",
            "http://",
            "http://host:port/",
            "http://h:99999/",
            None,
            b"http://h/",
        ):
            with self.subTest(url), self.assertRaisesRegex(ValueError, "URL"):
                EventSource(url)  # type: ignore[arg-type]
        for name, value in (
            ("last_event_id", "a\nb"),
            ("last_event_id", "a\0"),
            ("last_event_id", "\ud800"),
            ("last_event_id", None),
            ("retry", -1),
            ("retry", 1.5),
            ("max_backoff", -0.1),
            ("max_backoff", float("inf")),
            ("max_failures", 0),
            ("connect_timeout", 0),
            ("connect_timeout", None),
            ("read_timeout", 0),
            ("read_timeout", True),
            ("read_timeout", float("nan")),
            ("max_event_bytes", 100),
        ):
            with self.subTest(name=name, value=value), self.assertRaisesRegex(ValueError, f"{name} must"):
                EventSource("http://host/", **{name: value})  # type: ignore[arg-type]
        with self.assertRaisesRegex(ValueError, "last_event_id="):
            EventSource("http://host/", headers={"LAST-EVENT-ID": "7"})

    def test_no_secret_of_the_url_is_shown(self) -> None:
        for url in (
            "https://user:secret@host:8443/a?ticket=secret#secret",
            "htp://secret@host?secret",
            "http://s:secret@h:x/?secret",
        ):
            with self.subTest(url):
                try:
                    text = repr(EventSource(url))
                    self.assertIn("https://host:8443/a?...", text)
                except ValueError as error:
                    text = str(error)
                self.assertNotIn("secret", text)

    def test_it_works_with_an_address_of_ipv6(self) -> None:
        self.assertTrue(socket.has_ipv6)
        self.assertIn("http://[::1]:80/", repr(EventSource("http://[::1]:80/")))


if __name__ == "__main__":
    unittest.main()
