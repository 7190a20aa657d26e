"""What every engine does, on PostgreSQL: the cases of tests/unit/test_log.py."""

from __future__ import annotations

import unittest

from sse_threaded import Retention
from sse_threaded.log.postgres.log import PostgresLog
from tests.harness.postgres_server import PostgresServer
from tests.postgres.patience import be_patient
from tests.unit.test_log import LogContract


class PostgresLogTest(LogContract, unittest.TestCase):
    has_connection = True

    postgres: PostgresServer
    made = 0

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = PostgresServer()
        cls.addClassCleanup(cls.postgres.close)

    def setUp(self) -> None:
        be_patient(self)

    def make_log(self, retention: Retention | None = None, **options: int) -> PostgresLog:
        PostgresLogTest.made += 1
        log = PostgresLog(self.postgres.url(prefix=f"t{self.made}"), retention, **options)
        self.addCleanup(log.close)
        return log

    @staticmethod
    def prefix_of(log: PostgresLog) -> str:
        """The beginning of the names of the log's tables."""
        return log.url.partition("prefix=")[2]

    def make_older(self, log: PostgresLog) -> None:
        self.postgres.ask(f"UPDATE {self.prefix_of(log)}_numbers SET numbered = numbered - interval '2 hours'")

    def remembered(self, log: PostgresLog) -> int:
        return int(self.postgres.ask(f"SELECT count(*) FROM {self.prefix_of(log)}_trimmed")[0][0])
