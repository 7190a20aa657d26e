"""All that is promised of a log in Redis, and of the board in it, with Valkey in place of Redis."""

import importlib
import pkgutil
import unittest
from unittest import mock

import tests.redis
from tests.harness import redis_server

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


def _cases(module):
    """The test cases that a module has itself, or makes of those of another folder."""
    for case in vars(importlib.import_module(f"tests.redis.{module}")).values():
        if isinstance(case, type) and issubclass(case, unittest.TestCase) and case.__name__.endswith("Test"):
            yield case


_modules = [
    each.name for each in pkgutil.iter_modules(tests.redis.__path__) if each.name.startswith("test_log_redis")
]
for _case in (each for module in [*_modules, "test_board_store_redis"] for each in _cases(module)):
    # unittest runs setUpModule of the module that a class says it is of.
    globals()[_case.__name__] = type(_case.__name__, (_case,), {"__module__": __name__})
del _case  # or it would be found a second time
