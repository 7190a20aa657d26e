"""Which streams the board gives out over a log in PostgreSQL, also while PostgreSQL is stopped."""

from __future__ import annotations

import unittest

from tests.harness.postgres_server import PostgresServer
from tests.unit import test_board_channels

ONCE = True  # it says the same under every Python


class ForeignChannelTest(test_board_channels.ForeignChannelCase):
    def test_a_postgresql_that_is_stopped_gives_no_channel_away(self) -> None:
        server = PostgresServer()
        self.addCleanup(server.close)
        since = self.publish(server.url())
        board = self.serve(server.url())
        server.kill()
        self.assert_tells_nothing(board, since)


class UnknownIdTest(test_board_channels.UnknownIdTest):
    def urls(self) -> tuple[str, ...]:
        server = PostgresServer()
        self.addCleanup(server.close)
        return (server.url(),)


if __name__ == "__main__":
    unittest.main()
