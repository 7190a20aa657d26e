"""Channels that are finished, and users that are disconnected, with a log in Redis: as with one in SQLite."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import ClassVar

from tests.harness.redis_server import RedisServer
from tests.live import test_disconnect, test_finish

ONCE = True  # it says the same under every Python


class OnRedis(unittest.TestCase):
    server: ClassVar[RedisServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = RedisServer("--appendonly", "yes")
        cls.addClassCleanup(cls.server.close)

    def make_log_url(self, folder: Path) -> str:
        return self.server.url()  # a log of its own


class FinishTest(OnRedis, test_finish.FinishTest):
    args = test_finish.PARKED


class ExpiryTest(OnRedis, test_finish.ExpiryTest):
    pass


class DisconnectTest(OnRedis, test_disconnect.DisconnectTest):
    args = test_disconnect.PARKED


if __name__ == "__main__":
    unittest.main()
