"""Log lines that are limited: one of each kind in a period."""

from __future__ import annotations

import logging
import threading
import unittest
from unittest import mock

from sse_threaded.throttled_log import ThrottledLog
from tests.support import wait_until

LOGGER = logging.getLogger("tests.throttled")


class ThrottledLogTest(unittest.TestCase):
    def test_each_kind_comes_once(self) -> None:
        throttled = ThrottledLog(LOGGER)
        with self.assertLogs(LOGGER, "WARNING") as logs:
            for number in range(10):
                throttled.warning("away", "away: %s", number)
                throttled.warning("full", "full: %s", number)
        self.assertEqual([record.getMessage() for record in logs.records], ["away: 0", "full: 0"])

    def test_after_a_while_it_comes_again_with_the_number_of_those_left_out(self) -> None:
        throttled = ThrottledLog(LOGGER, period=0.05)
        with self.assertLogs(LOGGER, "WARNING") as logs:
            for _ in range(3):
                throttled.warning("away", "%s %% away", "log")
            wait_until(lambda: throttled.warning("away", "%s %% away", "log") or len(logs.records) > 1)
        self.assertEqual(logs.records[0].getMessage(), "log % away")
        again = logs.records[1].getMessage()
        self.assertRegex(again, r"^log % away \(and [0-9]+ more like this since the last line\)$")

    def test_the_lines_that_were_left_out_are_counted_anew_each_time(self) -> None:
        throttled = ThrottledLog(LOGGER)
        now = 1000.0
        with self.assertLogs(LOGGER, "WARNING") as logs, mock.patch("time.monotonic", lambda: now):
            for left_out in (0, 1, 3):
                for _ in range(1 + left_out):
                    throttled.warning("away", "away")
                now += 59.9
                throttled.warning("away", "left out")
                now += 0.1
            throttled.warning("away", "away")
        more = " (and %d more like this since the last line)"
        expected = ["away", "away" + more % 1, "away" + more % 2, "away" + more % 4]
        self.assertEqual([record.getMessage() for record in logs.records], expected)

    def test_it_knows_64_kinds(self) -> None:
        throttled = ThrottledLog(LOGGER)
        with self.assertLogs(LOGGER, "WARNING") as logs:
            for number in range(64):
                throttled.warning(str(number), "x")
            throttled.warning("0", "known")
            throttled.warning("64", "x")
            throttled.warning("1", "known")
            throttled.warning("0", "forgotten")
        messages = [record.getMessage() for record in logs.records]
        self.assertEqual(messages, ["x"] * 65 + ["forgotten"])

    def test_the_kinds_it_knows_are_bounded(self) -> None:
        throttled = ThrottledLog(LOGGER)
        with self.assertLogs(LOGGER, "WARNING") as logs:
            for number in range(1000):
                throttled.warning(str(number), "x")
                throttled.warning(str(number), "left out")
            self.assertEqual({record.getMessage() for record in logs.records}, {"x"})
            throttled.warning("990", "left out: the newest kinds are known")
            for number in range(900):
                throttled.warning(str(number), "of a kind that was forgotten")
        self.assertEqual({record.getMessage() for record in logs.records[1000:]}, {"of a kind that was forgotten"})
        self.assertEqual(len(logs.records), 1900)

    def test_many_threads_write_one_line(self) -> None:
        throttled = ThrottledLog(LOGGER)
        together = threading.Barrier(8)

        def write() -> None:
            together.wait(30)
            for _ in range(50):
                throttled.warning("away", "away")

        with self.assertLogs(LOGGER, "WARNING") as logs:
            threads = [threading.Thread(target=write) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        self.assertEqual(len(logs.records), 1)


if __name__ == "__main__":
    unittest.main()
