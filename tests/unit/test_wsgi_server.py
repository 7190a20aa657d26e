"""What the WSGI environ and the call stack say of the server; tests/live has the real servers."""

from __future__ import annotations

import sys
import threading
import types
import unittest
from io import BytesIO
from typing import Any
from unittest import mock

from werkzeug.test import EnvironBuilder

from sse_threaded.wsgi_server import (
    Bridge,
    answers_one_at_a_time,
    caller_of,
    has_thread_for_each_request,
    is_from_test_client,
)

SOCKET = object()

# What servers put into the environ.
GUNICORN = {"SERVER_SOFTWARE": "gunicorn/27", "gunicorn.socket": SOCKET, "SERVER_PROTOCOL": "HTTP/1.1"}
GUNICORN_HTTP2 = GUNICORN | {"SERVER_PROTOCOL": "HTTP/2"}
GUNICORN_GEVENT = {"SERVER_SOFTWARE": "gevent/25 Python/3 gunicorn/27", "wsgi.multithread": False}
GEVENT = {"SERVER_SOFTWARE": "gevent/25 Python/3", "wsgi.multithread": False}
WERKZEUG = {"SERVER_SOFTWARE": "Werkzeug/3", "werkzeug.socket": SOCKET, "SERVER_PROTOCOL": "HTTP/1.1"}
DJANGO = {"SERVER_SOFTWARE": "WSGIServer/0.2", "wsgi.file_wrapper": object(), "wsgi.multithread": True}


class ThreadsTest(unittest.TestCase):
    def test_whether_a_stream_keeps_all_others_waiting(self) -> None:
        cases: tuple[tuple[dict[str, Any], bool], ...] = (
            ({}, False),
            ({"wsgi.multithread": False}, True),
            (GUNICORN, False),
            (GEVENT, False),
            (GUNICORN_GEVENT, True),
            (DJANGO, True),  # this thread is not one that its server starts
            (DJANGO | {"SERVER_SOFTWARE": "WSGIServer"}, True),  # under Python 3.15
        )
        for environ, expected in cases:
            with self.subTest(environ=environ):
                self.assertEqual(answers_one_at_a_time(environ), expected)

    def test_djangos_server_with_threads_is_known_by_their_name(self) -> None:
        found: list[bool] = []
        name = "Thread-1 (process_request_thread)"
        thread = threading.Thread(target=lambda: found.append(answers_one_at_a_time(DJANGO)), name=name)
        thread.start()
        thread.join()
        self.assertEqual(found, [False])

    def test_whether_a_stream_has_a_thread_of_its_own(self) -> None:
        for environ, expected in (
            ({}, False),
            (GUNICORN, False),
            (GUNICORN_GEVENT, False),
            (GEVENT, True),
            (WERKZEUG, True),
            (DJANGO, True),
            (DJANGO | {"SERVER_SOFTWARE": "WSGIServer"}, True),
        ):
            with self.subTest(environ=environ):
                self.assertEqual(has_thread_for_each_request(environ), expected)


class ConnectionTest(unittest.TestCase):
    def test_the_socket_of_a_request(self) -> None:
        for environ in (GUNICORN, WERKZEUG, {"gunicorn.sock": SOCKET, "SERVER_PROTOCOL": "HTTP/1.0"}):
            with self.subTest(environ=environ):
                self.assertIs(caller_of(environ).connection, SOCKET)
        for environ in ({}, GUNICORN_HTTP2, GUNICORN | {"gunicorn.socket": None}, GEVENT):
            with self.subTest(environ=environ):
                self.assertIsNone(caller_of(environ).connection)

    def test_of_a_socket_of_gevents_the_one_inside(self) -> None:
        gevents = types.SimpleNamespace(_sock=SOCKET)
        self.assertIs(caller_of(GUNICORN | {"gunicorn.socket": gevents}).connection, SOCKET)

    def test_in_http2_gunicorn_answers_nothing_else_on_the_connection(self) -> None:
        self.assertTrue(caller_of(GUNICORN_HTTP2).blocks_connection)
        for environ in (GUNICORN, WERKZEUG, {"SERVER_PROTOCOL": "HTTP/2"}, {}):
            with self.subTest(environ=environ):
                self.assertFalse(caller_of(environ).blocks_connection)


class TestClientTest(unittest.TestCase):
    def test_an_environ_that_no_server_made(self) -> None:
        falcon = {"SERVER_SOFTWARE": "gunicorn/0.17.0", "wsgi.input": BytesIO()}
        for environ in (EnvironBuilder().get_environ(), {}, falcon):
            with self.subTest(environ=environ):
                self.assertTrue(is_from_test_client(environ))
        bjoern = {"wsgi.input": BytesIO(), "wsgi.file_wrapper": object()}
        for environ in (GUNICORN | {"wsgi.input": object()}, DJANGO, bjoern):
            with self.subTest(environ=environ):
                self.assertFalse(is_from_test_client(environ))


BRIDGES = (
    ("tornado.wsgi", False),
    ("asgiref.wsgi", False),
    ("a2wsgi.wsgi", True),
    ("starlette.middleware.wsgi", True),
)


class BridgeTest(unittest.TestCase):
    def call_from(self, name: str) -> Bridge | None:
        """Ask in a function of a module of this name, which is loaded meanwhile."""
        module = types.ModuleType(name)
        exec("def call(app):\n    return app()", module.__dict__)
        with mock.patch.dict(sys.modules, {name: module}):
            found: Bridge | None = module.call(lambda: caller_of({}).bridge)
        return found

    def test_it_is_known_by_the_module_that_calls(self) -> None:
        for name, can_stream in BRIDGES:
            with self.subTest(name=name):
                bridge = self.call_from(name)
                assert bridge is not None
                self.assertEqual(bridge.can_stream, can_stream)

    def test_another_caller_is_none(self) -> None:
        self.assertIsNone(self.call_from("an.apps.module"))
        with mock.patch.dict(sys.modules, {"tornado.wsgi": types.ModuleType("tornado.wsgi")}):
            self.assertIsNone(caller_of({}).bridge, "loaded, but not on the stack")

    def test_while_none_is_loaded_the_stack_is_not_searched(self) -> None:
        module = types.ModuleType("a2wsgi.wsgi")  # it is not loaded
        exec("def call(app):\n    return app()", module.__dict__)
        with mock.patch.dict(sys.modules):
            for name, _ in BRIDGES:
                sys.modules.pop(name, None)
            self.assertIsNone(module.call(lambda: caller_of({}).bridge))


if __name__ == "__main__":
    unittest.main()
