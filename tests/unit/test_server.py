"""The worker's parts by themselves: requests that arrive, connections that close, bodies, the access log."""

from __future__ import annotations

import selectors
import socket
import unittest
from unittest import mock

from gunicorn import http
from gunicorn.config import Config
from gunicorn.http.errors import InvalidChunkSize
from gunicorn.workers import gthread

from sse_threaded.server import closing_connections, deadlines
from sse_threaded.server.access_atoms import OneLineAtoms
from sse_threaded.server.app_response import AppResponse
from sse_threaded.server.client_connection import ClientConnection
from sse_threaded.server.closing_connections import ClosingConnections, half_close
from sse_threaded.server.partial_request import BUFFER_BYTES, PartialRequest, is_whole
from sse_threaded.server.request_body import MalformedBody, RequestTooSlow
from sse_threaded.server.request_reader import RequestReader

HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\n"
GET_PART = b"GET / HTTP/1.1\r\n"
PROXY_V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + b"\r\n\r\n" * 3

# The bytes that have come, and whether a thread may have them: "whole", it need not wait for more; "large", it
# reads the rest.
PARTS = (
    (b"", ""),
    (b"GET / HT", ""),
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r", ""),
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "whole"),
    (b"\r\n", ""),
    (b"\r\nGET / HTTP/1.1\r\n", ""),
    (b"\r\n\r\n\r\n", ""),
    (b"\r\nGET / HTTP/1.1\r\n\r\n", "whole"),
    (b"GET / HTTP/1.1\nHost: x\n", "whole"),  # refused
    (b"GET / HTTP/1.1\r\nHost: x\n", "whole"),
    (b"GET / HTTP/1.1\r\n\r\nGET / HT", "whole"),
    (HEAD + b"\r\n", "whole"),
    (HEAD + b"Content-Length: 5\r\n\r\n", ""),
    (HEAD + b"content-length:5\r\n\r\nabcd", ""),
    (HEAD + b"CONTENT-LENGTH: 5 \r\n\r\nabcde", "whole"),
    (HEAD + b"Content-Length: 5\r\n\r\nabcdeGET / HT", "whole"),
    (HEAD + b"Content-Length: 0\r\n\r\n", "whole"),
    (HEAD + b"Content-Length: five\r\n\r\n", "whole"),  # refused
    (HEAD + b"Content-Length: -5\r\n\r\n", "whole"),
    (HEAD + b"Content-Length: %d\r\n\r\n" % (BUFFER_BYTES + 1), "large"),
    (HEAD + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", "large"),
    (HEAD + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nabcde", "whole"),
    (HEAD + b"X-Content-Length: 5\r\n\r\n", "whole"),
    (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "large"),
    (b"HEAD / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "large"),
    (b"POST / HTTP/1.1\r\nX: " + b"x" * BUFFER_BYTES, "large"),
    (PROXY_V2[:14], ""),
    (PROXY_V2, ""),
    (PROXY_V2 + HEAD, ""),
    (PROXY_V2 + HEAD + b"\r\n", "whole"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\n", ""),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\n\r\n", "whole"),
    *(
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, state)
        for chunks, state in (
            (b"", ""),
            (b"5", ""),
            (b"5\r\nabcde", ""),
            (b"5\r\nabcde\r\n0\r\n", ""),
            (b"5\r\nabcde\r\n0\r\n\r\n", "whole"),
            (b"0\r\n\r\n", "whole"),
            (b'A;x="y"\r\n0\r\n\r\n0\r\n\r\n', ""),
            (b'A;x="y"\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n', "whole"),
            (b"0\r\nX: y\r\n", ""),
            (b"0\r\nX: y\r\n\r\n", "whole"),
            (b"5\r\nabcdefg", "whole"),  # refused, and all that follow
            (b"zz\r\n", "whole"),
            (b"0x5\r\nabcde\r\n", "whole"),
            (b"1_0\r\n", "whole"),
            (b"-1\r\n", "whole"),
            (b"\r\n", "whole"),
            (b"1" * 9000, "whole"),
            (b"FFFFFFFFFFFFFFFFFFFF\r\n" + b"x" * BUFFER_BYTES, "large"),
        )
    ),
)


class PartialRequestTest(unittest.TestCase):
    def state(self, request):
        return "whole" if request.is_whole else "large" if request.is_large else ""

    def test_a_thread_gets_a_request_when_it_need_not_wait_or_must_read_the_rest(self):
        for data, state in PARTS:
            with self.subTest(data=data[:80]):
                request = PartialRequest(0.0)
                request.add(data, 0.0)
                self.assertEqual(self.state(request), state)
                self.assertEqual(bytes(request.data), data)

    def test_what_is_seen_at_once_to_be_whole_is(self):
        whole = [data for data, _ in PARTS if is_whole(data)]
        self.assertIn(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", whole)
        for data, state in PARTS:
            if state != "whole":
                self.assertNotIn(data, whole)

    def test_in_how_many_pieces_it_comes_makes_no_difference(self):
        for data, state in PARTS:
            for size in (1, 2, 7) if len(data) < BUFFER_BYTES else (1000,):
                with self.subTest(data=data[:80], size=size):
                    request = PartialRequest(0.0)
                    for at in range(0, len(data), size):
                        # A client that waits for a 100 Continue sends the rest only after it.
                        self.assertIn(self.state(request), ("", state, "large" if b"Expect" in data else ""))
                        if not request.is_whole:
                            request.add(data[at : at + size], 0.0)
                    self.assertEqual(self.state(request), state)

    def test_empty_lines_before_the_head_are_no_head_however_they_come(self):
        for pieces in ((b"\n", b"\n"), (b"\r\n", b"\r\n\r\n"), (b"\r", b"\r\n", b"\r\n\r\n")):
            request = PartialRequest(0.0)
            for piece in pieces:
                request.add(piece, 0.0)
                self.assertEqual(self.state(request), "")
            request.add(b"GET / HTTP/1.1\r\n\r\n", 0.0)
            self.assertEqual(self.state(request), "whole")

    def test_a_head_has_its_time_from_its_first_byte(self):
        request = PartialRequest(100.0)
        for second in range(10):
            request.add(b"X", 100.0 + second)
        self.assertFalse(request.is_late(100.0 + deadlines.HEAD_SECONDS))
        self.assertTrue(request.is_late(100.1 + deadlines.HEAD_SECONDS))

    def test_a_body_has_its_time_from_its_head_and_more_the_more_comes(self):
        request = PartialRequest(100.0)
        request.add(HEAD + b"Content-Length: 50000\r\n\r\n", 105.0)
        self.assertFalse(request.is_late(105.0 + deadlines.BODY_SECONDS))
        self.assertTrue(request.is_late(105.1 + deadlines.BODY_SECONDS))
        request.add(b"x" * 5 * deadlines.BODY_RATE, 106.0)
        self.assertFalse(request.is_late(110.0 + deadlines.BODY_SECONDS))
        self.assertTrue(request.is_late(110.1 + deadlines.BODY_SECONDS))
        request.latest = 107.0
        self.assertTrue(request.is_late(108.0))

    def test_a_long_body_must_come_faster(self):
        for received, seconds in (
            (0, 10),
            (5_000, 20),
            (25_000, 60),
            (50_000, 62.5),
            (1_000_000, 110),
            (10_000_000_000, 500_060),  # six days
        ):
            with self.subTest(received):
                self.assertEqual(deadlines.body_seconds(received), seconds)


class FakeConnection:
    """A connection of which only the socket is needed."""

    def __init__(self, test):
        self.client, self.sock = socket.socketpair()
        test.addCleanup(self.client.close)
        test.addCleanup(self.sock.close)

    def close(self):
        self.sock.close()


class ClosingConnectionsTest(unittest.TestCase):
    def setUp(self):
        self.poller = selectors.DefaultSelector()
        self.addCleanup(self.poller.close)
        self.closed = []
        self.closing = ClosingConnections(self.poller, 3, self.closed.append)

    def add(self):
        conn = FakeConnection(self)
        self.assertFalse(half_close(conn))
        self.closing.add(conn)
        return conn

    def look(self):
        for key, _ in self.poller.select(0):
            key.data(key.fileobj)

    def test_it_waits_until_the_client_closes_and_reads_what_it_sends_meanwhile(self):
        conn = self.add()
        self.assertEqual(conn.client.recv(10), b"")
        conn.client.sendall(b"x" * 10_000)
        self.look()
        self.assertEqual(self.closed, [])
        conn.client.close()
        self.look()
        self.assertEqual(self.closed, [conn])
        self.assertEqual(len(self.closing), 0)
        self.assertFalse(self.poller.get_map())

    def test_one_that_is_said_to_be_readable_and_is_not_waits_on(self):
        conn = self.add()
        key = self.poller.get_key(conn.sock)
        key.data(key.fileobj)
        self.assertEqual((self.closed, len(self.closing)), ([], 1))

    def test_one_that_has_closed_already_need_not_wait(self):
        conn = FakeConnection(self)
        conn.client.close()
        self.assertTrue(half_close(conn))

    def test_one_that_is_broken_need_not_wait(self):
        conn = FakeConnection(self)
        conn.close()
        self.assertIs(half_close(conn), True)

    def test_one_that_goes_on_sending_is_closed(self):
        conn = self.add()
        for _ in range(20):
            if not self.closed:
                conn.client.sendall(b"x" * 4096)
                self.look()
        self.assertEqual(self.closed, [conn])

    def test_one_that_has_sent_all_it_may_is_closed_at_once(self):
        conn = self.add()
        conn.client.sendall(b"x" * 65_535)
        self.look()
        self.assertEqual(self.closed, [])
        conn.client.sendall(b"x")
        self.look()
        self.assertEqual(self.closed, [conn])

    def test_none_waits_longer_than_it_may(self):
        conns = [self.add() for _ in range(2)]
        self.closing.expire(0.0)
        self.assertEqual(self.closed, [])
        self.closing.expire(float("inf"))
        self.assertEqual(self.closed, conns)

    def test_each_has_its_time(self):
        with mock.patch.object(closing_connections, "time", mock.Mock(monotonic=lambda: 100.0)):
            conn = self.add()
        self.closing.expire(99.9 + deadlines.LINGER_SECONDS)
        self.assertEqual(self.closed, [])
        self.closing.expire(100.0 + deadlines.LINGER_SECONDS)
        self.assertEqual((self.closed, conn.sock.fileno()), ([conn], -1))

    def test_one_that_cannot_be_watched_or_fails_is_closed(self):
        with mock.patch.object(self.poller, "register", side_effect=OSError):
            unwatched = self.add()
        self.assertEqual(self.closed, [unwatched])
        failing = self.add()
        callback = self.poller.get_key(failing.sock).data
        failing.close()
        callback(failing.sock)
        self.assertEqual(self.closed, [unwatched, failing])

    def test_of_too_many_the_oldest_is_closed(self):
        conns = [self.add() for _ in range(5)]
        self.assertEqual(self.closed, conns[:2])
        self.assertEqual(len(self.closing), 3)

    def test_one_that_was_closed_may_still_have_an_event_in_the_same_round(self):
        conns = [self.add() for _ in range(3)]
        for conn in conns:
            conn.client.close()
        events = self.poller.select(0)
        self.assertEqual(len(events), 3)
        self.add()  # as another callback of this round does
        for key, _ in events:
            key.data(key.fileobj)
        self.assertEqual(self.closed, conns)
        self.assertEqual(len(self.closing), 1)


class RequestReaderTest(unittest.TestCase):
    def setUp(self):
        self.poller = selectors.DefaultSelector()
        self.addCleanup(self.poller.close)
        self.cfg = Config()
        self.cfg.set("threads", 2)  # so one upload at a time
        self.served, self.refused, self.awaited, self.dropped = [], [], [], []
        self.reader = self.make_reader()

    def make_reader(self, **options):
        return RequestReader(
            self.cfg,
            self.poller,
            serve=self.served.append,
            wait=self.awaited.append,
            drop=self.dropped.append,
            refuse=self.refused.append,
            defer=lambda call: call(),
            **options,
        )

    def make_connection(self):
        self.client, sock = socket.socketpair()
        self.addCleanup(self.client.close)
        self.addCleanup(sock.close)
        return ClientConnection(self.cfg, sock, ("127.0.0.1", 1), ("127.0.0.1", 2))

    def send(self, data):
        conn = self.make_connection()
        self.client.sendall(data)
        self.reader.receive(conn)
        return conn

    def upload(self):
        return self.send(HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000)

    def call_back(self, conn):
        """Tell the reader, as the poller does, that a connection is readable."""
        key = self.poller.get_key(conn.sock)
        key.data(key.fileobj)

    def test_uploads_wait_for_a_thread_in_the_order_in_which_they_came(self):
        conns = [self.upload() for _ in range(3)]
        for number in range(1, 4):
            self.assertEqual(self.served, conns[:number])
            conns[number - 1].end_upload()
        self.assertEqual((self.refused, self.dropped), ([], []))

    def test_uploads_that_wait_have_a_bound_on_their_bytes(self):
        self.reader = self.make_reader(buffer_limit=3000)
        first, second, third, fourth = [self.upload() for _ in range(4)]
        self.assertEqual((self.served, self.refused), ([first], [fourth]))
        first.end_upload()
        fifth = self.upload()  # in the room that the second has left
        self.assertEqual((self.served, self.refused), ([first, second], [fourth]))
        for conn in (second, third, fifth):
            conn.end_upload()
        self.assertEqual(self.served, [first, second, third, fifth])
        again = [self.upload() for _ in range(4)]
        self.assertEqual(self.refused, [fourth, again[3]])

    def test_the_bytes_of_uploads_that_wait_count_for_other_requests(self):
        self.reader = self.make_reader(buffer_limit=3000)
        for _ in range(3):
            self.upload()
        late = self.send(HEAD + b"Content-Length: 2000\r\n\r\n" + b"x" * 1000)
        self.assertEqual(self.refused, [late])

    def test_uploads_do_not_wait_for_a_thread_without_end(self):
        first, second = self.upload(), self.upload()
        self.reader.expire(0.0)
        self.assertEqual(self.refused, [])
        self.reader.expire(float("inf"))
        self.assertEqual(self.refused, [second])
        first.end_upload()
        self.assertEqual(self.served, [first])
        self.assertIs(self.upload(), self.served[1])

    def test_when_the_worker_ends_uploads_wait_no_longer_than_others(self):
        _first, second = self.upload(), self.upload()
        part = self.send(GET_PART)
        self.reader.cap(1.0)
        self.reader.expire(2.0)
        self.assertEqual(self.refused, [part, second])

    def test_a_connection_that_is_said_to_be_readable_and_is_not_waits_on(self):
        silent = self.send(b"")
        self.assertEqual(self.awaited, [silent])
        part = self.send(GET_PART)
        self.call_back(part)
        self.assertEqual((self.awaited, self.served, self.dropped), ([silent], [], []))
        self.client.sendall(b"\r\n")
        self.call_back(part)
        self.assertEqual(self.served, [part])
        self.assertEqual(part.received, GET_PART + b"\r\n")

    def test_a_connection_that_ends_in_the_midst_of_a_request_is_dropped(self):
        part = self.send(GET_PART)
        self.client.close()
        self.call_back(part)
        self.assertEqual((self.served, self.dropped), ([], [part]))
        self.assertFalse(self.poller.get_map())

    def test_bytes_up_to_the_limit_wait_and_not_one_more(self):
        length = len(HEAD + b"Content-Length: 1000000\r\n\r\n") + 1000
        for limit, waiting in ((2 * length, 2), (2 * length - 1, 1)):
            with self.subTest(waiting=waiting):
                self.served.clear()
                self.refused.clear()
                self.reader = self.make_reader(buffer_limit=limit)
                conns = [self.upload() for _ in range(4)]
                self.assertEqual(self.served, conns[:1])
                self.assertEqual(self.refused, conns[1 + waiting :])

    def test_a_whole_request_goes_to_a_thread_as_it_came(self):
        data = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        conn = self.send(data)
        self.assertEqual(self.served, [conn])
        self.assertEqual((conn.received, conn.missing, conn.is_whole, conn.data_ready), (data, 0, True, True))
        self.assertIsNone(conn.partial_request)
        self.assertFalse(self.poller.get_map())

    def test_one_in_pieces_goes_to_a_thread_when_it_has_all_come(self):
        length = len(HEAD + b"Content-Length: 20\r\n\r\n") + 20
        self.reader = self.make_reader(buffer_limit=2 * length)
        for number in range(1, 5):  # the room is for less than two
            conn = self.send(HEAD + b"Content-Length: 20\r\n\r\n")
            for piece in (b"x" * 5, b"x" * 15):
                self.assertEqual((len(self.served), conn.received), (number - 1, b""))
                self.client.sendall(piece)
                self.call_back(conn)
            self.assertEqual(self.served[-1], conn)
            self.assertEqual((len(conn.received), conn.missing, conn.is_whole), (length, 0, True))
            self.assertIsNone(conn.partial_request)
            self.assertFalse(self.poller.get_map())
        self.assertEqual((self.refused, self.dropped), ([], []))

    def test_a_body_that_looks_like_a_request_is_a_body(self):
        hidden = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        head = HEAD + b"Content-Length: %d\r\n\r\n" % len(hidden)
        conn = self.send(head)
        self.client.sendall(hidden)
        self.call_back(conn)
        self.assertEqual((self.served, conn.received), ([conn], head + hidden))

    def test_32_megabytes_may_wait(self):
        self.upload()
        first, second = self.make_connection(), self.make_connection()
        self.reader.add(first, (HEAD + b"Content-Length: 99999999\r\n\r\n").ljust(32 * 2**20, b"x"))
        self.assertEqual(self.refused, [])
        self.reader.add(second, HEAD + b"Content-Length: 99999999\r\n\r\n")
        self.assertEqual(self.refused, [second])

    def test_one_that_turns_out_to_be_long_is_watched_no_more(self):
        conn = self.send(HEAD)
        self.client.sendall(b"Content-Length: 1000000\r\n\r\n")
        self.call_back(conn)
        self.assertEqual(self.served, [conn])
        self.assertFalse(self.poller.get_map())
        self.reader.expire(float("inf"))
        self.assertEqual(self.refused, [])

    def test_all_that_arrive_count_to_the_byte_also_after_others(self):
        part = HEAD + b"Content-Length: 20\r\n\r\n"
        for spare, served in ((0, 0), (-1, 1)):
            with self.subTest(spare=spare):
                self.reader = self.make_reader(buffer_limit=3 * len(part) + spare)
                for _ in range(3):
                    conn = self.send(part)
                    self.client.sendall(b"x" * 20)
                    self.call_back(conn)
                self.served.clear()
                for _ in range(3):
                    self.send(part)
                self.assertEqual(len(self.served), served)

    def test_each_is_refused_at_its_own_time(self):
        early, late = self.send(GET_PART), self.send(GET_PART)
        late.partial_request.latest = 1.0
        self.reader.expire(2.0)
        self.assertEqual(self.refused, [late])
        self.reader.cap(3.0)
        self.reader.expire(4.0)
        self.assertEqual(self.refused, [late, early])

    def test_of_an_upload_the_thread_reads_what_is_missing(self):
        conn = self.upload()
        self.assertEqual((conn.missing, conn.is_whole, conn.data_ready), (999_000, False, True))
        self.assertIsNotNone(conn.upload_ended)

    def test_half_of_the_threads_may_read_uploads(self):
        for threads, most in ((1, 1), (3, 1), (4, 2), (5, 2)):
            self.cfg.set("threads", threads)
            self.reader = self.make_reader()
            self.served.clear()
            for _ in range(6):
                self.upload()
            self.assertEqual(len(self.served), most)

    def test_without_room_for_a_request_a_thread_reads_the_rest(self):
        part = HEAD + b"Content-Length: 20\r\n\r\n"
        for limit, served in ((len(part), 0), (len(part) - 1, 1)):
            self.reader = self.make_reader(buffer_limit=limit)
            conn = self.send(part)
            self.assertEqual(len(self.served), served)
        self.assertEqual((conn.missing, conn.is_whole), (20, False))
        self.assertIsNotNone(conn.upload_ended)

    def test_a_request_that_takes_too_long_is_refused_and_watched_no_more(self):
        part = self.send(GET_PART)
        self.reader.expire(0.0)
        self.assertEqual(self.refused, [])
        self.reader.expire(float("inf"))
        self.reader.expire(float("inf"))
        self.assertEqual(self.refused, [part])
        self.assertFalse(self.poller.get_map())

    def test_a_connection_that_fails_or_cannot_be_watched_is_dropped(self):
        broken = self.make_connection()
        broken.sock.close()
        self.reader.receive(broken)
        self.assertEqual(self.dropped, [broken])
        self.dropped.clear()
        with mock.patch.object(self.poller, "register", side_effect=OSError):
            unwatched = self.send(GET_PART)
        self.assertEqual((self.dropped, self.served), ([unwatched], []))
        self.reader.expire(float("inf"))
        self.assertEqual(self.refused, [])

    def test_which_protocols_the_main_thread_reads(self):
        for changes, trusted, expected in (
            ({}, True, True),
            ({"is_ssl": True}, False, False),
            ({"protocol": "uwsgi"}, False, False),
            ({"http2_cleartext": "prior-knowledge"}, False, True),
            ({"http2_cleartext": "prior-knowledge"}, True, False),
            ({"http2_cleartext": "both"}, True, False),
            ({"http2_cleartext": "upgrade"}, True, True),
            ({"is_ssl": True, "http2_cleartext": "both"}, False, False),
        ):
            with self.subTest(changes=changes, trusted=trusted):
                options = {"is_ssl": False, "protocol": "http", "http2_cleartext": "off", "threads": 2, **changes}
                real, self.cfg = self.cfg, mock.Mock(**options)
                self.reader = self.make_reader()
                conn = self.make_connection()
                with mock.patch(
                    "gunicorn.http2.negotiation.prior_knowledge_allowed",
                    lambda cfg, client, trusted=trusted: trusted and client == ("127.0.0.1", 1),
                ):
                    self.assertIs(self.reader.may_read(conn), expected)
                    self.reader.receive(conn)
                    self.assertEqual(self.awaited, [conn])
                    self.client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    self.reader.receive(conn)
                self.assertEqual(self.served, [conn])
                self.assertTrue(conn.data_ready)
                data = conn.received if expected else conn.sock.recv(100)
                self.assertEqual(data, b"GET / HTTP/1.1\r\n\r\n")
                self.awaited.clear()
                self.served.clear()
                self.cfg = real

    def test_a_thread_finds_out_that_a_connection_is_broken(self):
        self.cfg = mock.Mock(is_ssl=True, threads=2)
        self.reader = self.make_reader()
        conn = self.make_connection()
        conn.sock.close()
        self.reader.receive(conn)
        self.assertEqual((self.served, self.awaited), ([conn], []))


class ClientConnectionTest(unittest.TestCase):
    def setUp(self):
        self.cfg = Config()
        self.client, sock = socket.socketpair()
        self.addCleanup(self.client.close)
        self.addCleanup(sock.close)
        self.conn = ClientConnection(self.cfg, sock, ("192.0.2.1", 1), ("127.0.0.1", 2))

    def test_what_the_main_thread_has_read_is_the_request(self):
        self.assertEqual((self.conn.received, self.conn.is_whole), (b"", False))
        for path in ("/a", "/b"):
            self.conn.received = f"GET {path} HTTP/1.1\r\n\r\n".encode()
            self.conn.init()
            self.assertEqual(self.conn.received, b"")
            self.assertEqual(next(self.conn.parser).path, path)

    def test_a_next_request_begins_at_its_first_byte_and_has_its_own_time(self):
        self.conn.init()
        unreader = self.conn.parser.unreader
        for _ in range(2):
            with mock.patch.object(type(unreader), "begin_next") as begin:
                self.conn.init()
            begin.assert_called_once_with()
            self.assertIs(self.conn.parser.unreader, unreader)

    def test_what_gunicorn_has_read_comes_first(self):
        self.conn.init()
        self.conn.parser = http.get_parser(self.cfg, self.conn.sock, self.conn.client)
        self.conn.parser.unreader.unread(b"GET /a HT")
        self.conn.received = b"TP/1.1\r\n\r\n"
        self.conn.init()
        self.assertEqual(next(self.conn.parser).path, "/a")

    def test_another_upload_may_begin_when_this_one_has_come(self):
        for missing, calls in ((5, 1), (6, 0), (None, 0)):
            ended = self.conn.upload_ended = mock.Mock()
            self.conn.missing = missing
            self.conn.received = b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
            self.conn.init()
            self.client.sendall(b"12345")
            request = next(self.conn.parser)
            self.assertEqual(request.body.read(), b"12345")
            self.assertEqual(ended.call_count, calls)
            for _ in range(2):
                self.conn.end_upload()
                self.assertEqual(ended.call_count, 1)

    def test_a_handshake_has_its_time(self):
        found = []

        def init(conn):
            found.append(conn.handshake_ends)
            conn.is_http2 = True

        for is_ssl, initialized, expected in (
            (True, False, 100.0 + deadlines.HEAD_SECONDS),
            (True, True, None),
            (False, False, None),
        ):
            self.conn.cfg, self.conn.initialized = mock.Mock(is_ssl=is_ssl), initialized
            with (
                mock.patch.object(gthread.TConn, "init", init),
                mock.patch("sse_threaded.server.client_connection.time", mock.Mock(monotonic=lambda: 100.0)),
            ):
                self.conn.init()
            self.assertEqual(found.pop(), expected)
            self.assertIsNone(self.conn.handshake_ends)

    def test_its_address_in_a_log(self):
        self.assertEqual(self.conn.address, "192.0.2.1")
        self.conn.client = b""
        self.assertEqual(self.conn.address, "a Unix socket")


class AtomsTest(unittest.TestCase):
    def test_no_part_of_an_access_line_begins_a_line(self):
        atoms = OneLineAtoms({"U": '/a"\r\n\x85\u2028[INFO] forged', "a": "é ü", "s": 200, "t": None})
        self.assertEqual(atoms["U"], '/a\\"\\r\\n\\x85\\u2028[INFO] forged')
        self.assertEqual((atoms["a"], atoms["s"], atoms["nothing"]), ("é ü", 200, "-"))


class CountTest(unittest.TestCase):
    def counted(self, *steps):
        """Whether each request that the worker counts is a stream's, if the response begins with these headers."""
        worker = mock.Mock()
        response = AppResponse(worker, mock.Mock(), mock.Mock())
        response.resp = mock.Mock()
        for headers in steps:
            response.start_response("200 OK", headers)
        response.finish()
        return [call.kwargs["is_stream"] for call in worker.count_request.call_args_list]

    def test_a_stream_is_told_from_other_responses(self):
        for kind, is_stream in (
            ("text/event-stream", True),
            ("Text/Event-Stream; charset=utf-8", True),
            ("text/html", False),
            ("application/json", False),
        ):
            with self.subTest(kind):
                self.assertEqual(self.counted([("X", "y"), ("content-TYPE", kind)]), [is_stream])
        self.assertEqual(self.counted([]), [False])

    def test_a_request_counts_once(self):
        self.assertEqual(self.counted([], []), [False])

    def test_a_request_whose_app_failed_counts(self):
        self.assertEqual(self.counted(), [False])

    def test_it_notes_that_its_body_is_encoded(self):
        response = AppResponse(mock.Mock(), mock.Mock(), mock.Mock(), resp=mock.Mock())
        for headers, expected in (([("X", "gzip")], False), ([("content-ENCODING", "gzip"), ("X", "y")], True)):
            response.start_response("200 OK", headers)
            self.assertIs(response.is_encoded, expected)
            response.resp.start_response.assert_called_with("200 OK", headers, None)

    def test_the_access_line_comes_before_the_apps_close_and_neither_hinders_the_other(self):
        calls = mock.Mock()
        response = AppResponse(calls.worker, "req", mock.Mock(), environ="environ", resp="resp")
        response.respiter = calls.respiter
        response.conclude()
        self.assertEqual([call[0] for call in calls.mock_calls], ["worker.log.access", "respiter.close"])
        self.assertEqual(calls.worker.log.access.call_args.args[:3], ("resp", "req", "environ"))
        self.assertEqual((response.respiter, list(response.chunks)), (None, []))
        calls.worker.log.access.side_effect = ZeroDivisionError
        response.respiter = calls.respiter
        self.assertRaises(ZeroDivisionError, response.conclude)
        self.assertEqual(calls.respiter.close.call_count, 2)
        response.resp, response.respiter = None, [b""]
        response.conclude()
        self.assertEqual(calls.worker.log.access.call_count, 2)

    def test_the_last_hook_is_called_where_it_matters(self):
        worker = mock.Mock()
        for tells_ends, error in ((True, None), (True, ZeroDivisionError), (False, None)):
            worker.tells_ends, worker.cfg.post_request.side_effect = tells_ends, error
            response = AppResponse(worker, "req", mock.Mock(), environ="environ", resp="resp")
            for _ in range(2):
                response.finish()
            self.assertIsNone(response.environ)
        calls = [mock.call(worker, "req", environ, "resp") for environ in ("environ", None)] * 2
        self.assertEqual(worker.cfg.post_request.mock_calls, calls)
        self.assertEqual(worker.log.exception.call_count, 2)
        self.assertEqual(worker.count_request.mock_calls, [mock.call("resp", is_stream=False)] * 3)

    def test_after_a_stream_the_connection_is_used_again_unless_a_body_is_left(self):
        for header, closes in (("HOST", False), ("CONTENT-LENGTH", True), ("TRANSFER-ENCODING", True)):
            for should_close in (False, True):
                resp = mock.Mock()
                resp.should_close.return_value = should_close
                response = AppResponse(mock.Mock(), mock.Mock(headers=[("X", "y"), (header, "5")]), mock.Mock())
                response.resp = resp
                response.expect_stream()
                self.assertIs(resp.force_close.called, closes)
                self.assertIs(response.may_reuse, not should_close)


class FaultTest(unittest.TestCase):
    def test_a_fault_is_an_answer_and_an_error_of_input(self):
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
