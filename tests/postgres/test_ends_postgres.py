"""Channels that are finished, and users that are disconnected, with a log in PostgreSQL: as with one in SQLite."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import ClassVar

from tests.harness.postgres_server import PostgresServer
from tests.live import test_disconnect, test_finish

ONCE = True  # it says the same under every Python


class OnPostgreSQL(unittest.TestCase):
    server: ClassVar[PostgresServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = PostgresServer()
        cls.addClassCleanup(cls.server.close)

    def make_log_url(self, folder: Path) -> str:
        return self.server.url(self.server.make_database())


class FinishTest(OnPostgreSQL, test_finish.FinishTest):
    args = test_finish.PARKED


class ExpiryTest(OnPostgreSQL, test_finish.ExpiryTest):
    pass


class DisconnectTest(OnPostgreSQL, test_disconnect.DisconnectTest):
    args = test_disconnect.PARKED


if __name__ == "__main__":
    unittest.main()
