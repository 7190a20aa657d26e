"""The comparison of the log in PostgreSQL with the others, small; and its page."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

from benchmarks.postgres import delivery, publishing, sizes, ways
from benchmarks.postgres.committer import WAYS
from benchmarks.postgres.open_transaction import open_transaction
from benchmarks.postgres.report import PARTS, report
from benchmarks.postgres.servers import LOGS, Servers

ONCE = True  # it says the same under every Python


class BenchmarkTest(unittest.TestCase):
    servers: Servers

    @classmethod
    def setUpClass(cls) -> None:
        cls.servers = Servers()
        cls.servers.__enter__()
        cls.addClassCleanup(cls.servers.__exit__, None, None, None)

    def test_each_part_fills_its_table(self) -> None:
        servers = self.servers
        figures: dict[str, Any] = {"machine": "a machine", "versions": servers.versions(), "commands": {"": "it"}}
        with mock.patch.object(publishing, "WRITERS", (1, 2)):
            figures["publishing"] = publishing.publishing(servers, 0.2)
        self.assertEqual(len(figures["publishing"]), 3 * len(LOGS))
        figures["delivery"] = delivery.delivery(servers, 3)
        self.assertEqual({each["way"] for each in figures["delivery"]}, set(WAYS))
        figures["open"] = open_transaction(servers, 1.0)
        with mock.patch.object(sizes, "_LOOKS", 2):
            figures["sizes"] = sizes.sizes(servers, 0.02)
        figures["processor"] = [{"log": log, "us": 8.0, "publish_us": 900.0, "ratio": 1.0} for log in LOGS]
        with mock.patch.object(ways, "WRITERS", (1,)):
            figures["ways"] = ways.ways(servers.postgres, 1.0, 1.0)
        for each in figures["ways"]:
            each |= {"8": each["1"], "32": each["1"]}
            if "seen" in each:
                # Only one way hides the events of others while a transaction is open.
                self.assertEqual(each["seen"] < 0.5, each["key"] == "oldest-running", each)
        page = report(figures)
        self.assertEqual(page.count("\n## "), len(PARTS))
        self.assertNotIn("nan", page)


if __name__ == "__main__":
    unittest.main()
