"""A connection's sends: how long a client may take for a response. The clock is a fake, the sockets are real."""

from __future__ import annotations

import select
import socket
import tempfile
import unittest
from unittest import mock

from sse_threaded.server import connection, deadlines
from sse_threaded.server.connection import Connection


class Client:
    """The other end. While the server waits, it takes some bytes and lets time pass.

    :param sock: its socket.
    :param takes: how many bytes at each wait.
    :param seconds: how long each wait is.
    """

    def __init__(self, sock, takes, seconds):
        self.sock = sock
        self.takes = takes
        self.seconds = seconds
        self.now = 0.0
        self.received = b""

    def monotonic(self):
        return self.now

    def register(self, sock, events):
        if events != select.POLLOUT:
            raise AssertionError(events)

    def poll(self, milliseconds):
        if milliseconds < self.seconds * 1000:
            self.now += milliseconds / 1000
            return []
        self.now += self.seconds
        self.take(self.takes)
        return [(0, select.POLLOUT)]

    def take(self, size):
        if size:
            self.received += self.sock.recv(size, socket.MSG_DONTWAIT)

    def take_all(self):
        while True:
            try:
                self.take(65536)
            except BlockingIOError:
                return


class SendTest(unittest.TestCase):
    def connect(self, *, takes, seconds):
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        client = Client(theirs, takes, seconds)
        for module, name, value in (
            (connection.time, "monotonic", client.monotonic),
            (connection.select, "poll", lambda: client),
        ):
            patch = mock.patch.object(module, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        conn = Connection(ours, "", "")
        conn.requests = 1
        return conn, client

    def file(self, content):
        file = tempfile.TemporaryFile()  # noqa: SIM115
        self.addCleanup(file.close)
        file.write(content)
        file.flush()
        return file

    def test_all_bytes_arrive(self):
        content = bytes(range(256)) * 8000
        for name, begin, end in (("sendall", 0, len(content)), ("sendfile", 1000, 2_000_000)):
            with self.subTest(name):
                conn, client = self.connect(takes=100_000, seconds=0.01)
                if name == "sendall":
                    conn.sendall(content)
                else:
                    self.assertEqual(conn.sendfile(self.file(content), begin, end - begin), end - begin)
                client.take_all()
                self.assertEqual(client.received, content[begin:end])
                self.assertIsNone(conn.sock.gettimeout())

    def test_a_client_that_takes_nothing(self):
        for send in (
            lambda conn: conn.sendall(b"x" * 5_000_000),
            lambda conn: conn.sendfile(self.file(b"x" * 5_000_000)),
        ):
            conn, client = self.connect(takes=0, seconds=7.0)
            with self.assertRaises(TimeoutError):
                send(conn)
            self.assertEqual(client.now, deadlines.SEND_SECONDS)
            self.assertIsNone(conn.sock.gettimeout())

    def test_all_parts_of_a_response_have_one_time(self):
        conn, client = self.connect(takes=2000, seconds=30.0)
        file = self.file(b"x" * 9000)
        with self.assertRaises(TimeoutError):
            for number in range(100_000):
                if number % 2:
                    conn.sendall(b"x" * 9000)
                else:
                    conn.sendfile(file)
        self.assertLessEqual(
            client.now, deadlines.SEND_SECONDS + len(client.received) / deadlines.SEND_RATE + 30.0
        )
        self.assertLess(len(client.received), 100_000)

    def test_a_client_that_takes_much_at_first_has_no_more_time_after_that(self):
        conn, client = self.connect(takes=100_000, seconds=0.001)
        conn.sendall(b"x" * 5_000_000)
        client.takes, client.seconds, begun = 0, 7.0, client.now
        with self.assertRaises(TimeoutError):
            conn.sendall(b"x" * 5_000_000)
        self.assertAlmostEqual(client.now - begun, deadlines.SEND_SECONDS, delta=1.0)

    def test_a_client_that_is_fast_enough_has_all_the_time(self):
        # It makes room rarely, as a kernel does. Most parts fit, so the server waits for few of them.
        conn, client = self.connect(takes=20_000, seconds=20_000 / deadlines.SEND_RATE / 2)
        for _ in range(20_000):
            conn.sendall(b"x" * 100)
        self.assertGreater(client.now, 10 * deadlines.SEND_SECONDS)

    def test_each_response_has_its_own_time(self):
        conn, client = self.connect(takes=300_000, seconds=50.0)
        for _ in range(20):
            conn.requests += 1
            conn.sendall(b"x" * 300_000)
        self.assertGreater(client.now, 10 * deadlines.SEND_SECONDS)

    def test_a_file_that_ends_early(self):
        conn, client = self.connect(takes=0, seconds=1.0)
        for count in (100, 10**30):
            self.assertEqual(conn.sendfile(self.file(b"short"), 1, count), 4)
        client.take_all()
        self.assertEqual(client.received, b"horthort")

    def test_a_file_that_the_kernel_cannot_send(self):
        conn, client = self.connect(takes=0, seconds=1.0)
        with open("/proc/self/status", "rb", buffering=0) as file:
            self.assertEqual(conn.sendfile(file, 1, 4), 4)
        client.take_all()
        self.assertEqual(client.received, b"ame:")
