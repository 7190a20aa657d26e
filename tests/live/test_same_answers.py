"""The same bytes get the same answers from this worker and from gunicorn's own, ``-k gthread``.

Behind each request stands another one, which asks for the connection's end. So the bytes that come back also show
where the server took the first request to end, and whether it kept the connection open.

The workers differ on purpose in these points, on which the requests here do not depend:

- A request that does not arrive in time is answered with 408 (RFC 9110, section 15.5.9); a thread of gthread waits
  for it. tests/live/test_worker_requests.py has the tests.
- A fault in a head is answered when the body has come, too, or else with 408. An app is not called for a short
  body that does not come: gthread gives it a part of the body if the client ends early.
- An app that never calls start_response gets an error page. gthread sends the status "None" where it closes the
  connection afterwards.
- HTTP/2 is refused: see ``ThreadWorker.check_config``.
- The head is sent with the first bytes of the body, so the packets differ, not the bytes.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import tempfile
import threading
import unittest
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar
from unittest import mock

from sse_threaded.testing import GunicornServer
from tests.harness.generated_requests import HONEST, PROXY_LINES, generate
from tests.support import wait_until

SEED = int(os.environ.get("SSE_TESTS_SEED", "20261127"))
COUNT = int(os.environ.get("SSE_TESTS_REQUESTS", "150"))

WORKERS = ("gthread", "sse_threaded.worker.ThreadWorker")

# Tells the client all that it was given.
APP = """
import io, json, tempfile
from answers import ANSWERS

def app(environ, start_response):
    name = environ["QUERY_STRING"]
    if name in ANSWERS:
        return ANSWERS[name](environ, start_response)
    try:
        body = environ["wsgi.input"].read()
    except OSError as error:
        body = repr(type(error)).encode()
    told = {key: value for key, value in environ.items() if isinstance(value, (str, int, bool, tuple))}
    del told["REMOTE_PORT"], told["SERVER_PORT"]
    answer = json.dumps([told, body.decode("latin-1")], sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
"""

# Apps of all kinds, by the query that asks for them.
ANSWERS = r"""
import io, os, sys, tempfile

ANSWERS = {}

def answer(function):
    ANSWERS[function.__name__] = function
    return function

@answer
def generator(environ, start_response):
    start_response("200 OK", [])
    yield b"one"
    yield b""
    yield b"two"

@answer
def late_generator(environ, start_response):
    yield from generator(environ, start_response)

@answer
def too_long(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"a", b"bc", b"d"]

@answer
def no_content_with_body(environ, start_response):
    start_response("204 No Content", [("Content-Length", "3")])
    return [b"abc"]

@answer
def not_modified(environ, start_response):
    start_response("304 Not Modified", [("Content-Length", "3"), ("ETag", "x")])
    return []

@answer
def created(environ, start_response):
    start_response("201 Created", [("Location", "/x"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])
    return ()

@answer
def writes(environ, start_response):
    write = start_response("200 OK", [])
    write(b"one")
    write(b"two")
    return [b"three"]

@answer
def hop_by_hop(environ, start_response):
    start_response("200 OK", [("Connection", "close"), ("Server", "x"), ("Date", "x"), ("Keep-Alive", "x"),
                              ("Transfer-Encoding", "chunked"), ("Content-Length", "2")])
    return [b"ok"]

@answer
def fields_of_an_iterator(environ, start_response):
    start_response("200 OK", (field for field in [("Content-Type", "text/plain"), ("Content-Length", "2")]))
    return [b"ok"]

@answer
def closes_its_log(environ, start_response):
    environ["wsgi.errors"].close()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

@answer
def upgrade(environ, start_response):
    start_response("101 Switching Protocols", [("Upgrade", "websocket"), ("Connection", "Upgrade")])
    return []

@answer
def fails_at_once(environ, start_response):
    raise ValueError("x")

@answer
def times_out(environ, start_response):
    raise TimeoutError("the app's own time-out")

@answer
def lacks_a_file(environ, start_response):
    raise FileNotFoundError("the app's own file")

@answer
def fails_after_start(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    raise ValueError("x")

@answer
def fails_in_body(environ, start_response):
    start_response("200 OK", [])
    yield b"one"
    raise ValueError("x")

@answer
def fails_before_body(environ, start_response):
    start_response("200 OK", [])
    raise ValueError("x")
    yield b"one"

@answer
def never_starts(environ, start_response):
    return []

@answer
def never_starts_but_has_body(environ, start_response):
    return [b"x"]

@answer
def returns_none(environ, start_response):
    start_response("200 OK", [])

@answer
def tells_of_error(environ, start_response):
    try:
        raise ValueError("x")
    except ValueError:
        start_response("500 Oh", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"oh"]

@answer
def tells_of_error_too_late(environ, start_response):
    start_response("200 OK", [])
    yield b"one"
    try:
        raise ValueError("x")
    except ValueError:
        start_response("500 Oh", [], sys.exc_info())
    yield b"oh"

@answer
def starts_twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []

@answer
def splits_response(environ, start_response):
    start_response("200 OK", [("X", "y\r\nSet-Cookie: evil")])
    return []

@answer
def invalid_name(environ, start_response):
    start_response("200 OK", [("X Y", "z")])
    return []

@answer
def invalid_status(environ, start_response):
    start_response("OK", [])
    return []

@answer
def invalid_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "x")])
    return [b"abc"]

