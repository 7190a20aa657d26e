"""The worker's response puts gunicorn's bytes on the wire, with the head in the same send as the body's begin."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import socket
import threading
import unittest
from typing import Any, NamedTuple
from unittest import mock

from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from sse_threaded.server import response
from sse_threaded.server.connection import Connection
from sse_threaded.server.response import Response

SEED = int(os.environ.get("SSE_TESTS_SEED", "20261127"))
COUNT = int(os.environ.get("SSE_TESTS_RESPONSES", "4000"))

REQUESTS = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: Upgrade\r\n\r\n",
    b"HEAD / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
)

STATUSES: tuple[Any, ...] = ("200 OK", ) * 8 + (
    "204 No Content",
    "304 Not Modified", "103 Early Hints", "101 Switching Protocols", "100 Continue", "199 x",
    "205 Reset Content", "404 Not Found", "500 Internal Server Error", "302 Found", "200", "200 ",
    "999 \xe4\t\xff",
)  # fmt: skip
ODD_STATUSES: tuple[Any, ...] = (
    "", "20 OK", "2000 OK", "OK", "200 OK\r\nX: y", "200 OK\n", "200 \0", "200\tOK", " 200 OK",
    "\u0662\u0660\u0660 OK", "200 \u20ac", b"200 OK", 200, None, "-20 OK", "20x OK",
)  # fmt: skip

FIELDS: tuple[tuple[Any, Any], ...] = (
    ("Content-Type", "text/html; charset=utf-8"), ("content-type", "text/plain"), ("X-A", "b"), ("X-A", "c"),
    ("Set-Cookie", "a=b; Path=/"), ("Set-Cookie", "c=d"), ("Cache-Control", "no-store"), ("X-Empty", ""),
    ("X-Spaces", " \t a b\t "), ("X-Latin", "\xe4\x80\xff"), ("Location", "/x?y#z"), ("ETag", 'W/"x"'),
    ("X-Fourteen-Abc", "x"), ("X-TenChars", "upgrade"), ("X_Y", "z"),
    ("X-Long", "y" * 300), ("Vary", "Accept"), ("!#$%&'*+-.^_`|~", "x"),
)  # fmt: skip
ODD_FIELDS: tuple[tuple[Any, Any], ...] = (
    ("Connection", "close"), ("Connection", "upgrade"), ("connection", " Upgrade\t"),
    ("Connection", "keep-alive"), ("Connection", "upgrade, x"), ("Upgrade", "websocket"),
    ("upgrade", "WebSocket "), ("Upgrade", "h2c"), ("Transfer-Encoding", "chunked"),
    ("transfer-encoding", "gzip"), ("Keep-Alive", "timeout=5"), ("TE", "trailers"), ("Trailers", "x"),
    ("Trailer", "x"), ("Proxy-Authenticate", "x"), ("Proxy-Authorization", "x"), ("Server", "mine"),
    ("Date", "yesterday"), ("SERVER", "x"), ("Content-Length", "x"), ("Content-Length", ""),
    ("Content-Length", "-1"), ("Content-Length", "+3"), ("Content-Length", " 3\t"), ("Content-Length", "1_0"),
    ("Content-Length", "0x3"), ("Content-Length", "3.0"), ("Content-Length", "3, 3"), ("Content-Length", "03"),
    ("CONTENT-LENGTH", "3"), ("Content-Length", "\xa03"), ("Content-Length", "\xb2"), ("content-length", "4"),
    ("Content-Length", "9" * 30), ("", "x"), ("X Y", "z"), ("X:", "y"), ("X\r\nY", "z"), ("X\n", "y"),
    ("X\xe4", "y"), ("X", "a\r\nY: z"), ("X", "a\n"), ("X", "a\rb"), ("X", "a\0b"), ("X", "\x7f"),
    ("X", "\u20ac"), ("X", "\x0b"), ("\u0131d", "x"), ("\u212aeep-Alive", "x"), (b"X", "y"), ("X", b"y"),
    ("X", 5), (5, "y"), ("X", None), (None, "y"), ("Content-Length", 5), ("Connection", 5),
    (b"Content-Length", "5"), (True, "y"), ("X", True), ("Content-Length ", "3"), (" Content-Length", "3"),
)  # fmt: skip

BODIES = (b"", b"a", b"abc", b"abcdef", b"x" * 300, b"\r\n0\r\n\r\n", bytes(range(256)))
ODD_BODIES: tuple[Any, ...] = ("text", None, bytearray(b"abc"), memoryview(b"abc"), 5, [b"a"])


class Step(NamedTuple):
    """What an app or the worker does with the response: a method's name and its arguments."""

    method: str
    args: tuple[Any, ...] = ()


