"""A connection on its way from a request's thread to the pump, or to threads that come and go, and back."""

from __future__ import annotations

import contextvars
import socket
import threading
import unittest
from unittest import mock

from gunicorn.config import Config
from gunicorn.http import wsgi
from werkzeug.test import EnvironBuilder

from sse_threaded import Hub
from sse_threaded.fanout.handover import ENVIRON_KEY
from sse_threaded.server.app_response import AppResponse
from sse_threaded.server.permits import Permits
from sse_threaded.server.stream_handover import StreamHandover
from tests.support import wait_until
from tests.unit.fake_handover import FakeHandover


class FakeWorker:
    """Keeps what a worker is asked to do, and does it when the test says so."""

    tells_ends = True
    has_tasks = False

    def __init__(self):
        self.cfg = Config()
        self.hook = mock.Mock()
        self.cfg.set("post_request", lambda worker, req, environ, resp: self.hook())
        self.log = mock.Mock()
        self.method_queue = mock.Mock()
        self.method_queue.defer = lambda function, *args: self.tasks.append(lambda: function(*args))
        self.tasks = []
        self.permits = Permits(lambda: 4, self.tasks.append, self.tasks.append)
        self.given_back = []
        self.warnings = []

    def enqueue(self, task):
        self.tasks.append(task)

    def count_request(self, resp, is_stream):
        pass

    def give_back(self, conn, again):
        self.given_back.append((conn, again))

    def warn_once(self, kind, message):
        self.warnings.append(kind)

    def run_tasks(self):
        while self.tasks:
            self.tasks.pop(0)()


class StreamHandoverTest(unittest.TestCase):
    def setUp(self):
        self.hub = Hub(heartbeat=600, max_streams=1)
        self.addCleanup(self.hub.close)
        self.worker = FakeWorker()
        self.client, self.sock = socket.socketpair()
        self.client.settimeout(10)
        self.addCleanup(self.client.close)
        self.addCleanup(self.sock.close)

    def make(self, wrap=lambda chunks: chunks, *, headers=()):
        """The hand-over of one request whose app has answered with a stream."""
        conn = mock.Mock(sock=self.sock, context=contextvars.copy_context())
        conn.parser.unreader.buf.getvalue.return_value = b""
        req = mock.Mock(version=(1, 1), method="GET", headers=list(headers))
        req.should_close.return_value = False
        response = AppResponse(self.worker, req, conn)
        response.resp = wsgi.Response(req, self.sock, self.worker.cfg)
        handover = StreamHandover(response)
        environ = {
            **EnvironBuilder("/", multithread=True).get_environ(),
            "wsgi.file_wrapper": wsgi.FileWrapper,
            "gunicorn.socket": self.sock,
            "SERVER_PROTOCOL": "HTTP/1.1",
            ENVIRON_KEY: handover,
        }
        response.environ = environ
        response.respiter = wrap(self.hub.stream(environ, "a")(environ, response.start_response))
        return response, handover

    def received(self, words):
        data = b""
        while words not in data:
            data += self.client.recv(65536)
        return data

    def assert_nothing_sent(self):
        self.client.setblocking(False)
        self.assertRaises(BlockingIOError, self.client.recv, 1)
        self.client.settimeout(10)

    def assert_free(self):
        """The hub's only place is free."""
        wait_until(lambda: self.hub.streams == 0, message="no stream")
        stream = self.hub.stream(EnvironBuilder("/", multithread=True).get_environ(), "a").response
        self.assertIn(b"stream-start", next(stream))
        stream.close()

    def test_a_bare_stream_goes_to_the_pump_and_comes_back(self):
        response, handover = self.make()
        leave = handover.send()
        self.assert_nothing_sent()
        leave()
        head = self.received(b"data: {}\n\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), head)
        self.assertIn(b"\r\nConnection: keep-alive\r\n", head)
        self.hub.publish("a", "hello")
        self.received(b"data: hello\n")
        self.assertEqual((self.worker.tasks, self.worker.given_back), ([], []))
        self.client.close()
        wait_until(lambda: self.worker.tasks, message="the pump to give the connection back")
        self.worker.run_tasks()
        self.assertEqual(self.worker.given_back, [(response.conn, False)])
        self.worker.log.access.assert_called_once()
        self.worker.hook.assert_called_once()
        self.assert_free()

    def test_a_wrapped_stream_goes_to_threads_and_comes_back(self):
        response, handover = self.make(lambda chunks: (chunk.upper() for chunk in chunks))
        leave = handover.send()
        leave()
        self.received(b"DATA: {}\n\n\r\n")
        self.assertEqual((self.worker.tasks, self.worker.given_back), ([], []))
        self.hub.publish("a", "hello")
        wait_until(lambda: self.worker.tasks, message="the pump to call a thread")
        self.assert_nothing_sent()
        self.worker.run_tasks()
        self.received(b"DATA: HELLO\n")
        self.client.close()
        wait_until(lambda: self.worker.tasks, message="the pump to call a thread")
        self.worker.run_tasks()
        self.assertEqual(self.worker.given_back, [(response.conn, False)])
        self.worker.log.access.assert_called_once()
        self.worker.hook.assert_called_once()
        self.assertEqual(self.worker.warnings, [])
        self.assert_free()

    def test_a_connection_whose_request_has_a_body_is_not_used_again(self):
        _, handover = self.make(headers=[("CONTENT-LENGTH", "5")])
        leave = handover.send()
        leave()
        self.assertIn(b"\r\nConnection: close\r\n", self.received(b"data: {}\n\n\r\n"))

    def test_a_head_that_cannot_be_made_gives_the_place_back(self):
        response, handover = self.make()
        response.resp.headers.append(("X-Name", "\u20ac"))  # no header can hold it
        with self.assertRaises(UnicodeEncodeError):
            handover.send()
        self.assert_nothing_sent()
        self.worker.log.access.assert_called_once()
        self.assert_free()

    def test_without_room_the_whole_body_is_a_refusal(self):
        other = self.hub.stream(EnvironBuilder("/", multithread=True).get_environ(), "a").response
        next(other)
        _, handover = self.make()
        self.assertIsNone(handover.send())
        self.assertIn(b"event: stream-unavailable\n", self.received(b"\r\n0\r\n\r\n"))
        other.close()
        self.assert_free()

    def test_a_stream_that_has_begun_is_not_parked(self):
        def begun(chunks):
            next(chunks)
            return chunks

        response, handover = self.make(begun)
        sent = []
        thread = threading.Thread(target=lambda: sent.append(handover.send()), daemon=True)
        thread.start()
        wait_until(lambda: self.hub.streams == 1, message="the stream")
        self.hub.publish("a", "hello")
        body = self.received(b"data: hello\n")
        self.hub.request_close()
        body += self.received(b"\r\n0\r\n\r\n")
        thread.join(10)
        self.assertEqual(sent, [None])
        self.assertNotIn(b"stream-start", body)
        self.assertIsNone(handover.wrapped)
        response.finish()
        self.worker.hook.assert_called_once()

    def test_a_stream_of_another_request_is_not_parked(self):
        _, handover = self.make()
        stream = self.hub.stream(
            {**EnvironBuilder("/", multithread=True).get_environ(), ENVIRON_KEY: FakeHandover()}, "a"
        ).response
        self.assertIsNone(stream.park(handover, self.sock, chunked=True))
        self.assert_free()


if __name__ == "__main__":
    unittest.main()
