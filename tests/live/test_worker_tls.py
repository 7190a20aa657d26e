"""Streams over TLS under the worker: the pump writes to their sockets, so they hold no thread."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import struct
import subprocess
import sys
import unittest

from sse_threaded.protocol.decoder import EventStreamDecoder
from sse_threaded.testing.gunicorn_server import NO_CONTROL_SOCKET
from tests.harness.certificate import certificate
from tests.support import enter, free_port, temporary_directory, wait_until

APP = """
from sse_threaded import Hub
hub = Hub("sqlite:///log.db", heartbeat=600, lease=None, queue_size=5000)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/events":
        return hub.stream(environ, "a")(environ, start_response)
    body = b"{}"
    if path == "/publish":
        for _ in range(int(environ["QUERY_STRING"])):
            hub.publish("a", "x" * 30000)
    elif path == "/count":
        body = b"%d" % hub.streams
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS.check_hostname = False
_TLS.verify_mode = ssl.CERT_NONE

THREADS = 4
STREAMS = 30


class Stream:
    """A client of the stream, in HTTP/1.0, so that the body has no chunks."""

    def __init__(self, sock):
        self.sock = sock
        self.has_begun = self.has_ended = self.is_closed = False
        self.ids = []
        self._head = b""
        self._decoder = EventStreamDecoder()

    def read_until(self, condition):
        while not condition() and not self.is_closed:
            piece = b""
            with contextlib.suppress(ssl.SSLError):  # the server ends without a close_notify
                piece = self.sock.recv(65536)
            self.is_closed = not piece
            if b"\r\n\r\n" not in self._head:
                head, end, piece = (self._head + piece).partition(b"\r\n\r\n")
                self._head = head + end
            for event in self._decoder.feed(piece):
                self.has_begun = self.has_begun or event.event == "stream-start"
                self.has_ended = self.has_ended or event.event == "stream-end"
                if event.event == "message":
                    self.ids.append(event.last_event_id)


class TLSTest(unittest.TestCase):
    def setUp(self):
        self.directory = temporary_directory(self)
        (self.directory / "shop.py").write_text(APP, encoding="utf-8")
        chain, key = certificate(self.directory)
        self.port = free_port()
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "-k",
            "sse_threaded.worker.ThreadWorker",
            *NO_CONTROL_SOCKET,
        ]
        command += ["--threads", str(THREADS), "-b", f"127.0.0.1:{self.port}", "--keep-alive", "10"]
        command += [f"--certfile={chain}", f"--keyfile={key}", "shop:app"]
        output = enter(self, (self.directory / "output").open("w+b"))
        self.server = subprocess.Popen(command, cwd=self.directory, stderr=output)
        self.addCleanup(self.server.wait)
        self.addCleanup(self.server.kill)
        wait_until(self.answers, timeout=30, message="the server")

    def answers(self):
        with contextlib.suppress(OSError):
            return self.ask("/count")
        return False

    def connect(self, buffer=None):
        plain = socket.socket()
        if buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.settimeout(30)
        try:
            plain.connect(("127.0.0.1", self.port))
            return _TLS.wrap_socket(plain)
        except OSError:
            plain.close()
            raise

    def ask(self, target):
        with self.connect() as sock:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            with contextlib.suppress(ssl.SSLError):  # the server ends without a close_notify
                while piece := sock.recv(4096):
                    answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "), answer)
        return body

    def open_stream(self, buffer=None):
        stream = Stream(enter(self, self.connect(buffer)))
        stream.sock.sendall(b"GET /events HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n")
        stream.read_until(lambda: stream.has_begun)
        return stream

    def count(self):
        return int(self.ask("/count"))

    def test_more_streams_than_threads_get_each_event_and_their_farewell(self):
        streams = [self.open_stream() for _ in range(STREAMS)]
        self.assertEqual(self.count(), STREAMS)
        self.ask("/publish?3")
        for stream in streams:
            stream.read_until(lambda stream=stream: len(stream.ids) == 3)
            self.assertEqual(len(set(stream.ids)), 3)
        self.server.send_signal(signal.SIGTERM)
        for stream in streams:
            stream.read_until(lambda stream=stream: stream.has_ended)
            self.assertTrue(stream.has_ended)
        self.assertEqual(self.server.wait(timeout=20), 0)

    def test_a_client_that_leaves_is_noticed(self):
        """One says that it closes, one only closes, one resets its connection."""
        first, second, third = [self.open_stream().sock for _ in range(3)]
        first.settimeout(0.1)
        with contextlib.suppress(OSError):  # the server does not answer this
            first.unwrap()
        socket.socket.shutdown(second, socket.SHUT_RDWR)
        third.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        third.close()
        wait_until(lambda: self.count() == 0, timeout=20, message="the end of the streams")

    def test_a_client_that_reads_late_gets_everything_once(self):
        late, early = self.open_stream(buffer=4096), self.open_stream()
        self.ask("/publish?100")  # three megabytes, more than the sockets take
        for stream in (early, late):
            stream.read_until(lambda stream=stream: len(stream.ids) == 100)
            self.assertEqual(len(set(stream.ids)), 100)
        self.ask("/publish?1")
        late.read_until(lambda: len(late.ids) == 101)
        self.assertEqual(len(late.ids), 101)

    def test_bytes_after_the_request_do_not_end_the_stream(self):
        stream = self.open_stream()
        stream.sock.sendall(b"GET / HTTP/1.1\r\n")
        self.ask("/publish?1")
        stream.read_until(lambda: stream.ids)
        self.assertEqual(len(stream.ids), 1)
        self.assertEqual(self.count(), 1)


if __name__ == "__main__":
    unittest.main()