class Sent(NamedTuple):
    """What comes of some steps.

    :ivar wire: the bytes that the client gets.
    :ivar outcomes: of each step: the error, or what it returns, in words.
    :ivar state: the response's attributes, which hooks and access logs read.
    """

    wire: bytes
    outcomes: list[str]
    state: dict[str, Any]


class Subclass(str):
    """Such as Markup: text for gunicorn."""

    __slots__ = ()


@functools.cache
def config(sendfile: bool | None) -> Config:
    cfg = Config()
    cfg.set("sendfile", sendfile)
    return cfg


def request(data: bytes, sendfile: bool | None = None) -> Request:
    return Request(config(sendfile), IterUnreader([data]), ("127.0.0.1", 1))


def perform(made: Any, steps: list[Step]) -> list[str]:
    outcomes = []
    for step in steps:
        try:
            if step.method == "fail":  # an app that reports an error, as PEP 3333 says
                try:
                    raise KeyError("the app's own")
                except KeyError as error:
                    made.start_response(*step.args, (KeyError, error, error.__traceback__))
                result = "started"
            elif step.method == "write_file":
                with open_file(*step.args) as file:
                    made.write_file(wsgi.FileWrapper(file, 7))
                result = "a file"
            else:
                result = getattr(made, step.method)(*step.args)
                result = "write" if callable(result) else repr(result)
        except Exception as error:
            result = f"{type(error).__name__}: {'' if isinstance(error, AttributeError) else error}"
        outcomes.append(result)
    return outcomes


def open_file(data: bytes, offset: int, is_real: bool) -> Any:
    if not is_real:
        file: Any = io.BytesIO(data)
    else:
        file = open(os.memfd_create("file"), "w+b", buffering=0)  # noqa: SIM115
        file.write(data)
    file.seek(offset)
    return file


def run(kind: Any, data: bytes, steps: list[Step], **settings: Any) -> Sent:
    """Do the steps with a response of this kind, with a socket."""
    server, client = socket.socketpair()
    with server, client:
        client.settimeout(30)
        req = request(data, **settings)
        conn: Any = Connection(server, ("127.0.0.1", 1), ("127.0.0.1", 2)) if kind is Response else server
        made = kind(req, conn, req.cfg)
        if kind is wsgi.Response:
            made.early_hints = wsgi._make_early_hints_callback(req, server, made)
        outcomes = perform(made, steps)
        try:
            closes = made.should_close()
        except AttributeError:  # nothing was begun
            closes = None
        server.shutdown(socket.SHUT_WR)
        wire = b"".join(iter(lambda: client.recv(65536), b""))
    names = ("status", "headers", "headers_sent", "response_length", "sent", "upgrade", "chunked", "must_close")
    return Sent(wire, outcomes, {"closes": closes, **{name: getattr(made, name) for name in names}})


def generate(draw: random.Random) -> tuple[bytes, list[Step], dict[str, Any]]:
    """A request, and what an app does for it."""
    headers = draw.sample(FIELDS, draw.randint(0, 4))
    body = [draw.choice(BODIES) for _ in range(draw.choice((0, 1, 1, 1, 2, 3)))]
    if draw.random() < 0.5:
        length = max(0, sum(map(len, body)) + draw.choice((0, 0, 0, 1, -1, 100)))
        headers.insert(draw.randint(0, len(headers)), ("Content-Length", str(length)))
    status = draw.choice(STATUSES)
    for _ in range(draw.choice((0, 0, 1, 1, 2))):
        headers.insert(draw.randint(0, len(headers)), draw.choice(ODD_FIELDS))
    if draw.random() < 0.05:
        status = draw.choice(ODD_STATUSES)
    if draw.random() < 0.05:
        headers = [(Subclass(name), Subclass(value)) for name, value in headers if isinstance(value, str)]
    steps = [Step("start_response", (status, headers)), *(Step("write", (data,)) for data in body)]
    kind = draw.random()
    if kind < 0.2:
        data = draw.choice((b"abc", b"x" * 300))
        steps[1:] = [Step("write_file", (data, draw.choice((0, 0, 1)), draw.random() < 0.7))]
    elif kind < 0.25:
        steps.insert(draw.randint(0, len(steps)), Step("force_close"))
    elif kind < 0.3:
        steps.insert(draw.randint(1, len(steps)), Step("start_response", ("200 OK", [("X", "twice")])))
    elif kind < 0.35:
        steps.insert(draw.randint(1, len(steps)), Step("send_headers"))
    if draw.random() < 0.05:
        hints = draw.choice(([("Link", "</a.css>")], [("Link", "a"), (b"Link", b"b")], [("X", "a\r\nb")], []))
        steps.insert(draw.randint(0, len(steps)), Step("early_hints", (hints,)))
    if draw.random() < 0.9:
        steps.append(Step("close"))
    settings = {"sendfile": False} if draw.random() < 0.2 else {}
    return draw.choice(REQUESTS), steps, settings


