"""Chunked bodies as an app reads them: what it gets, and how a malformed one fails."""

from __future__ import annotations

import io
import types
import unittest
from typing import Any
from unittest import mock

from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.errors import InvalidChunkSize, ParseException
from gunicorn.http.unreader import IterUnreader

from sse_threaded.server.request_body import ChunkedBody, MalformedBody, checked, chunked_body

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
    def request(self, body: Any) -> Any:
        return types.SimpleNamespace(body=body)

    def test_of_other_requests_it_is_none(self) -> None:
        length = Body(LengthReader(IterUnreader([b"abc"]), 3))
        for body in (None, length):
            for is_whole in (False, True):
                self.assertIsNone(chunked_body(self.request(body), is_whole))
        self.assertEqual(length.read(), b"abc")

    def test_a_whole_one_is_read_at_once_and_can_still_be_read(self) -> None:
        body = body_of(LINES)
        chunked = chunked_body(self.request(body), True)
        assert chunked is not None
        body.reader.unreader = None  # nothing is left to read
        self.assertEqual(chunked.readline(), b"one\n")
        self.assertEqual(chunked.read(), b"two\nthree")

    def test_a_whole_one_that_is_malformed_is_refused_before_the_app_is_called(self) -> None:
        self.assertRaises(ParseException, chunked_body, self.request(body_of(b"zz\r\n")), True)
        chunked = chunked_body(self.request(body_of(b"zz\r\n")), False)
        assert chunked is not None
        self.assertRaises(MalformedBody, chunked.read)


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
