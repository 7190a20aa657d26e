"""Requests that arrive in parts: when a thread may have them, and exactly at each limit."""

from __future__ import annotations

import unittest

from sse_threaded.server import deadlines
from sse_threaded.server.partial_request import BUFFER_BYTES, PartialRequest, is_whole

POST = b"POST /x HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LONGEST_SIZE_LINE = 8192
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
    (POST + b"\r\n", "whole"),
    (POST + b"Content-Length: 5\r\n\r\n", ""),
    (POST + b"content-length:5\r\n\r\nabcd", ""),
    (POST + b"CONTENT-LENGTH: 5 \r\n\r\nabcde", "whole"),
    (POST + b"Content-Length: 5\r\n\r\nabcdeGET / HT", "whole"),
    (POST + b"Content-Length: 0\r\n\r\n", "whole"),
    (POST + b"Content-Length: five\r\n\r\n", "whole"),  # refused
    (POST + b"Content-Length: -5\r\n\r\n", "whole"),
    (POST + b"Content-Length: %d\r\n\r\n" % (BUFFER_BYTES + 1), "large"),
    (POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", "large"),
    (POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\nabcde", "whole"),
    (POST + b"X-Content-Length: 5\r\n\r\n", "whole"),
    (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "large"),
    (b"HEAD / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "large"),
    (b"POST / HTTP/1.1\r\nX: " + b"x" * BUFFER_BYTES, "large"),
    (PROXY_V2[:14], ""),
    (PROXY_V2, ""),
    (PROXY_V2 + POST, ""),
    (PROXY_V2 + POST + b"\r\n", "whole"),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\n", ""),
    (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\n\r\n", "whole"),
    *(
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, state)
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


def request_of(*pieces: bytes) -> PartialRequest:
    request = PartialRequest(0.0)
    for piece in pieces:
        request.add(piece, 0.0)
    return request


def length(number: int | str) -> bytes:
    return POST + f"Content-Length: {number}\r\n\r\n".encode()


class StateTest(unittest.TestCase):
    def state(self, request: PartialRequest) -> str:
        return "whole" if request.is_whole else "large" if request.is_large else ""

    def test_a_thread_gets_a_request_when_it_need_not_wait_or_must_read_the_rest(self) -> None:
        for data, state in PARTS:
            with self.subTest(data=data[:80]):
                request = PartialRequest(0.0)
                request.add(data, 0.0)
                self.assertEqual(self.state(request), state)
                self.assertEqual(bytes(request.data), data)

    def test_what_is_seen_at_once_to_be_whole_is(self) -> None:
        whole = [data for data, _ in PARTS if is_whole(data)]
        self.assertIn(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", whole)
        for data, state in PARTS:
            if state != "whole":
                self.assertNotIn(data, whole)

    def test_in_how_many_pieces_it_comes_makes_no_difference(self) -> None:
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

    def test_empty_lines_before_the_head_are_no_head_however_they_come(self) -> None:
        for pieces in ((b"\n", b"\n"), (b"\r\n", b"\r\n\r\n"), (b"\r", b"\r\n", b"\r\n\r\n")):
            request = PartialRequest(0.0)
            for piece in pieces:
                request.add(piece, 0.0)
                self.assertEqual(self.state(request), "")
            request.add(b"GET / HTTP/1.1\r\n\r\n", 0.0)
            self.assertEqual(self.state(request), "whole")

    def test_a_head_has_its_time_from_its_first_byte(self) -> None:
        request = PartialRequest(100.0)
        for second in range(10):
            request.add(b"X", 100.0 + second)
        self.assertFalse(request.is_late(100.0 + deadlines.HEAD_SECONDS))
        self.assertTrue(request.is_late(100.1 + deadlines.HEAD_SECONDS))

    def test_a_body_has_its_time_from_its_head_and_more_the_more_comes(self) -> None:
        request = PartialRequest(100.0)
        request.add(POST + b"Content-Length: 50000\r\n\r\n", 105.0)
        self.assertFalse(request.is_late(105.0 + deadlines.BODY_SECONDS))
        self.assertTrue(request.is_late(105.1 + deadlines.BODY_SECONDS))
        request.add(b"x" * 5 * deadlines.BODY_RATE, 106.0)
        self.assertFalse(request.is_late(110.0 + deadlines.BODY_SECONDS))
        self.assertTrue(request.is_late(110.1 + deadlines.BODY_SECONDS))
        request.latest = 107.0
        self.assertTrue(request.is_late(108.0))

    def test_a_long_body_must_come_faster(self) -> None:
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


class LimitsTest(unittest.TestCase):
    def test_a_thread_takes_what_is_longer_than_the_buffer(self) -> None:
        head = b"POST / HTTP/1.1\r\nX: "
        for data, is_large in (
            (length(BUFFER_BYTES), False),
            (length(BUFFER_BYTES + 1), True),
            (head + b"x" * (BUFFER_BYTES - 1 - len(head)), False),
            (head + b"x" * (BUFFER_BYTES - len(head)), True),
        ):
            with self.subTest(data=data[:60], length=len(data)):
                request = request_of(data)
                self.assertEqual((request.is_whole, request.is_large), (False, is_large))

    def test_a_length_has_18_digits_at_most(self) -> None:
        request = request_of(length("9" * 18))
        self.assertEqual((request.is_whole, request.is_large), (False, True))
        request = request_of(length("9" * 19))  # the parser refuses it
        self.assertEqual((request.is_whole, request.is_large), (True, False))

    def test_a_line_with_a_chunks_size_has_a_limit(self) -> None:
        size_line = b"5;" + b"x" * LONGEST_SIZE_LINE
        self.assertFalse(request_of(CHUNKED + size_line[:LONGEST_SIZE_LINE]).is_whole)
        self.assertTrue(request_of(CHUNKED + size_line[: LONGEST_SIZE_LINE + 1]).is_whole)
        second = CHUNKED + b"5\r\nabcde\r\n"
        self.assertFalse(request_of(second + size_line[:LONGEST_SIZE_LINE]).is_whole)
        self.assertTrue(request_of(second + size_line[: LONGEST_SIZE_LINE + 1]).is_whole)

    def test_the_size_of_a_chunk_is_hexadecimal(self) -> None:
        for digits, size in ((b"10", 16), (b"1f", 31), (b"1F", 31), (b"010", 16)):
            with self.subTest(digits):
                data = CHUNKED + digits + b"\r\n" + b"x" * size + b"\r\n0\r\n\r\n"
                self.assertFalse(request_of(data[:-1]).is_whole)
                self.assertTrue(request_of(data).is_whole)

    def test_trailers_end_with_an_empty_line_and_belong_to_the_last_chunk_only(self) -> None:
        inner = b"4\r\n\r\n\r\n\r\n"  # its data looks like the end
        self.assertFalse(request_of(CHUNKED + inner).is_whole)
        self.assertFalse(request_of(CHUNKED + inner + b"0\r\n").is_whole)
        self.assertTrue(request_of(CHUNKED + inner + b"0\r\n\r\n").is_whole)

    def test_lines_without_cr_are_refused_wherever_they_are(self) -> None:
        for data in (
            b"GET / HTTP/1.1\r\n\nX: y\r\n",
            b"GET / HTTP/1.1\r\nX: y\r\nY: z\n",
            b"GET / HTTP/1.1\r\nX: y\n\r\n",
            b"G\n",
        ):
            for pieces in ([data], [data[:-1], data[-1:]], [bytes([byte]) for byte in data]):
                with self.subTest(data=data, pieces=len(pieces)):
                    self.assertTrue(request_of(*pieces).is_whole)
        self.assertFalse(request_of(length(5) + b"a\nb").is_whole)  # in a body they may be
        self.assertTrue(request_of(length(5) + b"a\nb\nc").is_whole)

    def test_a_time_is_over_after_its_last_moment(self) -> None:
        request = request_of(b"GET / HT")
        request.latest = 3.0
        self.assertEqual([request.is_late(moment) for moment in (2.9, 3.0, 3.1)], [False, False, True])
        request = request_of(length(10))
        request.latest = 3.0
        self.assertEqual([request.is_late(moment) for moment in (3.0, 3.1)], [False, True])

    def test_the_bytes_of_the_head_give_a_body_no_more_time(self) -> None:
        request = request_of(POST + b"X: " + b"x" * 20 * deadlines.BODY_RATE + b"\r\nContent-Length: 9\r\n\r\n")
        self.assertFalse(request.is_late(deadlines.BODY_SECONDS))
        self.assertTrue(request.is_late(deadlines.BODY_SECONDS + 0.1))


class PartsTest(unittest.TestCase):
    def test_a_line_that_the_parser_refuses_begins_no_body(self) -> None:
        request = PartialRequest(0.0)
        request.add(b"GET / HTTP/1.1\nHost", 5.0)
        self.assertTrue(request.is_whole)
        self.assertTrue(request.is_late(deadlines.HEAD_SECONDS + 1), "the time is the head's")

    def test_how_much_of_the_body_is_missing(self) -> None:
        for data, missing in (
            (b"POST /x HT", None),
            (length(5), 5),
            (length(5) + b"abc", 2),
            (length(5) + b"abcde", 0),
            (length(5) + b"abcdeGET / HT", 0),
            (POST + b"\r\n", 0),
            (CHUNKED, None),
            (CHUNKED + b"5\r\nabcde\r\n0\r\n\r\n", None),
        ):
            with self.subTest(data):
                self.assertEqual(request_of(data).missing, missing)

    def test_what_has_no_body_is_not_large(self) -> None:
        for data in (
            b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            POST + b"Content-Length: 0\r\nExpect: 100-continue\r\n\r\n",
            POST + b"Expect: 100-continue\r\n\r\n",
        ):
            with self.subTest(data):
                request = request_of(data)
                self.assertEqual((request.is_whole, request.is_large), (True, False))

    def test_chunks_win_over_a_length(self) -> None:
        both = POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.assertFalse(request_of(both + b"abc").is_whole)
        self.assertTrue(request_of(both + b"0\r\n\r\n").is_whole)
        self.assertIsNone(request_of(both).missing)

    def test_lines_before_the_head_do_not_count_for_its_end(self) -> None:
        for before in (b"\r\n", b"\r\n\r\n", b"\n", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x04\n\n\r\n"):
            data = before + b"GET / HTTP/1.1\r\nX: y\r\n"
            for size in (1, 2, 3, 5, len(data)):
                with self.subTest(before=before, size=size):
                    pieces = [data[at : at + size] for at in range(0, len(data), size)]
                    self.assertFalse(request_of(*pieces).is_whole)
                    self.assertTrue(request_of(*pieces, b"\r\n").is_whole)

    def test_what_is_seen_to_be_whole_at_once(self) -> None:
        for data, expected in (
            (b"GET / HTTP/1.1\r\n\r\n", True),
            (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", True),
            (b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", False),
            (b"GET / HTTP/1.1\r\n\r\nx", False),
            (b"GET / HTTP/1.1\r\n", False),
            (b"GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", False),
            (b"GET / HTTP/1.1\r\nexpect : 100-continue\r\n\r\n", False),
            (POST + b"\r\n", False),
            (b"", False),
        ):
            with self.subTest(data):
                self.assertEqual(is_whole(data), expected)


if __name__ == "__main__":
    unittest.main()