NOT_BEGUN = "AssertionError: The app gave a body, but did not call start_response"


class ResponseTest(unittest.TestCase):
    maxDiff = None

    def setUp(self) -> None:
        self.log = self.enter(mock.patch("gunicorn.http.wsgi.log"))
        self.enter(mock.patch("gunicorn.util.http_date", lambda *_: "Thu, 01 Jan 1970 00:00:00 GMT"))
        self.addCleanup(response._starts.clear)
        response._starts.clear()

    def enter(self, manager: Any) -> Any:
        value = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return value

    def assert_same(self, data: bytes, steps: list[Step], message: str = "", **settings: Any) -> Sent:
        ours, theirs = (run(kind, data, steps, **settings) for kind in (Response, wsgi.Response))
        # Where the app has not begun its response, gunicorn's has the status "None", or an error of its own.
        theirs.outcomes[:] = [NOT_BEGUN if each == "AttributeError: " else each for each in theirs.outcomes]
        if b" None\r\n" in theirs.wire:
            self.assertNotIn(b" None\r\n", ours.wire, f"{message} {data!r} {steps} {settings}")
            self.assertIn(NOT_BEGUN, ours.outcomes)
            return ours
        if any(str(each).startswith("OverflowError") for each in theirs.outcomes):
            return ours  # a length that no file has: the standard library refuses it, and this package need not
        self.assertEqual(ours, theirs, f"{message} {data!r} {steps} {settings}")
        return ours


class GeneratedTest(ResponseTest):
    """Thousands of them; SSE_TESTS_SEED and SSE_TESTS_RESPONSES choose others."""

    def test_each_is_gunicorns_byte_for_byte(self) -> None:
        draw = random.Random(SEED)
        sent = failed = 0
        for _ in range(COUNT):
            data, steps, settings = generate(draw)
            ours = self.assert_same(data, steps, f"seed {SEED}:", **settings)
            sent += ours.wire.startswith(b"HTTP/1.")
            failed += any("Error" in outcome or "Invalid" in outcome for outcome in ours.outcomes)
        self.assertGreater(sent, COUNT / 2)
        self.assertGreater(failed, COUNT / 10)


GET, HEAD = REQUESTS[0], REQUESTS[4]
OLD = b"GET / HTTP/1.0\r\n\r\n"


def start(*headers: tuple[Any, Any], status: Any = "200 OK") -> Step:
    return Step("start_response", (status, list(headers)))


def write(data: Any) -> Step:
    return Step("write", (data,))


CLOSE = Step("close")


