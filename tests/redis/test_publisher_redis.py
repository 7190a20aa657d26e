"""The publisher with a log in Redis: the cases of tests/unit/test_publisher.py, and real servers."""

from __future__ import annotations

import unittest

from sse_threaded import Hub, Retention
from tests.harness.redis_server import RedisServer
from tests.live.test_publisher import PARKED, KilledWorkers
from tests.support import enter
from tests.unit.test_publisher import PublisherCase, PublisherContract


class RedisCase(unittest.TestCase):
    redis: RedisServer

    @classmethod
    def setUpClass(cls) -> None:
        cls.redis = RedisServer()
        cls.addClassCleanup(cls.redis.close)


class RedisPublisherTest(PublisherContract, RedisCase, PublisherCase):
    def make_hub(self, retention: Retention | None = None) -> Hub:
        if not hasattr(self, "url"):
            self.url = self.redis.url()
        return enter(self, Hub(self.url, retention=retention))


class RedisThreadsTest(KilledWorkers, RedisCase):
    def log_url(self) -> str:
        return self.redis.url()


class RedisParkedTest(RedisThreadsTest):
    args = PARKED


if __name__ == "__main__":
    unittest.main()
