"""Who is there, over a log in PostgreSQL: what is promised of SQLite."""

from __future__ import annotations

import unittest
from pathlib import Path

from sse_threaded import Retention
from sse_threaded.log.postgres.log import PostgresLog
from sse_threaded.log.retention import MESSAGES
from tests.harness.postgres_server import PostgresServer
from tests.live import test_presence

ONCE = True  # it says the same under every Python


class OnPostgres(unittest.TestCase):
    postgres: PostgresServer

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = PostgresServer()
        cls.addClassCleanup(cls.postgres.close)


class PresenceTest(OnPostgres, test_presence.PresenceTest):
    def make_log_url(self, folder: Path) -> str:
        return self.postgres.url(self.postgres.make_database())


class LogTest(OnPostgres):
    def test_old_messages_lose_their_data_and_nobody_is_cut_off(self) -> None:
        log = PostgresLog(self.postgres.url(prefix="p"))
        self.addCleanup(log.close)
        log.append("news", "one")
        for _ in range(3):
            log.append(MESSAGES, "x" * 1000)
        self.postgres.ask("UPDATE p_numbers SET numbered = numbered - interval '2 minutes'")
        log.append(MESSAGES, "new")
        for _ in range(2):
            log._trimmer.drop_data_of_messages()
        self.assertEqual([record.data for record in log.read(0)], ["one", "", "", "", "new"])

    def test_also_where_all_events_are_kept(self) -> None:
        log = PostgresLog(self.postgres.url(prefix="kept"), Retention(count=None, age=None))
        self.addCleanup(log.close)
        log.append("news", "one")
        log.append(MESSAGES, "old")
        self.postgres.ask("UPDATE kept_numbers SET numbered = numbered - interval '2 minutes'")
        log._trimmer._round()
        self.assertEqual([record.data for record in log.read(0)], ["one", ""])
        log._trimmer.start()
        self.assertIsNotNone(log._trimmer._thread)

    def test_events_of_others_stay(self) -> None:
        log = PostgresLog(self.postgres.url(prefix="q"))
        self.addCleanup(log.close)
        log.append("news", "one")
        log._trimmer.drop_data_of_messages()
        self.assertEqual([record.data for record in log.read(0, channels=["news"])], ["one"])


if __name__ == "__main__":
    unittest.main()
