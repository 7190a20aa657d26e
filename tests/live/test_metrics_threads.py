"""The same as test_metrics.py, with streams that hold a thread or a greenlet."""

from __future__ import annotations

import unittest

from tests.live.exactness import ExactnessCase

ONCE = True  # it says the same under every Python


class ThreadExactnessTest(ExactnessCase, unittest.TestCase):
    args = ("-k", "gthread", "--threads", "64")
    kind = "thread"


class GreenletExactnessTest(ExactnessCase, unittest.TestCase):
    """Each worker replaces threads by greenlets after the master has made the hub and its metrics."""

    args = ("-k", "gevent", "--preload")
    kind = "thread"

    test_slow_clients_and_refused_ones = None
    test_a_kill_in_the_middle = None


if __name__ == "__main__":
    unittest.main()
