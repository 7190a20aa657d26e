"""Log lines that are limited: one of each kind in a period."""

from __future__ import annotations

import logging
import threading
import unittest

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