class TableTest(ResponseTest):
    def test_each_status_and_field_by_itself(self) -> None:
        for data in REQUESTS:
            for status in (*dict.fromkeys(STATUSES), *ODD_STATUSES):
                self.assert_same(data, [start(("Content-Length", "3"), status=status), write(b"abcd"), CLOSE])
                self.assert_same(data, [start(status=status), write(b"abc"), CLOSE])
            for field in (*FIELDS, *ODD_FIELDS):
                for _ in range(2):  # the second time it is remembered
                    self.assert_same(data, [start(field), write(b"abc"), CLOSE])

    def test_fields_that_cannot_be_remembered(self) -> None:
        fields: tuple[tuple[Any, Any], ...] = ((["X"], "y"), ("X", ["y"]), ({}, "y"), ("X", {}))
        for field in fields:
            for kind in (Response, wsgi.Response):
                outcome = run(kind, GET, [start(field), CLOSE]).outcomes[0]
                self.assertTrue(outcome.startswith("TypeError"), outcome)

    def test_bodies_and_lengths(self) -> None:
        for data in REQUESTS:
            for length in (None, 0, 2, 3, 6, 7):
                headers = [] if length is None else [("Content-Length", str(length))]
                for body in ([], [b""], [b"abc"], [b"abc", b"def"], [b"", b"abc", b"", b"def", b""]):
                    self.assert_same(data, [start(*headers), *map(write, body), CLOSE])

    def test_files(self) -> None:
        for data in REQUESTS:
            for length in (None, 0, 2, 3):
                headers = [] if length is None else [("Content-Length", str(length))]
                for offset in (0, 1):
                    for is_real in (True, False):
                        for sendfile in (None, True, False):
                            steps = [start(*headers), Step("write_file", (b"abcd", offset, is_real)), CLOSE]
                            self.assert_same(data, steps, sendfile=sendfile)

    def test_a_body_larger_than_the_sockets_buffer(self) -> None:
        body = random.Random(SEED).randbytes(3_000_000)
        for headers in ([], [("Content-Length", str(len(body)))]):
            server, client = socket.socketpair()
            with server, client:
                found: list[bytes] = []
                reader = threading.Thread(
                    target=lambda c=client, f=found: f.extend(iter(lambda: c.recv(65536), b""))
                )
                reader.start()
                req = request(GET)
                made = Response(req, Connection(server, "", ""), req.cfg)
                perform(made, [start(*headers), write(body), CLOSE])
                server.shutdown(socket.SHUT_WR)
                reader.join(60)
            framed = body if headers else b"%X\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            self.assertTrue(b"".join(found).partition(b"\r\n\r\n")[2] == framed)

    def test_what_kind_of_body_it_is(self) -> None:
        for field, kind in (
            (("Content-Type", "text/event-stream"), (True, False)),
            (("content-type", " Text/Event-Stream; charset=utf-8"), (True, False)),
            (("Content-Type", "text/plain"), (False, False)),
            (("X-Content-Type", "text/event-stream"), (False, False)),
            (("CONTENT-ENCODING", "gzip"), (False, True)),
            (("X", "gzip"), (False, False)),
        ):
            made = Response(request(GET), mock.Mock(), config(None))
            made.start_response("200 OK", [field])
            self.assertEqual((made.is_stream, made.is_encoded), kind, field)

    def test_of_a_body_that_is_dropped_the_log_tells_once(self) -> None:
        for kind in (Response, wsgi.Response):
            self.log.reset_mock()
            run(kind, HEAD, [start(), write(b""), write(b"a"), write(b"b"), CLOSE])
            self.assertEqual(self.log.warning.call_count, 1)

    def test_an_app_that_does_not_begin(self) -> None:
        for data in (GET, OLD):
            for steps in ([CLOSE], [write(b"a")], [CLOSE, CLOSE], [write(b"a"), CLOSE], [Step("send_headers")]):
                self.assert_same(data, steps)


class ErrorTest(ResponseTest):
    """exc_info, of PEP 3333."""

    def fail(self, *headers: tuple[Any, Any]) -> Step:  # type: ignore[override]
        return Step("fail", ("500 Oh", list(headers)))

    def test_after_the_head_the_apps_error_is_raised(self) -> None:
        ours = self.assert_same(GET, [start(), write(b"a"), self.fail(), write(b"b"), CLOSE])
        self.assertTrue(ours.outcomes[2].startswith("KeyError"))

    def test_before_anything_it_is_as_without(self) -> None:
        self.assert_same(GET, [self.fail(("X", "y")), write(b"a"), CLOSE])

    def test_before_the_head_the_fields_are_replaced(self) -> None:
        # gunicorn sends the fields of both, even two lengths.
        for first in (
            start(("X", "y"), ("Content-Length", "100")),
            start(("Connection", "upgrade"), ("Upgrade", "websocket"), status="101 Switching Protocols"),
            start(("X", "y"), ("Content-Length", "x")),  # refused
            start(status="204 No Content"),
        ):
            for headers in ([], [("Content-Length", "3")], [("Content-Type", "text/plain")]):
                steps = [self.fail(*headers), write(b"abc"), CLOSE]
                ours = run(Response, GET, [first, *steps])
                self.assertEqual(ours.wire, run(wsgi.Response, GET, steps).wire)


class MendedTest(ResponseTest):
    """The other differences: here gunicorn's bytes would be wrong."""

    def test_a_part_that_is_not_bytes_is_refused_before_the_head(self) -> None:
        # So the client gets an error page. gunicorn has sent the head by then.
        for part in (*ODD_BODIES, 0, ""):
            ours = run(Response, GET, [start(), write(part)])
            self.assertEqual((ours.wire, ours.state["headers_sent"]), (b"", False))
            self.assertEqual(ours.outcomes, run(wsgi.Response, GET, [start(), write(part)]).outcomes)
            self.assert_same(GET, [start(), write(b"a"), write(part), write(b"b"), CLOSE])

    def test_the_chunks_of_an_empty_file_end_once(self) -> None:
        for offset in (0, 4, 5):
            data = b"abcd"[:offset]
            ours = run(Response, GET, [start(), Step("write_file", (data, offset, True)), CLOSE])
            self.assertEqual(ours.wire.partition(b"\r\n\r\n")[2], b"0\r\n\r\n")
        for headers in ([("Content-Length", "0")], [("Content-Length", "3")]):
            self.assert_same(GET, [start(*headers), Step("write_file", (b"", 0, True)), CLOSE])
        for data in (HEAD, OLD):
            self.assert_same(data, [start(), Step("write_file", (b"", 0, True)), CLOSE])


