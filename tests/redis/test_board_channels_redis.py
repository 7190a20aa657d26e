"""Which streams the board gives out over a log in Redis, also while Redis is away."""

from __future__ import annotations

import unittest

from tests.harness.redis_server import RedisServer
from tests.unit import test_board_channels

ONCE = True  # it says the same under every Python


class ForeignChannelTest(test_board_channels.ForeignChannelCase):
    def test_a_redis_that_is_away_gives_no_channel_away(self) -> None:
        redis = RedisServer()
        self.addCleanup(redis.close)
        url = redis.url()
        since = self.publish(url)
        server = self.serve(url)
        redis.kill()
        self.assert_tells_nothing(server, since)


class UnknownIdTest(test_board_channels.UnknownIdTest):
    def urls(self) -> tuple[str, ...]:
        redis = RedisServer()
        self.addCleanup(redis.close)
        return (redis.url(),)


if __name__ == "__main__":
    unittest.main()
