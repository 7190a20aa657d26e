"""All that is promised of a log in Redis, and of the board in it, with Valkey in place of Redis."""

import unittest
from unittest import mock

from tests.harness import redis_server
from tests.redis import test_board_store_redis, test_log_redis, test_log_redis_nodes
from tests.unit import test_log

ONCE = True  # it says the same under every Python

_valkey = mock.patch.object(redis_server, "program", "valkey-server")


def setUpModule():
    _valkey.start()
    unittest.addModuleCleanup(_valkey.stop)


class ServerTest(unittest.TestCase):
    def test_it_is_valkey(self):
        server = redis_server.RedisServer()
        self.addCleanup(server.close)
        with server.client() as client:
            self.assertEqual(client.info("server")["server_name"], "valkey")


def _adopt(case):
    # unittest runs setUpModule of the module that a class says it is of.
    globals()[case.__name__] = type(case.__name__, (case,), {"__module__": __name__})


_redis = (*vars(test_log_redis).values(), *vars(test_log_redis_nodes).values())
for _case in (test_log.RedisLogTest, test_board_store_redis.RedisStoreTest, *_redis):
    if isinstance(_case, type) and issubclass(_case, unittest.TestCase) and _case.__name__.endswith("Test"):
        _adopt(_case)
del _case, _redis  # or it would be found a second time
