"""Who is there, over a log in Redis: what is promised of SQLite."""

from __future__ import annotations

import unittest
from pathlib import Path
from unittest import mock

from sse_threaded import HistoryGone
from sse_threaded.log.redis import scripts
from sse_threaded.log.redis.log import RedisLog
from sse_threaded.log.retention import PRESENCE, PRESENCE_SECONDS
from tests.harness.redis_server import RedisServer
from tests.live import test_presence
from tests.support import wait_until

ONCE = True  # it says the same under every Python


class OnRedis(unittest.TestCase):
    redis: RedisServer

    @classmethod
    def setUpClass(cls) -> None:
        cls.redis = RedisServer()
        cls.addClassCleanup(cls.redis.close)


class PresenceTest(OnRedis, test_presence.PresenceTest):
    kinds = (test_presence.PARKED, ("-k", "gevent", "-c", "python:sse_threaded.gunicorn_hooks", "-w", "1"))

    def make_log_url(self, folder: Path) -> str:
        return self.redis.url()


class LogTest(OnRedis):
    def open_log(self) -> RedisLog:
        log = RedisLog(self.redis.url(prefix=self._testMethodName))
        self.addCleanup(log.close)
        return log

    def test_messages_stay_for_a_minute_only(self) -> None:
        log = self.open_log()
        log.append("news", "one")
        log.append(PRESENCE, "x")
        client = self.redis.client()
        self.addCleanup(client.close)
        (key,) = client.keys(f"*{self._testMethodName}*channel:{PRESENCE}")
        self.assertTrue(0 < client.pttl(key) <= PRESENCE_SECONDS * 1000)
        (key,) = client.keys(f"*{self._testMethodName}*channel:news")
        self.assertGreater(client.pttl(key), 10 * PRESENCE_SECONDS * 1000)

    def test_old_messages_are_deleted_and_nobody_is_cut_off(self) -> None:
        quick = scripts._WRITE.replace("local PRESENCE_MS = 60000\n", "local PRESENCE_MS = 50\n")
        self.assertIn("local PRESENCE_MS = 50\n", quick)
        with mock.patch.object(scripts, "_WRITE", quick):
            scripts.writing_script.cache_clear()
            self.addCleanup(scripts.writing_script.cache_clear)
            log = self.open_log()
            first = log.append("news", "one")
            log.append(PRESENCE, "x")
            wait_until(lambda: not log.read(log.trimmed([PRESENCE]), channels=[PRESENCE]))
            self.assertRaises(HistoryGone, log.read, 0, channels=[PRESENCE])
            self.assertEqual([record.data for record in log.read(0, channels=["news"])], ["one"])
            after = int(first.partition("-")[2]) - 1
            self.assertEqual([record.data for record in log.read(after)], ["one", "x"])


if __name__ == "__main__":
    unittest.main()
