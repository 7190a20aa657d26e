"""The differences between gunicorn's releases: with each the package behaves the same."""

from __future__ import annotations

import configparser
import io
import os
import re
import tempfile
import types
import unittest
from typing import Any
from unittest import mock

import gunicorn
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.errors import InvalidChunkSize, InvalidHeader, ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import IterUnreader
from gunicorn.workers.base import Worker

from sse_threaded.server import versions
from sse_threaded.server.paced_unreader import PacedUnreader
from sse_threaded.server.request_body import ChunkedBody, MalformedBody
from sse_threaded.server.response import Response
from tests.support import CHECKOUT

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def parse(data: bytes, **settings: Any) -> Any:
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    return next(RequestParser(cfg, iter([data]), ("127.0.0.1", 1)))


class Socket:
    """A client's socket that has sent some pieces, and sends no more."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.sent = b""

    def recv(self, size: int) -> bytes:
        return self.pieces.pop(0)

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        self.sent += os.pread(file.fileno(), count or 0, offset)
        return count or 0

    def gettimeout(self) -> None:
        return None

    def settimeout(self, seconds: float | None) -> None:
        pass


class ReleaseTest(unittest.TestCase):
    def test_it_is_one_that_setup_cfg_allows(self) -> None:
        settings = configparser.ConfigParser()
        settings.read(CHECKOUT / "setup.cfg")
        required = settings["options"]["install_requires"]
        bounds = re.search(r"^gunicorn>=([0-9]+),<([0-9]+)$", required, re.MULTILINE)
        assert bounds is not None
        self.assertIn(gunicorn.version_info[0], range(int(bounds[1]), int(bounds[2])))


class FaultTest(unittest.TestCase):
    def test_gunicorn_answers_each_fault_of_a_chunked_body_with_400(self) -> None:
        worker: Any = types.SimpleNamespace(cfg=Config(), log=mock.Mock())
        for fault in (InvalidChunkSize(b"zz"), InvalidHeader("x")):
            with self.subTest(fault):
                self.assertIsInstance(fault, versions.MALFORMED)
                answer = versions.answered(fault)
                self.assertIsInstance(answer, ParseException)
                self.assertEqual(str(answer), str(fault))
                sock = mock.Mock()
                with mock.patch("gunicorn.util.write_error") as write_error:
                    Worker.handle_error(worker, None, sock, ("127.0.0.1", 1), answer)
                self.assertEqual(write_error.call_args.args[:2], (sock, 400))

    def test_a_body_that_failed_closes_the_connection(self) -> None:
        req = parse(GET)
        body = Body(ChunkedReader(req, IterUnreader([b"zz\r\n"])))
        self.assertFalse(req.should_close())
        self.assertRaises(MalformedBody, ChunkedBody(body).read)
        self.assertTrue(req.should_close())

    def test_so_does_one_whose_rest_does_not_come(self) -> None:
        req = parse(GET)
        reader = mock.Mock(req=req)
        reader.read.side_effect = ConnectionResetError
        self.assertRaises(ConnectionResetError, ChunkedBody(Body(reader)).read, 10)
        self.assertTrue(req.should_close())

    def test_a_body_that_cannot_close_a_connection_is_left_alone(self) -> None:
        versions.close_after(io.BytesIO())

    def test_a_whole_request_waits_for_nothing(self) -> None:
        unreader = PacedUnreader(Socket(b"more"))
        unreader.begin_next(is_whole=True)
        with mock.patch.object(versions, "REFUSES_AT_ONCE", False):
            self.assertRaises(versions.MalformedRequest, unreader.chunk)
        self.assertTrue(unreader.has_failed)
        unreader.begin_next()
        self.assertFalse(unreader.has_failed)
        self.assertEqual(unreader.chunk(), b"more")

    def test_a_bare_line_feed_is_refused_without_a_wait(self) -> None:
        parser = versions.new_parser(Config(), Socket(), ("127.0.0.1", 1))
        parser.unreader = PacedUnreader(Socket())  # of which recv() fails
        parser.unreader.begin_next(is_whole=True)
        parser.unreader.buf.write(b"GET / HTTP/1.1\nHost: x\n\n")
        self.assertRaises(ParseException, next, parser)


class ResponseTest(unittest.TestCase):
    def respond(self, method: str) -> bytes:
        sock = Socket()
        response = Response(parse(GET.replace(b"GET", method.encode())), sock, Config())
        response.start_response("200 OK", [("Content-Length", "5")])
        with tempfile.TemporaryFile() as file:
            file.write(b"hello")
            file.seek(0)
            response.write_file(wsgi.FileWrapper(file))
            response.close()
        return sock.sent

    def test_a_file_is_not_sent_to_head(self) -> None:
        self.assertTrue(self.respond("GET").endswith(b"\r\n\r\nhello"))
        self.assertTrue(self.respond("HEAD").endswith(b"\r\n\r\n"))

    def test_early_hints(self) -> None:
        sock = Socket()
        response = Response(parse(GET), sock, Config())
        self.assertEqual(versions.HAS_EARLY_HINTS, gunicorn.version_info >= (25,))
        versions.send_early_hints(response, [("Link", "</a.css>")])
        self.assertEqual(b" 103 " in sock.sent, versions.HAS_EARLY_HINTS)


class SettingTest(unittest.TestCase):
    def test_a_proxy_line(self) -> None:
        for value in (False, True):
            with self.subTest(value):
                cfg = Config()
                cfg.set("proxy_protocol", value)
                self.assertIs(versions.has_proxy_line(cfg), value)
        self.assertFalse(versions.has_proxy_line(Config()))

    def test_what_a_release_does_not_know_is_off(self) -> None:
        for known in (Config(), types.SimpleNamespace()):
            with self.subTest(known):
                self.assertFalse(versions.speaks_uwsgi(known))
                self.assertFalse(versions.wants_http2(known))
        self.assertTrue(versions.speaks_uwsgi(types.SimpleNamespace(protocol="uwsgi")))
        self.assertTrue(versions.wants_http2(types.SimpleNamespace(http_protocols=["h1", "h2"])))
        self.assertTrue(versions.wants_http2(types.SimpleNamespace(http2_cleartext="both")))

    def test_an_access_log(self) -> None:
        for name, value, expected in (
            ("loglevel", "info", False),
            ("accesslog", "-", True),
            ("logconfig_dict", {"version": 1}, True),
            ("syslog", True, True),
        ):
            with self.subTest(name), mock.patch.object(Logger, "setup"):
                cfg = Config()
                cfg.set(name, value)
                self.assertIs(versions.writes_access_log(Logger(cfg)), expected)
                self.assertIs(versions.writes_access_log(types.SimpleNamespace(cfg=cfg)), expected)


if __name__ == "__main__":
    unittest.main()
