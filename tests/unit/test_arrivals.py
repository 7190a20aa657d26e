"""Requests that are arriving: which have a thread, how many bytes wait, and in which order uploads come."""

from __future__ import annotations

import socket
import unittest
from unittest import mock

from sse_threaded.server import arrivals, deadlines
from sse_threaded.server.arrivals import Arrivals
from sse_threaded.server.connection import Connection, Place

NOW = 1000.0
HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\n"
GET_PART = b"GET / HTTP/1.1\r\n"
SHORT = HEAD + b"Content-Length: 20\r\n\r\n"
LONG = HEAD + b"Content-Length: 1000000\r\n\r\n"


class ArrivalsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now = NOW
        patch = mock.patch.object(arrivals, "time", mock.Mock(monotonic=lambda: self.now))
        patch.start()
        self.addCleanup(patch.stop)
        self.ended = mock.Mock()
        self.make()

    def make(self, upload_limit: int = 1, **options: int) -> None:
        self.arrivals = Arrivals(upload_limit, self.ended, **options)

    def add(self, data: bytes, expected: Place | None = None) -> Connection:
        """A connection whose request begins with these bytes."""
        conn = Connection(mock.Mock(spec=socket.socket), ("192.0.2.1", 1), ("127.0.0.1", 80))
        found = self.arrivals.add(conn, data)
        if expected is not None:
            self.assertIs(found, expected)
        return conn

    def upload(self, expected: Place | None = None) -> Connection:
        return self.add(LONG + b"x" * 1000, expected)

    def test_a_whole_request_is_a_threads(self) -> None:
        data = HEAD + b"Content-Length: 3\r\n\r\nabc"
        for pieces in ([data], [data[:9], data[9:]], [data[:-3], data[-3:]]):
            conn = self.add(b"", Place.ARRIVING)
            for piece in pieces[:-1]:
                self.assertIs(self.arrivals.add(conn, piece), Place.ARRIVING)
                self.assertEqual(len(self.arrivals), 1)
            self.assertIs(self.arrivals.add(conn, pieces[-1]), Place.THREAD)
            self.assertEqual((conn.received, conn.missing, conn.is_whole), (data, 0, True))
            self.assertEqual((conn.partial_request, conn.place, conn.upload_ended), (None, Place.THREAD, None))
            self.assertEqual(len(self.arrivals), 0)

    def test_a_body_that_looks_like_a_request_is_a_body(self) -> None:
        hidden = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        head = HEAD + b"Content-Length: %d\r\n\r\n" % len(hidden)
        conn = self.add(head, Place.ARRIVING)
        self.assertIs(self.arrivals.add(conn, hidden), Place.THREAD)
        self.assertEqual(conn.received, head + hidden)

    def test_of_an_upload_the_thread_reads_what_is_missing(self) -> None:
        conn = self.upload(Place.THREAD)
        self.assertEqual((conn.missing, conn.is_whole, conn.partial_request), (999_000, False, None))
        self.ended.assert_not_called()
        for _ in range(2):
            conn.end_upload()
        self.ended.assert_called_once_with()

    def test_one_that_turns_out_to_be_long_is_an_upload(self) -> None:
        conn = self.add(HEAD, Place.ARRIVING)
        self.assertIs(self.arrivals.add(conn, b"Content-Length: 1000000\r\n\r\n"), Place.THREAD)
        self.assertEqual((len(self.arrivals), self.arrivals.overdue(float("inf"))), (0, []))

    def test_uploads_wait_for_a_thread_in_the_order_in_which_they_came(self) -> None:
        self.upload(Place.THREAD)
        waiting = [self.upload(Place.UPLOAD) for _ in range(3)]
        self.assertEqual({conn.place for conn in waiting}, {Place.UPLOAD})
        for conn in waiting:
            self.assertIs(self.arrivals.next_upload(), conn)
            self.assertEqual((conn.place, len(conn.received)), (Place.THREAD, len(LONG) + 1000))
            self.assertIsNotNone(conn.upload_ended)
        self.assertIsNone(self.arrivals.next_upload())
        self.upload(Place.THREAD)
        self.upload(Place.UPLOAD)

    def test_so_many_may_be_read_at_the_same_time(self) -> None:
        self.make(3)
        for expected in (*[Place.THREAD] * 3, Place.UPLOAD):
            self.upload(expected)

    def test_bytes_up_to_the_limit_wait_and_not_one_more(self) -> None:
        length = len(LONG) + 1000
        for limit, waiting in ((2 * length, 2), (2 * length - 1, 1)):
            self.make(buffer_limit=limit)
            self.upload(Place.THREAD)
            for _ in range(waiting):
                self.upload(Place.UPLOAD)
            refused = self.upload(Place.CLOSING)
            self.assertEqual(len(self.arrivals), waiting)
            self.assertIsNot(self.arrivals.next_upload(), refused)
            self.upload(Place.UPLOAD)  # in the room of the one that a thread has now
            self.upload(Place.CLOSING)

    def test_the_bytes_of_uploads_that_wait_count_for_other_requests(self) -> None:
        self.make(buffer_limit=3000)
        for _ in range(3):
            self.upload()
        self.add(HEAD + b"Content-Length: 2000\r\n\r\n" + b"x" * 1000, Place.CLOSING)

    def test_the_bytes_of_one_that_turns_out_to_be_long_count_once(self) -> None:
        self.make(buffer_limit=len(LONG))
        self.upload(Place.THREAD)
        conn = self.add(LONG[:-2], Place.ARRIVING)
        self.assertIs(self.arrivals.add(conn, LONG[-2:]), Place.UPLOAD)

    def test_without_room_for_a_request_a_thread_reads_the_rest(self) -> None:
        for limit, expected in ((len(SHORT), Place.ARRIVING), (len(SHORT) - 1, Place.THREAD)):
            self.make(buffer_limit=limit)
            conn = self.add(SHORT, expected)
        self.assertEqual((conn.missing, conn.is_whole), (20, False))
        self.assertIsNotNone(conn.upload_ended)

    def test_all_that_arrive_count_to_the_byte_also_after_others(self) -> None:
        for spare, last in ((0, Place.ARRIVING), (-1, Place.THREAD)):
            self.make(buffer_limit=3 * len(SHORT) + spare)
            for end in ("whole", "forgotten", "late"):
                conn = self.add(SHORT[:5])
                self.assertIs(self.arrivals.add(conn, SHORT[5:]), Place.ARRIVING)
                if end == "whole":
                    self.assertIs(self.arrivals.add(conn, b"x" * 20), Place.THREAD)
                elif end == "forgotten":
                    self.arrivals.forget(conn)
                    self.arrivals.forget(conn)
                else:
                    self.assertEqual(self.arrivals.overdue(float("inf")), [conn])
            for expected in (Place.ARRIVING, Place.ARRIVING, last):
                self.add(SHORT, expected)

    def test_requests_that_take_too_long_are_taken_out(self) -> None:
        first = self.add(GET_PART)
        self.now += 1
        self.upload(Place.THREAD)
        waiting = self.upload(Place.UPLOAD)
        self.assertEqual(self.arrivals.overdue(NOW + deadlines.HEAD_SECONDS), [])
        self.assertEqual(self.arrivals.overdue(NOW + deadlines.HEAD_SECONDS + 0.1), [first])
        self.assertEqual(self.arrivals.overdue(float("inf")), [waiting])
        self.assertEqual((self.arrivals.overdue(float("inf")), len(self.arrivals)), ([], 0))
        self.assertIsNone(self.arrivals.next_upload())

    def test_a_worker_that_ends_waits_for_none_any_longer(self) -> None:
        before = self.add(GET_PART)
        self.upload(Place.THREAD)
        waiting = self.upload(Place.UPLOAD)
        self.arrivals.cap(NOW + 2)
        after = self.add(GET_PART)
        self.assertEqual(self.arrivals.overdue(NOW + 2), [])
        self.assertCountEqual(self.arrivals.overdue(NOW + 2.1), [before, waiting, after])


if __name__ == "__main__":
    unittest.main()
