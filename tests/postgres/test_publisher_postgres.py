"""The publisher with a log in PostgreSQL: the cases of tests/unit/test_publisher.py, and real servers."""

from __future__ import annotations

import unittest

from sse_threaded import Hub, Retention
from tests.live.test_publisher import PARKED, KilledWorkers
from tests.postgres.patience import be_patient
from tests.postgres.server_case import PostgresCase
from tests.support import enter
from tests.unit.test_publisher import PublisherCase, PublisherContract


class PostgresPublisherTest(PublisherContract, PostgresCase, PublisherCase):
    def make_hub(self, retention: Retention | None = None) -> Hub:
        if not hasattr(self, "url"):
            be_patient(self)
            self.url = self.postgres.url(self.postgres.make_database())
        return enter(self, Hub(self.url, retention=retention))

    def url_of_process(self) -> str:
        return self.url


class PostgresThreadsTest(KilledWorkers, PostgresCase):
    def log_url(self) -> str:
        return self.postgres.url(self.postgres.make_database())


class PostgresParkedTest(PostgresThreadsTest):
    args = PARKED


if __name__ == "__main__":
    unittest.main()
