"""What a thread does for one request, on the test's thread: reading, the app, the response, the next request."""

from __future__ import annotations

import contextvars
import errno
import itertools
import os
import socket
import ssl
import threading
import unittest
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from gunicorn.config import Config
from gunicorn.http.body import Body
from gunicorn.http.errors import InvalidChunkSize, InvalidRequestLine

from sse_threaded import Hub
from sse_threaded.server import answering, deadlines, versions
from sse_threaded.server.answering import Answering
from sse_threaded.server.connection import ClientTooSlow, Connection
from sse_threaded.server.request_body import ChunkedBody, MalformedBody, RequestTooSlow
from tests.unit.fake_worker import FakeWorker

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"4\r\none\n\r\n7\r\ntwo\nthr\r\n2\r\nee\r\n0\r\n\r\n"

# The server leaves a request with two fields of one name to gunicorn's parser.
NOT_PLAIN = GET[:-2] + b"X-Y: 1\r\nX-Y: 2\r\n\r\n"

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="")


class AnsweringCase(unittest.TestCase):
    def setUp(self) -> None:
        self.environ: dict[str, Any] = {}
        self.body: Any = [b"hello"]
        self.headers: list[tuple[str, str]] = [("Content-Length", "5")]
        self.make()

    def make(self, *, reads: bool = True, **settings: Any) -> None:
        self.worker = FakeWorker(**settings)
        self.worker.wsgi = self.app
        self.loop = mock.Mock(reads=reads)
        self.answering = Answering(self.worker, self.loop)
        self.loop.reset_mock()

    def app(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.environ = environ
        start_response("200 OK", self.headers)
        return self.body

    def connect(self, **options: Any) -> tuple[Connection, socket.socket]:
        client, sock = socket.socketpair()
        for each in (client, sock):
            self.addCleanup(each.close)
        client.settimeout(10)
        conn = Connection(sock, ("192.0.2.1", 1234), ("127.0.0.1", 80))
        for name, value in options.items():
            setattr(conn, name, value)
        return conn, client

    def ask(self, request: bytes = GET, *, is_whole: bool = True, **options: Any) -> bytes:
        """The bytes that the client gets; the connection is ``self.conn``."""
        self.conn, self.client = self.connect(received=request, is_whole=is_whole, **options)
        self.answering.serve(self.conn)
        return self.answer()

    def answer(self) -> bytes:
        self.client.setblocking(False)
        try:
            return self.client.recv(65536)
        except BlockingIOError:
            return b""
        finally:
            self.client.settimeout(10)

    def assert_then(self, then: str, *arguments: Any) -> None:
        """How the connection has left the thread."""
        self.assertEqual(self.loop.mock_calls, [getattr(mock.call, then)(self.conn, *arguments)])
        self.loop.reset_mock()


class RequestTest(AnsweringCase):
    def test_a_request_is_answered_and_the_connection_waits_for_the_next_one(self) -> None:
        for request in (GET, NOT_PLAIN):
            answer = self.ask(request)
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"))
            self.assertIn(b"\r\nConnection: keep-alive\r\n", answer)
            self.assertTrue(answer.endswith(b"\r\n\r\nhello"), answer)
            self.assert_then("keep")
        self.assertEqual((self.worker.counted, self.worker.hook.call_count), ([False] * 2, 2))
        self.assertEqual(self.worker.log.access.call_count, 2)

    def test_both_ways_to_read_one_give_the_same_environ(self) -> None:
        for client, server, field in itertools.product(
            (("192.0.2.1", 1234), ("127.0.0.1", 1234), "", b"peer"),
            (("127.0.0.1", 80), "/run/app.sock", "app:81"),
            (b"Host: x\r\n", b"Host: y:82\r\n", b"X: y\r\n", b"Host: x\r\nX-Forwarded-Proto: https\r\n"),
        ):
            environs = []
            for other in (b"X-Z: 1\r\n\r\n", b"X-Y: 1\r\nX-Y: 2\r\n\r\n"):
                with self.subTest(client=client, server=server, field=field, other=other):
                    self.ask(b"GET /a%20b?c HTTP/1.1\r\n" + field + other, client=client, server=server)
                    self.assertEqual(self.worker.errors, [])
                    # Objects are of each request.
                    names = {name for name, value in self.environ.items() if isinstance(value, (str, int, tuple))}
                    environs.append({name: self.environ[name] for name in names - {"HTTP_X_Y", "HTTP_X_Z"}})
            self.assertEqual(*environs)
            self.assertIs(environs[0]["wsgi.multithread"], True)
            self.assertIs(self.environ["gunicorn.socket"], self.conn.sock)

    def test_the_connection_is_closed_if_the_client_or_the_worker_wants_that(self) -> None:
        self.assertIn(b"\r\nConnection: close\r\n", self.ask(GET[:-2] + b"Connection: close\r\n\r\n"))
        self.assert_then("linger")
        with mock.patch.object(self.worker, "count_request", lambda resp, is_stream: resp.force_close()):
            self.assertIn(b"\r\nConnection: close\r\n", self.ask())
        self.assert_then("linger")

    def test_several_requests_of_one_connection(self) -> None:
        paths = []
        for number, request in enumerate((GET, NOT_PLAIN, GET, NOT_PLAIN), 1):
            if number == 1:
                self.ask(request)
            else:
                self.conn.received, self.conn.is_whole = request, True
                self.answering.serve(self.conn)
                self.assertTrue(self.answer().endswith(b"hello"))
            self.assertEqual((self.conn.requests, self.conn.received), (number, b""))
            self.assert_then("keep")
            paths.append(self.environ["RAW_URI"])
        self.assertEqual(paths, ["/a?b=c"] * 4)

    def test_bytes_behind_the_request_are_the_next_one(self) -> None:
        for more in (GET, b"GET / HT"):
            self.ask(GET + more)
            self.assert_then("add", more)
        self.ask(POST + b"Content-Length: 3\r\n\r\nabc" + GET)
        self.assert_then("add", GET)

    def test_a_request_that_is_not_one(self) -> None:
        self.ask(b"nothing\r\n\r\n")
        ((req, error),) = self.worker.errors
        self.assertIsNone(req)
        self.assertIsInstance(error, InvalidRequestLine)
        self.assert_then("linger")

    def test_a_client_that_leaves_in_the_midst_of_its_request(self) -> None:
        conn, client = self.connect(received=b"GET / HT")
        client.close()
        self.conn = conn
        self.answering.serve(conn)
        self.assert_then("linger")
        self.assertEqual(self.worker.errors, [])
        self.worker.log.exception.assert_not_called()

    def test_the_first_hook_may_change_the_request(self) -> None:
        def begin(worker: Any, req: Any) -> None:
            req.path = "/other"

        self.make(pre_request=begin)
        self.ask()
        self.assertEqual(self.environ["PATH_INFO"], "/other")

    def test_early_hints_come_before_the_response(self) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> Any:
            if versions.HAS_EARLY_HINTS:
                environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
            return self.app(environ, start_response)

        self.worker.wsgi = app
        self.assertEqual(self.ask().startswith(b"HTTP/1.1 103 "), versions.HAS_EARLY_HINTS)

    def test_variables_of_a_request_stay_with_it(self) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> Any:
            self.assertEqual(VARIABLE.get(), "")
            VARIABLE.set("of the request")
            return self.app(environ, start_response)

        self.worker.wsgi = app
        for _ in range(2):
            self.assertTrue(self.ask().endswith(b"hello"))
        self.assertEqual((VARIABLE.get(), self.conn.context[VARIABLE]), ("", "of the request"))

    def test_the_access_line_comes_before_close_and_the_last_hook_after_it(self) -> None:
        calls = mock.Mock()
        self.worker.log.access, self.worker.hook = calls.access, calls.hook
        self.body = mock.MagicMock(close=calls.close)
        self.body.__iter__.return_value = iter([b"hello"])
        self.ask()
        self.assertEqual([call[0] for call in calls.mock_calls], ["access", "close", "hook"])


class BodyTest(AnsweringCase):
    def setUp(self) -> None:
        super().setUp()
        self.inputs: list[Any] = []  # of the app's calls
        self.bodies: list[bytes] = []  # those that it has read
        self.worker.wsgi = self.reading_app

    def reading_app(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.inputs.append(environ["wsgi.input"])
        self.bodies.append(environ["wsgi.input"].read())
        return self.app(environ, start_response)

    def test_a_body_in_chunks_is_one_that_names_its_faults(self) -> None:
        for is_whole in (False, True):
            self.ask(CHUNKED + CHUNKS, is_whole=is_whole)
            self.assertIsInstance(self.inputs[-1], ChunkedBody)
            self.assertEqual(self.bodies.pop(), b"one\ntwo\nthree")
            self.assert_then("keep")

    def test_any_other_is_gunicorns(self) -> None:
        for is_whole in (False, True):
            self.ask(POST + b"Content-Length: 3\r\n\r\nabc", is_whole=is_whole)
            self.assertIsInstance(self.inputs[-1], Body)
            self.assertEqual(self.bodies.pop(), b"abc")
            self.assert_then("keep")

    def test_a_malformed_one_is_refused_before_the_app_is_called_if_it_is_whole(self) -> None:
        for is_whole, calls in ((True, 0), (False, 1)):
            self.inputs.clear()
            self.ask(CHUNKED + b"zz\r\n", is_whole=is_whole)
            self.assertIn("Invalid chunk size", str(self.worker.errors.pop()[1]))
            self.assertEqual(len(self.inputs), calls)
            self.assert_then("linger")

    def test_one_that_does_not_come_in_time(self) -> None:
        with mock.patch.object(deadlines, "BODY_SECONDS", 0.01):
            answer = self.ask(POST + b"Content-Length: 1000\r\n\r\nabc", is_whole=False)
        self.assertTrue(answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n"))
        self.assertIsNone(self.conn.sock.gettimeout())
        self.assert_then("linger")

    def test_another_upload_may_begin_when_this_one_has_come(self) -> None:
        for missing, during in ((3, 1), (4, 0), (None, 0)):
            ended = mock.Mock()
            calls = []

            def app(
                environ: dict[str, Any],
                start_response: Any,
                ended: mock.Mock = ended,
                calls: list[int] = calls,
            ) -> Any:
                calls.append(ended.call_count)
                environ["wsgi.input"].read()
                calls.append(ended.call_count)
                return self.app(environ, start_response)

            self.worker.wsgi = app
            self.conn, self.client = self.connect(
                received=POST + b"Content-Length: 5\r\n\r\nab", missing=missing, upload_ended=ended
            )
            self.client.sendall(b"cde")
            self.answering.serve(self.conn)
            self.assertEqual((calls, ended.call_count), ([0, during], 1))

    def test_another_upload_may_begin_whatever_becomes_of_this_one(self) -> None:
        for app in (self.app, mock.Mock(side_effect=ZeroDivisionError), mock.Mock(side_effect=SystemExit)):
            self.worker.wsgi = app
            ended = mock.Mock()
            self.ask(upload_ended=ended)
            ended.assert_called_once_with()


class DrainTest(AnsweringCase):
    """Bodies that the app does not read."""

    def ask_with(self, rest: bytes, head: bytes) -> None:
        self.conn, self.client = self.connect(received=head)
        self.client.sendall(rest)
        self.answering.serve(self.conn)
        self.head, _, body = self.answer().partition(b"\r\n\r\n")
        self.assertTrue(body.endswith(b"hello"))
        self.assertIsNone(self.conn.sock.gettimeout())

    def test_one_that_comes_is_read(self) -> None:
        self.ask_with(b"x" * 100 + GET, POST + b"Content-Length: 101\r\n\r\nx")
        self.assert_then("add", GET)
        self.ask_with(CHUNKS[5:], CHUNKED + CHUNKS[:5])
        self.assert_then("keep")

    def test_one_that_is_long_is_not(self) -> None:
        for size, then, says in ((65_536, "keep", b"keep-alive"), (65_537, "linger", b"close")):
            self.ask_with(b"x" * size, POST + b"Content-Length: %d\r\n\r\n" % size)
            self.assert_then(then)
            self.assertIn(b"\r\nConnection: " + says, self.head)

    def test_one_that_is_malformed_or_cut_gets_no_second_answer(self) -> None:
        self.ask_with(b"zz\r\n", CHUNKED)
        self.assert_then("linger")
        self.conn, self.client = self.connect(received=CHUNKED)
        self.client.shutdown(socket.SHUT_WR)
        self.answering.serve(self.conn)
        self.assertTrue(self.answer().endswith(b"hello"))
        self.assert_then("linger")
        self.assertEqual(self.worker.errors, [])

    def test_one_that_does_not_come_is_awaited_for_a_bounded_time(self) -> None:
        with mock.patch.object(deadlines, "DRAIN_SECONDS", 0.01):
            self.ask_with(b"x", POST + b"Content-Length: 100\r\n\r\n")
        self.assert_then("linger")

    def test_one_that_trickles_is_not_awaited_for_longer(self) -> None:
        times = itertools.chain((100.0, 100.0, 104.9), itertools.repeat(105.0))
        with mock.patch.object(answering, "time", mock.Mock(monotonic=lambda: next(times))):
            self.ask_with(b"x" * 5000, POST + b"Content-Length: 10000\r\n\r\n")
        self.assert_then("linger")


class FailureTest(AnsweringCase):
    def fail_with(self, error: BaseException | type[BaseException]) -> Iterator[bytes]:
        yield b"he"
        raise error

    def test_an_apps_failure_has_an_error_page_before_the_head_only(self) -> None:
        self.worker.wsgi = mock.Mock(side_effect=ZeroDivisionError)
        self.ask()
        self.assertEqual([type(error) for _, error in self.worker.errors], [ZeroDivisionError])
        self.worker.log.exception.assert_not_called()
        self.assert_then("linger")
        self.worker.wsgi = self.app
        for error in (ZeroDivisionError, SystemExit):
            self.body = self.fail_with(error)
            self.assertTrue(self.ask().endswith(b"he"))
            self.assert_then("linger")
        self.assertEqual((len(self.worker.errors), self.worker.failures), (1, []))
        self.assertEqual(self.worker.log.exception.call_count, 2)
        self.assertEqual((self.worker.hook.call_count, self.worker.counted), (3, [False] * 3))

    def test_an_exit_in_a_view_ends_the_worker(self) -> None:
        self.worker.wsgi = mock.Mock(side_effect=SystemExit(3))
        self.ask()
        self.assertEqual([type(error) for error in self.worker.failures], [SystemExit])
        self.assertEqual(self.worker.hook.call_count, 1)
        self.assert_then("linger")
        self.worker.wsgi = self.app
        self.body = self.fail_with(KeyboardInterrupt)
        self.ask()
        self.assertEqual(len(self.worker.failures), 2)
        self.assert_then("linger")

    def test_an_exit_in_the_last_hook_ends_the_worker(self) -> None:
        self.worker.hook.side_effect = SystemExit
        self.ask()
        self.assertEqual(len(self.worker.failures), 1)
        self.assert_then("linger")

    def test_a_client_that_has_gone_is_no_error_and_others_are(self) -> None:
        for error, is_told in (
            (BrokenPipeError(errno.EPIPE, ""), False),
            (ConnectionResetError(errno.ECONNRESET, ""), False),
            (ClientTooSlow(), False),
            (ssl.SSLError(ssl.SSL_ERROR_EOF, ""), False),
            (TimeoutError("of a database"), True),
            (FileNotFoundError(errno.ENOENT, ""), True),
        ):
            with self.subTest(error=error):
                self.worker.wsgi = mock.Mock(side_effect=error)
                self.worker.log.reset_mock()
                self.ask()
                self.assertIs(self.worker.log.exception.called, is_told)
                self.assertEqual(self.worker.errors, [])
                self.assert_then("linger")

    def test_a_fault_of_the_client_that_the_app_lets_through(self) -> None:
        malformed, late = MalformedBody(versions.answered(InvalidChunkSize(b"zz"))), RequestTooSlow()
        self.worker.wsgi = mock.Mock(side_effect=malformed)
        self.ask()
        self.assertIs(self.worker.errors.pop()[1], malformed.fault)
        self.worker.wsgi = mock.Mock(side_effect=late)
        self.assertIn(b"HTTP/1.1 408 Request Timeout\r\n", self.ask())
        self.worker.wsgi = self.app
        for fault in (malformed, late):
            self.body = self.fail_with(fault)
            self.assertTrue(self.ask().endswith(b"he"))
        self.assertEqual(self.loop.mock_calls, [mock.call.linger(mock.ANY)] * 4)
        self.assertEqual(self.worker.errors, [])

    def test_one_that_came_too_late_and_has_gone(self) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> Any:
            environ["gunicorn.socket"].close()
            raise RequestTooSlow

        self.worker.wsgi = app
        self.assertEqual(self.ask(), b"")
        self.assert_then("linger")

    def test_a_socket_that_the_app_has_closed(self) -> None:
        def app(environ: dict[str, Any], start_response: Any) -> Any:
            environ["gunicorn.socket"].close()
            return self.app(environ, start_response)

        self.worker.wsgi = app
        for request in (GET, NOT_PLAIN):
            self.assertEqual(self.ask(request), b"")
            self.assertEqual(len(self.loop.mock_calls), 1)
            self.loop.reset_mock()
        self.assertEqual(self.worker.failures, [])


class StreamTest(AnsweringCase):
    def setUp(self) -> None:
        super().setUp()
        self.hub = Hub(heartbeat=600, max_streams=5)
        self.addCleanup(self.hub.close)
        self.worker.wsgi = lambda environ, start: self.hub.stream(environ, "a")(environ, start)

    def test_it_leaves_the_thread_and_counts_as_a_stream(self) -> None:
        ended = mock.Mock()
        self.assertIn(b"stream-start", self.ask(upload_ended=ended))
        self.assertEqual(self.loop.mock_calls, [])
        ended.assert_called_once_with()
        self.assertEqual((self.worker.streaming, self.worker.parked), ({self.conn}, {self.conn}))
        self.assertEqual(self.worker.counted, [True])
        self.worker.hook.assert_not_called()

    def test_the_connection_is_noted_before_the_pump_may_give_it_back(self) -> None:
        noted = []
        parks = mock.patch.object(self.worker, "park", lambda conn: noted.append(conn in self.worker.streaming))
        with parks:
            self.ask()
        self.assertEqual(noted, [True])


class TLSTest(AnsweringCase):
    """The handshake of each connection, by a cipher that needs no certificate."""

    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.object(Config, "is_ssl", True)
        patch.start()
        self.addCleanup(patch.stop)
        self.server, self.trusting = (
            ssl.SSLContext(protocol) for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
        )
        for context in (self.server, self.trusting):
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_ciphers("ADH:AECDH:@SECLEVEL=0")
        patch = mock.patch.object(answering.tls, "wrap", self.wrap)
        patch.start()
        self.addCleanup(patch.stop)
        self.make(reads=False, do_handshake_on_connect=False)

    def wrap(self, sock: socket.socket, cfg: Any) -> ssl.SSLSocket:
        wrapped = self.server.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.addCleanup(wrapped.close)
        return wrapped

    def serve_with(self, act: Callable[[], None]) -> None:
        """Serve the connection, while its client does something."""
        acting = threading.Thread(target=act, daemon=True)
        acting.start()
        self.answering.serve(self.conn)
        self.assertEqual(self.worker.errors, [])
        acting.join(10)
        self.assertFalse(acting.is_alive())

    def test_requests_are_answered_also_those_that_the_socket_has_read_ahead(self) -> None:
        self.conn, client = self.connect()
        received = []

        def act() -> None:
            self.client = self.trusting.wrap_socket(client)
            self.addCleanup(self.client.close)
            self.client.sendall(GET.ljust(9000, b"x"))
            received.append(self.client.recv(65536))

        agreed = []  # whether the handshake is over when that is said
        self.loop.end_handshake.side_effect = lambda conn: agreed.append(conn.sock.version() is not None)
        with mock.patch.object(
            answering.PacedUnreader, "chunk", lambda unreader, *_: unreader.sock.recv(len(GET))
        ):
            self.serve_with(act)
        self.assertTrue(received[0].endswith(b"hello"))
        self.assertEqual(agreed, [True])
        self.assertEqual(self.environ["wsgi.url_scheme"], "https")
        begin, end, add = self.loop.mock_calls
        self.assertEqual((begin, end), (mock.call.begin_handshake(self.conn), mock.call.end_handshake(self.conn)))
        self.assertEqual(add, mock.call.add(self.conn, b"x" * (9000 - len(GET))))
        self.loop.reset_mock()
        self.conn.received = GET
        self.answering.serve(self.conn)
        self.assert_then("keep")

    def test_one_that_does_not_speak_it(self) -> None:
        self.conn, client = self.connect()
        client.sendall(GET)
        self.answering.serve(self.conn)
        self.assertEqual([type(error) for _, error in self.worker.errors], [ssl.SSLError])
        expected = [getattr(mock.call, name)(self.conn) for name in ("begin_handshake", "end_handshake", "linger")]
        self.assertEqual(self.loop.mock_calls, expected)

    def test_one_that_leaves_during_the_handshake(self) -> None:
        self.conn, client = self.connect()
        client.close()
        self.answering.serve(self.conn)
        self.assertEqual(self.worker.errors, [])
        self.worker.log.exception.assert_not_called()
        self.assertEqual(self.loop.mock_calls[-1], mock.call.linger(self.conn))


class SettingsTest(AnsweringCase):
    def test_a_proxy_line_comes_with_the_first_request_only(self) -> None:
        self.make(proxy_protocol=True, proxy_allow_ips="*")
        request = b"PROXY TCP4 192.0.2.7 192.0.2.8 7 8\r\n" + GET
        self.ask(request)
        self.assertEqual(self.environ["REMOTE_ADDR"], "192.0.2.7")
        self.conn.received = request
        self.answering.serve(self.conn)
        self.assertEqual(len(self.worker.errors), 1)

    def test_the_address_of_a_proxy_line_holds_for_all_requests_of_the_connection(self) -> None:
        self.make(proxy_protocol=True, proxy_allow_ips="*")
        self.ask(b"PROXY TCP4 192.0.2.7 192.0.2.8 7 8\r\n" + GET)
        first = {name: value for name, value in self.environ.items() if "PROXY" in name or "REMOTE" in name}
        self.assertEqual(first["REMOTE_PORT"], "7")
        for kind, request in (("plain", GET), ("gunicorn's", NOT_PLAIN)):
            with self.subTest(kind):
                self.conn.received = request
                self.answering.serve(self.conn)
                self.assertEqual({name: self.environ.get(name) for name in first}, first)

    def test_a_prefix_in_the_environment_is_gunicorns_to_apply(self) -> None:
        with mock.patch.dict(os.environ, SCRIPT_NAME="/a"):
            self.make()
            self.ask()
        self.assertEqual((self.environ["SCRIPT_NAME"], self.environ["PATH_INFO"]), ("/a", ""))


if __name__ == "__main__":
    unittest.main()
