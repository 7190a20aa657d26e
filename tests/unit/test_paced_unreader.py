"""Reading the rest of a request on a thread: in how many seconds it must come, and when that is told."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

from sse_threaded.server import deadlines
from sse_threaded.server.paced_unreader import PacedUnreader
from sse_threaded.server.request_body import RequestTooSlow


class FakeSocket:
    """A socket that waits as long as the test says, and notes its time-outs."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timeout: float | None = None
        self.timeouts: list[float | None] = []
        self.answers: list[tuple[float, bytes | BaseException]] = []

    def gettimeout(self) -> float | None:
        return self.timeout

    def settimeout(self, seconds: float | None) -> None:
        self.timeout = seconds
        self.timeouts.append(seconds)

    def recv(self, size: int) -> bytes:
        seconds, answer = self.answers.pop(0)
        self.now += seconds
        if isinstance(answer, BaseException):
            raise answer
        return answer


class PacedUnreaderTest(unittest.TestCase):
    def setUp(self) -> None:
        self.sock = FakeSocket()
        self.unreader: Any = PacedUnreader(self.sock)
        self.is_first = True
        patch = mock.patch("sse_threaded.server.paced_unreader.time.monotonic", lambda: self.sock.now)
        patch.start()
        self.addCleanup(patch.stop)

    def begin(
        self,
        *answers: tuple[float, bytes | BaseException],
        missing: int | None = None,
        on_complete: mock.Mock | None = None,
    ) -> None:
        """Begin a request as a connection does: a new unreader has its first one already."""
        self.sock.answers = list(answers)
        self.sock.timeouts.clear()
        if not self.is_first:
            self.unreader.begin_next()
        self.is_first = False
        if on_complete is not None:
            self.unreader.expect(missing, on_complete)

    def test_the_bytes_of_the_main_thread_come_first(self) -> None:
        self.unreader.buf.write(b"head")
        self.unreader.buf.seek(0)  # the parser may have left it anywhere
        self.unreader.begin_next()
        self.unreader.buf.write(b" more")
        self.assertEqual(self.unreader.read(), b"head more")

    def test_it_waits_for_the_bodys_time_less_what_it_has_waited(self) -> None:
        self.begin((4.0, b"x"), (3.0, b"y" * deadlines.BODY_RATE), (1.0, b"z"))
        for _ in range(3):
            self.unreader.chunk()
        seconds = deadlines.BODY_SECONDS
        rate = 1 / deadlines.BODY_RATE
        expected = [seconds, seconds - 4 + rate, seconds - 7 + 1 + rate]
        self.assertEqual(self.sock.timeouts[1::2], [None] * 3)
        for found, each in zip(self.sock.timeouts[::2], expected, strict=True):
            assert found is not None
            self.assertAlmostEqual(found, each)

    def test_the_apps_own_time_between_two_reads_does_not_count(self) -> None:
        self.begin((1.0, b""), (1.0, b""))
        self.unreader.chunk()
        self.sock.now += 1000
        self.unreader.chunk()
        self.assertEqual(self.sock.timeouts[2], deadlines.BODY_SECONDS - 1)

    def test_when_its_time_is_over_it_is_too_slow(self) -> None:
        self.begin((1.0, TimeoutError()))
        self.assertRaises(RequestTooSlow, self.unreader.chunk)
        self.begin((deadlines.BODY_SECONDS, b""), (0.0, b"late"))
        self.unreader.chunk()
        self.assertRaises(RequestTooSlow, self.unreader.chunk)
        self.assertEqual(len(self.sock.answers), 1, "it does not ask the socket any more")
        self.assertIsNone(self.sock.timeout)

    def test_another_request_has_all_the_time_again(self) -> None:
        self.begin((9.0, b"x"))
        self.unreader.chunk()
        self.begin((1.0, b"y"))
        self.unreader.chunk()
        self.assertEqual(self.sock.timeouts[0], deadlines.BODY_SECONDS)

    def test_a_shorter_time_that_the_parser_has_set_holds(self) -> None:
        self.sock.timeout = 2.0
        self.begin((2.0, TimeoutError()), (0.0, b"x"))
        with self.assertRaises(TimeoutError) as caught:
            self.unreader.chunk()
        self.assertNotIsInstance(caught.exception, RequestTooSlow)
        self.assertEqual(self.sock.timeouts, [2.0, 2.0])
        self.sock.timeout = 50.0
        self.begin((1.0, TimeoutError()))
        self.assertRaises(RequestTooSlow, self.unreader.chunk)
        self.assertEqual(self.sock.timeouts, [deadlines.BODY_SECONDS, 50.0])

    def test_it_tells_once_that_all_has_come(self) -> None:
        told = mock.Mock()
        self.begin(*[(0.0, b"12345")] * 4, missing=10, on_complete=told)
        calls = []
        for _ in range(4):
            self.unreader.chunk()
            calls.append(told.call_count)
        self.assertEqual(calls, [0, 1, 1, 1])
        told.reset_mock()
        self.begin((0.0, b"12345"), on_complete=told)  # it is not known how many are missing
        self.unreader.chunk()
        self.begin((0.0, b"12345"), missing=6, on_complete=told)
        self.unreader.chunk()
        self.begin((0.0, b"12345"), (0.0, b"12345"))  # nobody waits for the end of this one
        self.unreader.chunk()
        self.unreader.chunk()
        told.assert_not_called()


if __name__ == "__main__":
    unittest.main()
