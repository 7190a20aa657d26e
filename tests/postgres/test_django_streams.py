"""A hundred streams of a Django app in PostgreSQL, with the log in another place: no database connection."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any, ClassVar

from tests.harness.postgres_server import PostgresServer
from tests.live.frameworks.case import Served
from tests.live.frameworks.django_streams import DjangoStreamsCase

ONCE = True  # Django is the same under every Python


class PostgresTest(DjangoStreamsCase):
    server: ClassVar[PostgresServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = PostgresServer()
        cls.addClassCleanup(cls.server.close)

    def database(self, folder: Path) -> dict[str, Any]:
        self.server.ask("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        self.server.ask("CREATE DATABASE shop")
        place = {"HOST": "127.0.0.1", "PORT": str(self.server.port), "USER": self.server.user}
        return {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", **place}

    def connections(self, served: Served) -> int:
        ((count,),) = self.server.ask("SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'")
        return int(count)

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")

    def test_with_atomic_requests_under_gthread(self) -> None:
        self.check("gthread", ATOMIC_REQUESTS=True)

    def test_with_atomic_requests_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker", ATOMIC_REQUESTS=True)


if __name__ == "__main__":
    unittest.main()
