"""The board's store over a log in PostgreSQL: everything in tests/unit/test_board_store.py, and its tables."""

from __future__ import annotations

import contextlib
import itertools
from typing import ClassVar

from sse_threaded import LogUnavailable, LogUnusable, open_log
from sse_threaded.board.store import open_store
from tests.harness.postgres_server import PostgresServer
from tests.postgres.patience import be_patient
from tests.unit import test_board_store

_numbers = itertools.count()


class PostgresStoreTest(test_board_store.Kept.StoreCases):
    server: ClassVar[PostgresServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = PostgresServer()
        cls.addClassCleanup(cls.server.close)

    def setUp(self) -> None:
        be_patient(self)
        super().setUp()

    def make_url(self) -> str:
        self.prefix = f"log{next(_numbers)}"
        return self.server.url(prefix=self.prefix)

    def test_two_logs_of_one_database_have_boards_of_their_own(self) -> None:
        self.store.create_task("board-1", "New task")
        with contextlib.closing(open_log(self.make_url())) as other:
            self.assertEqual(len(open_store(other).snapshot("board-1")["tasks"]), 4)

    def test_a_schema_of_its_own(self) -> None:
        url = self.server.url(prefix="log", schema="Boards")
        with contextlib.closing(open_log(url)) as log:
            self.assertEqual(open_store(log).create_task("board-1", "New task")[0]["id"], "task-5")
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'Boards' AND tablename LIKE 'log_board_%'"
        self.assertEqual(self.server.ask(tables), [(3,)])

    def test_a_role_that_may_not_make_the_tables(self) -> None:
        self.server.ask("CREATE ROLE visitor LOGIN")
        self.addCleanup(self.server.ask, "DROP ROLE visitor")
        self.addCleanup(self.server.ask, "DROP OWNED BY visitor")
        url = self.make_url()
        with contextlib.closing(open_log(url)) as log:
            log.append("x", "y")
        self.server.ask("GRANT ALL ON ALL TABLES IN SCHEMA public TO visitor")
        url = self.server.url(user="visitor", prefix=self.prefix)
        with contextlib.closing(open_log(url)) as log, self.assertRaises(LogUnusable) as caught:
            open_store(log).snapshot("board-1")
        self.assertIn("permission denied for schema public", str(caught.exception))

    def test_a_role_that_may_not_read_the_tables(self) -> None:
        self.server.ask("CREATE ROLE stranger LOGIN")
        self.addCleanup(self.server.ask, "DROP ROLE stranger")
        self.addCleanup(self.server.ask, "DROP OWNED BY stranger")
        for table in ("events", "numbers", "state", "epochs", "trimmed"):
            self.server.ask(f"GRANT ALL ON {self.prefix}_{table} TO stranger")
        self.store.prepare()
        url = self.server.url(user="stranger", prefix=self.prefix)
        with contextlib.closing(open_log(url)) as log, self.assertRaises(LogUnusable) as caught:
            open_store(log).snapshot("board-1")
        self.assertIn(f"permission denied for table {self.prefix}_board_boards", str(caught.exception))

    def test_while_postgresql_is_away(self) -> None:
        self.store.create_task("board-1", "to stay")
        self.server.stop()
        try:
            with self.assertRaises(LogUnavailable):
                self.store.snapshot("board-1")
        finally:
            self.server.start()
        self.assertEqual(len(self.store.snapshot("board-1")["tasks"]), 5)
