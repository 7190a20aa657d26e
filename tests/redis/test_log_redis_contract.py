"""What every engine does, on Redis: the cases of tests/unit/test_log.py."""

from __future__ import annotations

import unittest

from sse_threaded import Retention
from sse_threaded.log.redis.log import RedisLog
from tests.harness.redis_server import RedisServer
from tests.unit.test_log import LogContract


class RedisLogTest(LogContract, unittest.TestCase):
    has_lua = True
    trimmed_of_five = 0  # make_older() deletes them, as their expiry does

    redis: RedisServer

    @classmethod
    def setUpClass(cls) -> None:
        cls.redis = RedisServer()
        cls.addClassCleanup(cls.redis.close)

    def make_log(self, retention: Retention | None = None, **options: int) -> RedisLog:
        log = RedisLog(self.redis.url(), retention, **options)
        self.addCleanup(log.close)
        return log

    def make_older(self, log: RedisLog) -> None:
        # Streams whose events are all too old have expired.
        with self.redis.client() as client:
            for key in client.scan_iter(f"{self.keys_of(log)}:channel:*"):
                client.delete(key)

    def remembered(self, log: RedisLog) -> int:
        with self.redis.client() as client:
            return int(client.zcard(f"{self.keys_of(log)}:last"))

    @staticmethod
    def keys_of(log: RedisLog) -> str:
        """The beginning of the names of the log's keys."""
        return f"{{{log.url.partition('prefix=')[2]}}}:{log.epoch}"