class SendsTest(ResponseTest):
    """How many sends there are."""

    def sends(self, data: bytes, *steps: Step) -> list[bytes]:
        sock = mock.Mock()
        req = request(data)
        made = Response(req, sock, req.cfg)
        for outcome in perform(made, [*steps]):
            self.assertNotIn("Error", outcome)
        return [call.args[0] for call in sock.sendall.call_args_list]

    def test_the_head_leaves_with_the_first_bytes(self) -> None:
        length = ("Content-Length", "2")
        for data, steps, count in (
            (GET, [start(length), write(b"ok"), CLOSE], 1),
            (OLD, [start(), write(b"ok"), CLOSE], 1),
            (GET, [start(length), CLOSE], 1),
            (GET, [start(), CLOSE], 1),
            (HEAD, [start(length), write(b"ok"), CLOSE], 1),
            (GET, [start(status="304 Not Modified"), CLOSE], 1),
            (GET, [start(length), write(b"o"), write(b"k"), CLOSE], 2),
            (GET, [start(length), write(b"ok"), write(b"more"), write(b""), CLOSE], 1),
            (GET, [start(), write(b"ok"), CLOSE], 2),  # the second ends the chunks
            (GET, [start(), write(b""), write(b"ok"), CLOSE], 3),  # an empty part asks for the head at once
        ):
            sends = self.sends(data, *steps)
            self.assertEqual(len(sends), count, (data, steps))
            self.assertTrue(sends[0].startswith(b"HTTP/1."))


class RememberedTest(ResponseTest):
    def test_apps_that_send_other_fields_each_time_do_not_fill_the_memory(self) -> None:
        req, long, sock = request(GET), "y" * 600, mock.Mock()
        for number in range(3000):
            headers = [("X", str(number)), ("Y", f"{long}{number}"), ("Date", f"{long}{number}"), (f"Z{long}", "")]
            for reason in (str(number), f"{long}{number}"):
                made = Response(req, sock, req.cfg)
                made.start_response(f"200 {reason}", headers)
                made.close()
            sock.reset_mock()
            self.assertLessEqual(len(response._fields), 1024)
            self.assertLessEqual(len(response._codes), 1024)
            self.assertLessEqual(len(response._starts), 64)
        self.assertLessEqual(max(len(name + value) for name, value in response._fields), 256)
        self.assertLessEqual(max(map(len, response._codes)), 256)
        self.assertLessEqual(max(map(len, response._starts.values())), 512)

    def test_the_same_fields_are_checked_once(self) -> None:
        self.enter(mock.patch("time.time", lambda: 100.0))
        response._fields.clear()
        fields = [*FIELDS, ("X", "y" * 255), ("Y", "y" * 256)]
        for _ in range(2):
            run(Response, GET, [start(*fields), CLOSE])
            run(Response, GET, [start(status="404 Not Found"), CLOSE])
        self.assertEqual(set(response._fields), {*FIELDS, ("X", "y" * 255)} - {("X-Long", "y" * 300)})
        self.assertEqual(len(response._starts), 2)
        self.assertLessEqual({"200 OK", "404 Not Found"}, set(response._codes))

    def test_invalid_fields_are_not_remembered(self) -> None:
        response._fields.clear()
        for field in ODD_FIELDS:
            made = Response(request(GET), mock.Mock(), config(None))
            with contextlib.suppress(Exception):
                made.start_response("200 OK", [field])
        for name, value in response._fields:
            self.assertRegex(name + value, r"\A[\t\x20-\x7e\x80-\xff]+\Z")
            if name.lower() == "content-length":
                int(value)

    def test_the_date_is_that_of_the_moment(self) -> None:
        seconds = iter((100.0, 100.9, 101.0, 99.0))
        with (
            mock.patch("gunicorn.util.http_date", lambda second: f"second {second}"),
            mock.patch("time.time", lambda: next(seconds)),
        ):
            for second in (100, 100, 101, 99):
                self.assertIn(b"\r\nDate: second %d\r\n" % second, run(Response, GET, [start(), CLOSE]).wire)


if __name__ == "__main__":
    unittest.main()
