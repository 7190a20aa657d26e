"""Which channels are finished, and how often the log is asked for that."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

from sse_threaded import Hub, LogUnavailable
from sse_threaded.fanout import finished_channels
from tests.support import enter, wait_until

ENVIRON = {"REQUEST_METHOD": "GET", "wsgi.multithread": True}


class LookTest(unittest.TestCase):
    def setUp(self) -> None:
        self.hub = enter(self, Hub())
        patch = mock.patch.object(self.hub.log, "newest", wraps=self.hub.log.newest)
        self.newest = patch.start()
        self.addCleanup(patch.stop)

    def open(self, *channels: str) -> Any:
        response = self.hub.stream(dict(ENVIRON), channels)
        self.addCleanup(response.close)
        return response

    def start(self) -> None:
        """Let the pump begin to read."""
        next(iter(self.open("first").response))
        self.newest.reset_mock()

    def test_before_the_pump_reads_each_opening_asks_the_log(self) -> None:
        """An event that comes before the pump's start is one that it never sees."""
        self.assertEqual(self.open("a").status_code, 200)
        self.hub.finish("a")
        self.start()
        self.assertEqual(self.open("a").status_code, 204)

    def test_then_a_channel_that_goes_on_is_asked_for_once(self) -> None:
        self.start()
        for _ in range(3):
            self.assertEqual(self.open("a").status_code, 200)
            self.assertEqual(self.open("a", "b").status_code, 200)
        self.assertEqual(self.newest.call_count, 1)
        self.hub.publish("a", "x")
        self.assertEqual(self.open("a").status_code, 200)
        self.assertEqual(self.newest.call_count, 1)
        self.hub.finish("a")
        wait_until(lambda: self.open("a").status_code == 204, message="it is finished")
        self.hub.publish("a", "again")
        self.assertEqual(self.open("a").status_code, 200)

    def test_the_memory_is_bounded(self) -> None:
        self.start()
        with mock.patch.object(finished_channels, "_KNOWN_CHANNELS", 3):
            for number in range(20):
                self.open(f"channel {number}")
        self.assertLessEqual(len(self.hub._pump._finished._going), 3)

    def test_a_channel_that_is_finished_during_the_look_is_not_remembered(self) -> None:
        self.start()
        finished = self.hub._pump._finished

        def look(channel: str) -> None:
            self.hub.finish(channel)
            wait_until(lambda: self.hub._pump.position == self.hub.log.last_sequence(), message="the pump sees it")

        self.newest.side_effect = look
        self.open("a")
        self.newest.side_effect = None
        self.assertNotIn("a", finished._going)
        self.assertEqual(self.open("a").status_code, 204)

    def test_after_a_gap_all_is_asked_again(self) -> None:
        self.start()
        self.open("a")
        self.hub._pump._finished.forget()
        self.open("a")
        self.assertEqual(self.newest.call_count, 2)

    def test_if_the_log_cannot_be_read_the_streams_stay(self) -> None:
        body = iter(self.open("a").response)
        next(body)
        self.newest.side_effect = LogUnavailable("memory://", "away")
        self.hub.finish("a")
        self.assertIn(b"stream-finished", next(body))
        wait_until(lambda: self.newest.called, message="the pump asks")
        self.hub.publish("a", "more")
        self.assertIn(b"more", next(body))


if __name__ == "__main__":
    unittest.main()
