"""The worker's parts by themselves: requests that arrive, connections that close, bodies, the access log."""

from __future__ import annotations

import selectors
import socket
import unittest
from unittest import mock

from gunicorn.config import Config
from gunicorn.http.errors import InvalidChunkSize

from sse_threaded.server import deadlines
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

    def test_one_that_goes_on_sending_is_closed(self):
        conn = self.add()
        for _ in range(20):
            if not self.closed:
                conn.client.sendall(b"x" * 4096)
                self.look()
        self.assertEqual(self.closed, [conn])

    def test_none_waits_longer_than_it_may(self):
        conns = [self.add() for _ in range(2)]
        self.closing.expire(0.0)
        self.assertEqual(self.closed, [])
        self.closing.expire(float("inf"))
        self.assertEqual(self.closed, conns)

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

    def send(self, data):
        client, sock = socket.socketpair()
        self.addCleanup(client.close)
        self.addCleanup(sock.close)
        conn = ClientConnection(self.cfg, sock, ("127.0.0.1", 1), ("127.0.0.1", 2))
        client.sendall(data)
        self.reader.receive(conn)
        self.client = client
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
