"""Chunked bodies as an app reads them: what it gets, and how a malformed one fails."""

from __future__ import annotations

import io
import socket
import types
import unittest
from typing import Any
from unittest import mock

from gunicorn.config import Config
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.errors import InvalidChunkSize, ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import IterUnreader

from sse_threaded.server.request_body import ChunkedBody, MalformedBody, checked, chunked_body
from sse_threaded.server.thread_worker import ThreadWorker

CHUNKED = b"Transfer-Encoding: chunked\r\n"
LINES = b"4\r\none\n\r\n7\r\ntwo\nthr\r\n2\r\nee\r\n0\r\n\r\n"


def body_of(wire: bytes) -> Any:
    """gunicorn's body of a request that comes in chunks."""
    request = types.SimpleNamespace(trailers=[], limit_request_fields=100, limit_request_field_size=8190)
    return Body(ChunkedReader(request, IterUnreader([wire])))


class ReadTest(unittest.TestCase):
    def test_it_is_read_as_pep_3333_says(self) -> None:
        for read, expected in (
            (lambda body: body.read(), b"one\ntwo\nthree"),
            (
                lambda body: [body.read(5), body.read(5), body.read(5), body.read(5)],
                [b"one\nt", b"wo\nth", b"ree", b""],
            ),
            (lambda body: [body.readline(), body.readline(2), body.readline()], [b"one\n", b"tw", b"o\n"]),
            (lambda body: body.readlines(), [b"one\n", b"two\n", b"three"]),
            (list, [b"one\n", b"two\n", b"three"]),
        ):
            with self.subTest(expected=expected):
                self.assertEqual(read(ChunkedBody(body_of(LINES))), expected)

    def test_a_malformed_one_fails_and_names_the_fault(self) -> None:
        for read in (
            lambda body: body.read(),
            lambda body: body.read(100),
            lambda body: body.readline(),
            lambda body: body.readlines(),
            list,
        ):
            with self.assertRaises(MalformedBody) as caught:
                read(ChunkedBody(body_of(b"3\r\nabc\r\nzz\r\n")))
            self.assertIsInstance(caught.exception.fault, InvalidChunkSize)


class ChunkedBodyTest(unittest.TestCase):
    def test_a_whole_one_is_read_at_once_and_can_still_be_read(self) -> None:
        body = body_of(LINES)
        chunked = chunked_body(body, True)
        body.reader.unreader = None  # nothing is left to read
        self.assertEqual(chunked.readline(), b"one\n")
        self.assertEqual(chunked.read(), b"two\nthree")

    def test_a_whole_one_that_is_malformed_is_refused_before_the_app_is_called(self) -> None:
        self.assertRaises(ParseException, chunked_body, body_of(b"zz\r\n"), True)
        self.assertRaises(MalformedBody, chunked_body(body_of(b"zz\r\n"), False).read)


class WorkerTest(unittest.TestCase):
    """A request that the worker gives to the app."""

    def setUp(self) -> None:
        sock, client = socket.socketpair()
        self.addCleanup(sock.close)
        self.addCleanup(client.close)
        self.conn = mock.Mock(sock=sock, client=("127.0.0.1", 1), server=("127.0.0.1", 80))
        self.inputs: list[Any] = []  # of the app's calls
        self.bodies: list[bytes] = []  # those that it has read

    def app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.inputs.append(environ["wsgi.input"])
        if environ["wsgi.input"] is not None:
            self.bodies.append(environ["wsgi.input"].read())
        start_response("204 No Content", [])
        return []

    def request(self, head: bytes, body: bytes) -> Any:
        wire = b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n" + body
        return next(RequestParser(Config(), iter([wire]), ("127.0.0.1", 1)))

    def handle(self, request: Any, *, is_whole: bool) -> None:
        self.conn.is_whole = is_whole
        worker = mock.Mock(cfg=Config(), wsgi=self.app)
        ThreadWorker.handle_request(worker, request, self.conn)

    def test_a_body_in_chunks_is_one_that_names_its_faults(self) -> None:
        for is_whole in (False, True):
            self.handle(self.request(CHUNKED, LINES), is_whole=is_whole)
            self.assertIsInstance(self.inputs[-1], ChunkedBody)
            self.assertEqual(self.bodies.pop(), b"one\ntwo\nthree")

    def test_any_other_is_gunicorns_and_nothing_is_read_of_it(self) -> None:
        for is_whole in (False, True):
            request = self.request(b"Content-Length: 3\r\n", b"abc")
            with mock.patch.object(Body, "read", autospec=True, side_effect=Body.read) as read:
                self.handle(request, is_whole=is_whole)
            self.assertIs(self.inputs[-1], request.body)
            self.assertEqual((self.bodies.pop(), read.call_count), (b"abc", 1))
            request = self.request(b"", b"")
            request.body = None
            self.handle(request, is_whole=is_whole)
            self.assertIsNone(self.inputs[-1])

    def test_a_malformed_one_is_refused_before_the_app_is_called_if_it_is_whole(self) -> None:
        for is_whole, calls in ((True, 0), (False, 1)):
            self.inputs.clear()
            request = self.request(CHUNKED, b"zz\r\n")
            self.assertRaises(InvalidChunkSize, self.handle, request, is_whole=is_whole)
            self.assertEqual(len(self.inputs), calls)


class CheckedTest(unittest.TestCase):
    def test_an_app_without_a_chunked_body_is_called_as_it_is(self) -> None:
        app, body = mock.Mock(return_value=[b"x"]), io.BytesIO()
        environ = {"wsgi.input": body}
        self.assertEqual(checked(app)(environ, "start"), [b"x"])
        app.assert_called_once_with(environ, "start")
        self.assertIs(environ["wsgi.input"], body)

    def test_the_fault_of_a_body_that_the_app_reads_is_gunicorns(self) -> None:
        def app(environ: Any, start_response: Any) -> Any:
            return [environ["wsgi.input"].read()]

        environ = {"wsgi.input": body_of(LINES), "HTTP_TRANSFER_ENCODING": "chunked"}
        self.assertEqual(checked(app)(environ, None), [b"one\ntwo\nthree"])
        environ["wsgi.input"] = body_of(b"zz\r\n")
        self.assertRaises(InvalidChunkSize, checked(app), environ, None)


if __name__ == "__main__":
    unittest.main()
