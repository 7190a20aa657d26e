"""What the README shows of Redis, run."""

import json
import unittest

from sse_threaded import Hub
from tests.harness.redis_server import RedisServer
from tests.live.test_readme import block


class ReadmeRedisTest(unittest.TestCase):
    def test_a_log_in_redis_and_a_step_of_ones_own(self):
        redis = RedisServer("--requirepass", "password")
        self.addCleanup(redis.close)
        (line,) = block("redis.internal:6379").splitlines()
        self.assertTrue(line.startswith("hub = Hub("))
        names = {"Hub": Hub, "json": json, "number": 3, "event": {"type": "order"}}
        exec(line.replace("redis.internal:6379", f"127.0.0.1:{redis.port}"), names)
        hub = names["hub"]
        self.addCleanup(hub.close)
        exec(block("hub.log.run("), names)
        self.assertEqual(hub.log.look("return redis.call('GET', base .. 'left')"), b"-3")
        self.assertEqual(hub.log.read(0)[0].data, '{"type": "order"}')


if __name__ == "__main__":
    unittest.main()
