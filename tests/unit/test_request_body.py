"""Chunked bodies as an app reads them: what it gets, and how a malformed one fails."""

from __future__ import annotations

import io
import types
import unittest
from typing import Any
from unittest import mock

from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.errors import InvalidChunkSize, ParseException
from gunicorn.http.unreader import IterUnreader

from sse_threaded.server.request_body import ChunkedBody, MalformedBody, RequestTooSlow, checked, chunked_body

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
            self.assertIsInstance(caught.exception.fault, ParseException)
            self.assertIn("Invalid chunk size", str(caught.exception.fault))


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


class FaultTest(unittest.TestCase):
    def test_a_fault_is_an_answer_and_an_error_of_input(self) -> None:
        malformed = "The request's body is malformed: it does not follow the chunked transfer coding."
        for fault, code, words in (
            (MalformedBody(InvalidChunkSize(b"zz")), 400, malformed),
            (RequestTooSlow(), 408, "The request did not arrive in time."),
        ):
            with self.subTest(code):
                self.assertIsInstance(fault, OSError)
                self.assertEqual(fault.get_response().status_code, code)
                self.assertEqual(fault.description, words)
                self.assertIn(str(code), str(fault))
                self.assertIn(words, str(fault))


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
        self.assertRaisesRegex(ParseException, "Invalid chunk size", checked(app), environ, None)


if __name__ == "__main__":
    unittest.main()
