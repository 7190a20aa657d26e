"""The board's store over a log in Redis: all that tests/unit/test_board_store.py says, and a flush."""

from __future__ import annotations

import unittest

from sse_threaded import LogUnavailable
from tests.harness.redis_server import RedisServer
from tests.unit import test_board_store


class RedisStoreTest(test_board_store.Kept.StoreCases):
    @classmethod
    def setUpClass(cls) -> None:
        cls.redis = RedisServer()
        cls.addClassCleanup(cls.redis.close)

    def make_url(self) -> str:
        return self.redis.url()

    def test_after_a_flush_there_is_a_board_again(self) -> None:
        self.store.create_task("board-1", "to be lost")
        before = self.log.epoch
        with self.redis.client() as client:
            client.flushall()
        with self.assertRaises(LogUnavailable):
            self.store.snapshot("board-1")
        board = self.store.snapshot("board-1")
        self.assertEqual([task["id"] for task in board["tasks"]], ["task-1", "task-2", "task-3", "task-4"])
        self.assertNotEqual(board["lastEventId"].partition("-")[0], before)


if __name__ == "__main__":
    unittest.main()
