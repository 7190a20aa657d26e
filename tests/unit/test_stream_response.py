"""The response around a stream: what an app does with it, whether or not it was made in full before."""

from __future__ import annotations

import copy
import unittest
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from sse_threaded.protocol.stream_response import STREAM_HEADERS, StreamResponse


class Answer(NamedTuple):
    """What a server gets: the iterable, and the arguments of ``start_response``."""

    iterable: Any
    status: str
    headers: list[tuple[str, str]]


def call(response: Response, method: str = "GET") -> Answer:
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    environ = EnvironBuilder("/", method=method).get_environ()
    iterable = response(environ, lambda *arguments: begun.append(arguments) or mock.Mock())  # type: ignore[arg-type,func-returns-value]
    ((status, headers),) = begun
    return Answer(iterable, status, headers)


class AppResponse(Response):
    """The class of an app's responses, as Flask has one."""

    default_mimetype = "text/html"


class StreamResponseTest(unittest.TestCase):
    def setUp(self) -> None:
        self.body = iter([b"data: x\n\n"])
        self.response = StreamResponse(self.body)

    def test_as_it_is_it_has_only_its_body_and_the_server_gets_that(self) -> None:
        self.assertEqual(call(self.response), (self.body, "200 OK", list(STREAM_HEADERS)))
        self.assertEqual(vars(self.response), {"response": self.body})

    def test_as_it_is_it_answers_as_werkzeugs_does(self) -> None:
        whole = Response(self.body, headers=STREAM_HEADERS, direct_passthrough=True)
        for method in ("GET", "HEAD", "POST"):
            answer, expected = call(self.response, method), call(whole, method)
            self.assertEqual(answer[1:], expected[1:])
            if method == "HEAD":
                self.assertEqual((list(answer.iterable), list(expected.iterable)), ([], []))
            else:
                self.assertIs(answer.iterable, expected.iterable)

    def test_each_answer_has_a_list_of_its_own(self) -> None:
        call(self.response).headers.append(("X-Middleware", "1"))
        self.assertEqual(call(self.response).headers, list(STREAM_HEADERS))
        self.assertEqual(call(StreamResponse(self.body)).headers, list(STREAM_HEADERS))

    def test_a_change_takes_effect(self) -> None:
        def after_headers(response: StreamResponse) -> None:
            response.headers.get("Vary")
            response.status = "503 Later"

        changes: dict[str, tuple[Callable[[StreamResponse], Any], str, tuple[str, str] | None]] = {
            "a header": (lambda response: response.headers.set("X-Name", "a"), "200 OK", ("X-Name", "a")),
            "an added value": (lambda response: response.vary.add("Cookie"), "200 OK", ("Vary", "Accept, Cookie")),
            "a cookie": (lambda response: response.set_cookie("a", "b"), "200 OK", ("Set-Cookie", "a=b; Path=/")),
            "a status": (lambda response: setattr(response, "status", "418 Tea"), "418 Tea", None),
            "a code": (lambda response: setattr(response, "status_code", 404), "404 NOT FOUND", None),
            "after a look": (after_headers, "503 Later", None),
            "a new type": (
                lambda response: setattr(response, "mimetype", "text/plain"),
                "200 OK",
                ("Content-Type", "text/plain; charset=utf-8"),
            ),
        }
        for name, (change, status, header) in changes.items():
            with self.subTest(name):
                response = StreamResponse(self.body)
                change(response)
                answer = call(response)
                self.assertIs(answer.iterable, self.body)
                self.assertEqual(answer.status, status)
                if header is not None:
                    self.assertIn(header, answer.headers)
                self.assertIn(("X-Accel-Buffering", "no"), answer.headers)

    def test_a_removed_header_is_gone(self) -> None:
        del self.response.headers["Vary"]
        self.assertEqual(call(self.response).headers, list(STREAM_HEADERS[:-1]))

    def test_a_body_that_replaces_it_is_sent(self) -> None:
        wrapper = (chunk.upper() for chunk in self.body)
        self.response.response = wrapper
        self.assertEqual(call(self.response), (wrapper, "200 OK", list(STREAM_HEADERS)))

    def test_with_another_class_it_keeps_everything(self) -> None:
        for changes in (False, True):
            response = StreamResponse(self.body)
            if changes:
                response.headers["X-Name"] = "a"
                response.status_code = 404
            forced = AppResponse.force_type(response)
            self.assertIs(type(forced), AppResponse)
            self.assertIs(forced.direct_passthrough, True)
            expected = [*STREAM_HEADERS, ("X-Name", "a")] if changes else list(STREAM_HEADERS)
            self.assertEqual(call(forced), (self.body, "404 NOT FOUND" if changes else "200 OK", expected))

    def test_its_attributes_are_those_of_werkzeugs(self) -> None:
        whole = Response(self.body, headers=STREAM_HEADERS, direct_passthrough=True)
        for name in sorted(set(dir(whole)) - {"data", "json", "stream"}):  # these read the body
            if not name.startswith("__"):
                with self.subTest(name):
                    response = StreamResponse(self.body)
                    found, expected = getattr(response, name), getattr(whole, name)
                    if not callable(expected):
                        self.assertEqual(str(found), str(expected))
        self.assertEqual(vars(response).keys(), vars(whole).keys())
        self.assertFalse(hasattr(StreamResponse(self.body), "unknown"))
        with self.assertRaisesRegex(AttributeError, "'StreamResponse' object has no attribute 'unknown'"):
            _ = self.response.unknown

    def test_what_werkzeug_keeps_by_itself_does_not_make_it_whole(self) -> None:
        self.assertIs(self.response.stream.response, self.response)
        self.assertEqual(call(self.response), (self.body, "200 OK", list(STREAM_HEADERS)))

    def test_functions_to_be_called_on_close_are_called(self) -> None:
        closed = mock.Mock()
        self.response.call_on_close(closed)
        call(self.response)
        self.response.close()
        closed.assert_called_once_with()

    def test_as_a_context_it_closes_its_body(self) -> None:
        body = mock.MagicMock()
        with StreamResponse(body) as response:
            self.assertIn("streamed [200 OK]", repr(response))
        body.close.assert_called_once_with()

    def test_a_copy_is_one_too(self) -> None:
        self.assertEqual(call(copy.copy(self.response)), (self.body, "200 OK", list(STREAM_HEADERS)))
        self.response.headers["X-Name"] = "a"
        self.assertIn(("X-Name", "a"), call(copy.copy(self.response)).headers)


if __name__ == "__main__":
    unittest.main()
