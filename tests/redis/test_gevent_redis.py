"""A hub under gunicorn's gevent workers with a log in Redis."""

from __future__ import annotations

import unittest
from concurrent.futures import ThreadPoolExecutor

from sse_threaded import Hub
from tests.harness.redis_server import RedisServer
from tests.live.test_gevent import GeventCase, setUpModule

__all__ = ["setUpModule"]

ONCE = True  # it says the same under every Python


class GeventRedisTest(GeventCase):
    def test_a_log_in_redis(self) -> None:
        redis = RedisServer()
        self.addCleanup(redis.close)
        for args in ((), ("--preload",)):
            with self.subTest(args):
                self.log_url = redis.url()
                server = self.serve(*args)
                clients = [self.open(server) for _ in range(20)]
                with ThreadPoolExecutor(5) as pool:
                    for post in [pool.submit(self.publish, server, "here") for _ in range(5)]:
                        post.result(20)
                with Hub(self.log_url) as other:
                    other.publish("news", "elsewhere")
                for client in clients:
                    data = [event.data for event in client.events(6)]
                    self.assertEqual(data, ["here"] * 5 + ["elsewhere"])


if __name__ == "__main__":
    unittest.main()
