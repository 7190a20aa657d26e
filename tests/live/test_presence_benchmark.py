"""The benchmark of presence, small: it ends, and after a reload no client is told of anybody."""

from __future__ import annotations

import unittest
from unittest import mock

from benchmarks.presence import deploy, gossip
from tests.support import sqlite_url, temporary_directory

ONCE = True  # it says the same under every Python


class PresenceBenchmarkTest(unittest.TestCase):
    def test_simulated_people(self) -> None:
        url = sqlite_url(temporary_directory(self))
        with mock.patch.multiple(gossip, _COMING=0.5, _STEADY=0.5):
            rows = list(gossip.measure(url, 500, 2))
        self.assertEqual(len(rows), 13)
        self.assertIn("500 people come", rows[0][0])

    def test_a_deploy(self) -> None:
        # A process that begins waits up to two seconds for the list of the other.
        with mock.patch.multiple(deploy, _GROUP=10, _AFTER=2.5):
            for way in deploy.WAYS[:2]:
                found = deploy.measure(way, sqlite_url(temporary_directory(self)), 30)
                self.assertEqual(found.changes, 0)
                self.assertGreater(found.opening_bytes, 50)


if __name__ == "__main__":
    unittest.main()
