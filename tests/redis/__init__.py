"""Tests that need redis-server, and one that needs valkey-server."""

from tests.support import require

require(
    "tests/redis",
    modules={"redis": "pip install '.[redis]'"},
    programs={"redis-server": "apt-get install redis-server"},
)
