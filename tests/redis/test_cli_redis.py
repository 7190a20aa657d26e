"""The command line with a log in Redis."""

import unittest

from sse_threaded import Retention, open_log
from tests.harness.redis_server import RedisServer
from tests.live.test_cli import CliCase


class CliTest(CliCase):
    def test_publish_takes_nothing_from_an_apps_log(self):
        redis = RedisServer()
        self.addCleanup(redis.close)
        self.env["SSE_THREADED_URL"] = self.log_url = redis.url()
        log = open_log(self.log_url, Retention(count=None, age=None))
        self.addCleanup(log.close)
        log.append("news", "first")
        self.assertEqual(self.run_command("publish", "news", "second").returncode, 0)
        self.assertEqual([record.data for record in log.read(0)], ["first", "second"])
        with redis.client() as client:
            self.assertEqual([client.pttl(key) for key in client.keys("*:channel:news")], [-1])

    def test_listen_waits_for_a_redis_that_restarts(self):
        redis = RedisServer("--appendonly", "yes", "--appendfsync", "always")
        self.addCleanup(redis.close)
        self.env["SSE_THREADED_URL"] = self.log_url = redis.url()
        log = self.make_log()
        child = self.start("listen", "news", "--since", log.append("news", "first"))
        log.append("news", "second")
        self.assertEqual(child.stdout.readline(), "data: second\n")
        redis.kill()
        self.read_until(child.stderr, "waiting")
        redis.start()
        log.append("news", "third")
        lines = []
        while "data: third\n" not in lines:
            lines.append(child.stdout.readline())
        self.assertEqual(lines[:2], [f"id: {log.epoch}-2\n", "\n"])

    def test_listen_says_so_where_the_log_in_redis_was_made_anew(self):
        redis = RedisServer()
        self.addCleanup(redis.close)
        self.env["SSE_THREADED_URL"] = self.log_url = redis.url()
        log = self.make_log()
        child = self.start("listen", "news", "--since", log.append("news", "first"))
        log.append("news", "second")
        self.assertEqual(child.stdout.readline(), "data: second\n")
        with redis.client() as client:
            client.flushall()
        while child.stdout.readline() != "event: reset\n":
            pass
        log.append("news", "third")
        while child.stdout.readline() != "data: third\n":
            pass


if __name__ == "__main__":
    unittest.main()
