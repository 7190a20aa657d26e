"""Who is there, over a log in Redis: what is promised of SQLite."""

from __future__ import annotations

import unittest
from pathlib import Path
from unittest import mock

from sse_threaded import HistoryGone, Hub
from sse_threaded.log.redis import scripts
from sse_threaded.log.redis.log import RedisLog
from sse_threaded.log.retention import MESSAGES, MESSAGES_SECONDS
from sse_threaded.presence.times import PresenceTimes
from tests.harness.redis_server import RedisServer
from tests.live import test_presence
from tests.support import enter, wait_until

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


class OutageTest(OnRedis):
    def test_while_redis_does_not_answer_no_process_seems_dead(self) -> None:
        url = self.redis.url()
        hubs = [enter(self, Hub(url)) for _ in range(2)]
        for number, hub in enumerate(hubs):
            hub._presence.times = PresenceTimes(grace=0.5, batch=0.02, beat=0.2)
            hub.presence("room")
            hub._pump.presence.attendance.enter(f"u{number}", ["room"])
        both = ["u0", "u1"]
        for hub in hubs:
            wait_until(lambda: hub.presence("room") == both, message="both")  # noqa: B023
        session = hubs[0]._presence._session
        assert session is not None
        self.redis.pause()
        try:
            with self.assertLogs("sse_threaded.presence.gossip", "WARNING"):
                wait_until(lambda: session._failures, timeout=30, message="a beat that is not written")
        finally:
            self.redis.go_on()
        wait_until(lambda: not session._failures, timeout=30, message="a beat that is written")
        last = hubs[0].log.last_sequence()
        while hubs[0].log.last_sequence() < last + 20:
            self.assertEqual([hub.presence("room") for hub in hubs], [both, both])


class LogTest(OnRedis):
    def open_log(self) -> RedisLog:
        log = RedisLog(self.redis.url(prefix=self._testMethodName))
        self.addCleanup(log.close)
        return log

    def test_messages_stay_for_a_minute_only(self) -> None:
        log = self.open_log()
        log.append("news", "one")
        log.append(MESSAGES, "x")
        client = self.redis.client()
        self.addCleanup(client.close)
        (key,) = client.keys(f"*{self._testMethodName}*channel:{MESSAGES}")
        self.assertTrue(0 < client.pttl(key) <= MESSAGES_SECONDS * 1000)
        (key,) = client.keys(f"*{self._testMethodName}*channel:news")
        self.assertGreater(client.pttl(key), 10 * MESSAGES_SECONDS * 1000)

    def test_old_messages_are_deleted_and_nobody_is_cut_off(self) -> None:
        quick = scripts._WRITE.replace("local MESSAGES_MS = 60000\n", "local MESSAGES_MS = 50\n")
        self.assertIn("local MESSAGES_MS = 50\n", quick)
        with mock.patch.object(scripts, "_WRITE", quick):
            scripts.writing_script.cache_clear()
            self.addCleanup(scripts.writing_script.cache_clear)
            log = self.open_log()
            first = log.append("news", "one")
            log.append(MESSAGES, "x")
            wait_until(lambda: not log.read(log.trimmed([MESSAGES]), channels=[MESSAGES]))
            self.assertRaises(HistoryGone, log.read, 0, channels=[MESSAGES])
            self.assertEqual([record.data for record in log.read(0, channels=["news"])], ["one"])
            after = int(first.partition("-")[2]) - 1
            self.assertEqual([record.data for record in log.read(after)], ["one", "x"])


if __name__ == "__main__":
    unittest.main()