@answer
def text_later(environ, start_response):
    start_response("200 OK", [])
    return [b"one", "two"]

@answer
def text_at_once(environ, start_response):
    start_response("200 OK", [])
    return ["one"]

@answer
def error_replaces(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    try:
        raise ValueError("x")
    except ValueError:
        start_response("500 Oh", [("Content-Length", "2")], sys.exc_info())
    return [b"oh"]

@answer
def empty_file(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](tempfile.TemporaryFile())

@answer
def real_file(environ, start_response):
    file = tempfile.TemporaryFile()
    file.write(b"abc" * 1000)
    file.seek(1)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](file)

@answer
def file_with_length(environ, start_response):
    file = tempfile.TemporaryFile()
    file.write(b"abc" * 1000)
    file.seek(0)
    start_response("200 OK", [("Content-Length", "3000")])
    return environ["wsgi.file_wrapper"](file, 100)

@answer
def file_in_memory(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"abc" * 1000), 100)

@answer
def large(environ, start_response):
    start_response("200 OK", [])
    return [b"x" * 100_000] * 30

@answer
def early_hints(environ, start_response):
    if "wsgi.early_hints" in environ:
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

@answer
def reads_nothing(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

@answer
def reads_a_part(environ, start_response):
    found = environ["wsgi.input"].read(2) + environ["wsgi.input"].readline(1)
    start_response("200 OK", [("Content-Length", str(len(found)))])
    return [found]

@answer
def reads_lines(environ, start_response):
    found = b"|".join(environ["wsgi.input"])
    start_response("200 OK", [("Content-Length", str(len(found)))])
    return [found]

@answer
def logs(environ, start_response):
    environ["wsgi.errors"].write("told\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

# gthread reads so many bytes at a time, and this worker more.
_ONE_READ = 8192

# A page with which gunicorn refuses a request.
_LENGTH = re.compile(rb"content-length:[ \t]*([0-9]+)[ \t]*\r", re.IGNORECASE)
_REFUSAL = re.compile(
    rb"HTTP/1\.1 (?:4(?:00|03|14|17|31)|501) [^\r]+\r\n"
    rb"Connection: close\r\nContent-Type: text/html\r\n.*?</html>\n",
    re.DOTALL,
)

# The apps for which the answers differ, with the reason and what this worker answers.
ARGUED = (
    (
        "text_at_once",
        "The head is not sent before there are bytes for the body, so there still can be an error page. gthread "
        "sends the head, and then nothing.",
        rb"\AHTTP/1\.1 500 Internal Server Error\r\n",
    ),
    (
        "error_replaces",
        "PEP 3333: start_response with exc_info replaces the fields. gthread sends those of both calls, here two "
        "different lengths.",
        rb"\AHTTP/1\.1 500 Oh\r\nServer: gunicorn\r\nConnection: keep-alive\r\nContent-"
        rb"Length: 2\r\n\r\nohHTTP/1\.1 200 OK",
    ),
    (
        "empty_file",
        "The chunks of an empty file end once. With gthread a second end stands before the next response.",
        rb"\r\n\r\n0\r\n\r\nHTTP/1\.1 200 OK\r\n",
    ),
)

LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"

# The attempts of articles on request smuggling: two servers are to see another end of the same request.
SMUGGLING = tuple(
    POST + fields + b"\r\n\r\n" + body
    for fields in (
        b"Content-Length: 36\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 36",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer-Encoding: chunked\x0b",
        b"X: y\nTransfer-Encoding: chunked",
        b"X: y\rTransfer-Encoding: chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
        b"Transfer_Encoding: chunked",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 36\r\nContent-Length: 0",
        b"Content-Length: 36, 0",
        b"Content-Length: 0, 36",
        b"Content-Length: +36",
        b"Content-Length: 0x24",
        b"Content-Length : 36",
        b"Content_Length: 36",
        b"Content-Length: 3\x006",
        b"Content-Length: 036",
        b"Content-Length: 0",
        b"Content-Length:\r\n 36",
        b"Expect: 100-continue\r\nContent-Length: 36",
        b"Connection: Content-Length\r\nContent-Length: 36",
        b"Connection: close, Content-Length\r\nContent-Length: 36",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
        b"X: y",
    )
    for body in (
        b"0\r\n\r\n" + SMUGGLED,
        SMUGGLED + b"x" * (36 - len(SMUGGLED)),
        b"24\r\n" + b"x" * 36 + b"\r\n0\r\n\r\n",
    )
)

SETTINGS: dict[str, tuple[str, ...]] = {
    "gunicorn's own": (),
    "behind a proxy": (
        "--forwarded-allow-ips=127.0.0.1",
        "--forwarder-headers=SCRIPT_NAME,REMOTE_USER",
        "--proxy-protocol=auto",
        "--http-parser=python",
        "--limit-request-fields=20",
        "--limit-request-field_size=400",
        "--limit-request-line=200",
    ),
    "as tolerant as it can be": (
        "--header-map=dangerous",
        "--strip-header-spaces",
        "--permit-obsolete-folding",
        "--permit-unconventional-http-method",
        "--permit-unconventional-http-version",
        "--casefold-http-method",
        "--forwarded-allow-ips=10.0.0.1",
    ),
}


# gthread forgets the address of a PROXY line after the first request of a connection; this worker does not.
GTHREAD_CONFIG = """
import weakref

_proxied = weakref.WeakKeyDictionary()

def pre_request(worker, req):
    connection = req.unreader.sock
    if req.proxy_protocol_info is None:
        req.proxy_protocol_info = _proxied.get(connection)
    elif req.proxy_protocol_info["client_addr"]:
        _proxied[connection] = req.proxy_protocol_info
"""


class SameAnswersTest(unittest.TestCase):
    servers: ClassVar[dict[str, list[GunicornServer]]]

    @classmethod
    def setUpClass(cls) -> None:
        resources = contextlib.ExitStack()
        cls.addClassCleanup(resources.close)
        directory = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-")))
        (directory / "same.py").write_text(APP, encoding="utf-8")
        (directory / "answers.py").write_text(ANSWERS, encoding="utf-8")
        (directory / "gthread.py").write_text(GTHREAD_CONFIG, encoding="utf-8")
        (directory / "worker.py").touch()
        # The usual one is shorter than a PROXY line, so a server that expects one waits for more.
        probe = mock.patch("sse_threaded.testing.gunicorn_server._PROBE", b"?" * 20 + b"\r\n\r\n")
        resources.enter_context(probe)
        cls.servers = {
            name: [
                resources.enter_context(
                    GunicornServer(
                        "same:app", cwd=directory, args=["-k", worker, "-c", config, "--threads", "4", *args]
                    )
                )
                for worker, config in zip(WORKERS, ("gthread.py", "worker.py"), strict=True)
            ]
            for name, args in SETTINGS.items()
        }

    def answers(self, settings: str, *pieces: bytes) -> list[bytes]:
        """gthread's and this worker's."""
        found = [conversation(server.port, pieces) for server in self.servers[settings]]
        if len(pieces) > 1 or len(pieces[0]) > _ONE_READ:
            # Which of two faults a parser meets first depends on how much it has read.
            found = [_REFUSAL.sub(b"refused", answer) for answer in found]
        return found

    def assert_same(self, settings: str, *pieces: bytes) -> bytes:
        """The answer, which both give."""
        theirs, ours = self.answers(settings, *pieces)
        if b" None\r\nServer: " in theirs:
            self.assertIn(b"HTTP/1.1 500 Internal Server Error\r\n", ours)
            return ours
        if theirs != ours and _REFUSAL.sub(b"", theirs).startswith(_REFUSAL.sub(b"", ours)):
            # This worker waits for the body before it reads the head or calls the app: here it comes.
            theirs, ours = self.answers(settings, *pieces, b"\r\n" + b"x" * 5000)
        if theirs != ours and any(int(length) > 65_536 for length in _LENGTH.findall(b"".join(pieces))):
            # More is left of a body than a thread reads. gthread says keep-alive, and closes all the same.
            before, _, after = theirs.rpartition(b"\r\nConnection: keep-alive\r\n")
            theirs = before + b"\r\nConnection: close\r\n" + after
        if theirs != ours:
            shown = f"{b''.join(pieces)[:3000]!r} in {len(pieces)} pieces"
            self.fail(f"seed {SEED}, {settings}: {shown}\ngthread:  {theirs[:3000]!r}\nit gives: {ours[:3000]!r}")
        return ours

    def test_honest_requests(self) -> None:
        for settings in SETTINGS:
            for name, data in HONEST.items():
                with self.subTest(name, settings=settings):
                    answer = self.assert_same(settings, data + LAST)
                    self.assertTrue(answer.startswith(b"HTTP/1."))
                    self.assert_same(settings, *bytewise(data + LAST))

    def test_generated_requests(self) -> None:
        draw = random.Random(SEED)
        statuses = set()
        for settings in SETTINGS:
            for case in generate(draw.randrange(1 << 32), COUNT):
                statuses.add(self.assert_same(settings, case.data + LAST)[:12])
                self.assert_same(settings, *halves(draw, case.data + LAST))
        self.assertLess({b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.0 200", b"HTTP/1.1 431"}, statuses)

    def test_generated_requests_byte_by_byte(self) -> None:
        draw = random.Random(SEED + 1)
        for settings in SETTINGS:
            for case in generate(draw.randrange(1 << 32), COUNT // 4):
                if len(case.data) < 2000:
                    self.assert_same(settings, *bytewise(case.data + LAST))

    def test_several_requests_at_once(self) -> None:
        draw = random.Random(SEED + 2)
        for settings in SETTINGS:
            cases = [case.data for case in generate(draw.randrange(1 << 32), COUNT) if len(case.data) < 3000]
            plain = [case.data for case in generate(draw.randrange(1 << 32), COUNT) if case.is_plain]
            for case in cases[: COUNT // 3]:
                data = b"".join([*draw.choices(plain, k=3), case, draw.choice(plain), LAST])
                self.assert_same(settings, data)
                self.assert_same(settings, *halves(draw, data))

    def test_smuggling(self) -> None:
        draw = random.Random(SEED + 3)
        for settings in SETTINGS:
            for data in SMUGGLING:
                self.assert_same(settings, data + LAST)
                self.assert_same(settings, *halves(draw, data + LAST))
                self.assert_same(settings, HONEST["curl"] + data + LAST)

    def test_proxy_lines(self) -> None:
        for settings in SETTINGS:
            for line in PROXY_LINES:
                for data in (
                    line + LAST,
                    line + HONEST["curl"] + LAST,
                    HONEST["curl"] + line + LAST,
                    line + line + LAST,
                ):
                    self.assert_same(settings, data)
                    self.assert_same(settings, *bytewise(data))

    def test_answers_of_all_kinds(self) -> None:
        names = re.findall(r"^@answer\ndef (\w+)", ANSWERS, re.MULTILINE)
        for name in sorted({*names} - {name for name, _, _ in ARGUED}):
            for start, fields in (
                (b"GET /a?%s HTTP/1.1", b""),
                (b"HEAD /a?%s HTTP/1.1", b""),
                (b"GET /a?%s HTTP/1.0", b""),
                (b"GET /a?%s HTTP/1.0", b"Connection: keep-alive\r\n"),
                (b"GET /a?%s HTTP/1.1", b"Connection: close\r\n"),
                (b"POST /a?%s HTTP/1.1", b"Content-Length: 9\r\n\r\none\ntwo\n3"),
                (b"POST /a?%s HTTP/1.1", b"Transfer-Encoding: chunked\r\n\r\n9\r\none\ntwo\n3\r\n0\r\n\r\n"),
                (b"POST /a?%s HTTP/1.1", b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\none"),
                (b"POST /a?%s HTTP/1.1", b"Content-Length: 50000\r\n\r\n" + b"x" * 50_000),
            ):
                with self.subTest(name, start=start, fields=fields[:40]):
                    head = start % name.encode() + b"\r\n" + fields
                    self.assert_same("gunicorn's own", (head if b"\r\n\r\n" in fields else head + b"\r\n") + LAST)

    def test_errors_of_the_app_are_logged(self) -> None:
        for name, words in (
            ("fails_at_once", "ValueError: x"),
            ("times_out", "TimeoutError: the app's own time-out"),
            ("lacks_a_file", "FileNotFoundError: the app's own file"),
        ):
            with self.subTest(name):
                servers = self.servers["gunicorn's own"]
                before = [server.output().count(words) for server in servers]
                self.assert_same("gunicorn's own", b"GET /a?%s HTTP/1.1\r\n\r\n" % name.encode() + LAST)
                for server, count in zip(servers, before, strict=True):
                    wait_until(partial(logs_more, server, words, count), message=name)

    def test_bodies_of_all_sizes(self) -> None:
        for settings in SETTINGS:
            for size in (0, 1, 4000, 60_000, 65_536, 70_000, 300_000):
                body = random.Random(size).randbytes(size)
                for data in (
                    POST + b"Content-Length: %d\r\n\r\n%b" % (size, body),
                    POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, body),
                ):
                    self.assert_same(settings, data + LAST)
                    self.assert_same(settings, data[:100], data[100:], LAST)

    def test_the_answers_that_differ(self) -> None:
        for name, _, found in ARGUED:
            with self.subTest(name):
                data = b"GET /a?%s HTTP/1.1\r\n\r\n" % name.encode() + LAST
                theirs, ours = (conversation(server.port, (data,)) for server in self.servers["gunicorn's own"])
                self.assertNotEqual(theirs, ours)
                self.assertRegex(ours, found)


def logs_more(server: GunicornServer, words: str, count: int) -> bool:
    """Whether the words stand in the server's log more than so many times."""
    return server.output().count(words) > count


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def halves(draw: random.Random, data: bytes) -> list[bytes]:
    at = draw.randint(0, len(data))
    return [data[:at], data[at:]]


def conversation(port: int, pieces: tuple[bytes, ...]) -> bytes:
    """Send all, then end; returns the bytes that come, without the dates."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.extend(read_all(connection)))
        reader.start()
        with contextlib.suppress(OSError):  # the server has refused it, and reads no more
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        reader.join(40)
    return re.sub(rb"\r\nDate: [^\r]*", b"", b"".join(received))


def read_all(connection: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            yield piece


if __name__ == "__main__":
    unittest.main()
