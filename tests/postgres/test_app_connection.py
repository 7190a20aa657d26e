"""Appending over the app's own connection: psycopg, psycopg2, SQLAlchemy and Django, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import unittest
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, ClassVar
from unittest import mock

import psycopg
from psycopg.rows import dict_row

from sse_threaded import LogUnavailable, LogUnusable, open_log
from sse_threaded.hub import Hub
from sse_threaded.log.postgres.schema import name as name_of
from sse_threaded.log.postgres.url import parse_url
from sse_threaded.testing import uncommitted_events
from tests.harness.postgres_server import PgBouncer, PostgresServer
from tests.postgres.patience import be_patient
from tests.support import missing, wait_until

try:
    import psycopg2
    import psycopg2.extras
    import sqlalchemy
    import sqlalchemy.ext.asyncio
    import sqlalchemy.orm
except ImportError:
    missing("psycopg2 and SQLAlchemy (pip install '.[test]')")


class AppConnectionCase(unittest.TestCase):
    server: ClassVar[PostgresServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = PostgresServer()
        cls.addClassCleanup(cls.server.close)
        cls.server.ask("CREATE TABLE orders (item text)")

    def setUp(self) -> None:
        be_patient(self)
        self.server.ask("TRUNCATE orders")
        self.url = self.server.url(prefix=f"t{id(self) % 10**9}")
        self.hub = Hub(self.url)
        self.addCleanup(self.hub.close)
        self.log = self.hub.log

    def committed(self) -> list[str]:
        self.log.ring()
        return [record.data for record in self.log.read(0)]

    def rows(self) -> list[str]:
        return [item for (item,) in self.server.ask("SELECT item FROM orders")]


# One way to use a driver: begins a transaction, and gives the connection for append and a function that executes.
Way = Callable[[str], AbstractContextManager[tuple[Any, Callable[[str], object], Any]]]


@contextmanager
def over_psycopg(url: str) -> Iterator[tuple[Any, Callable[[str], object], Any]]:
    with closing(psycopg.connect(url)) as connection:
        yield connection, connection.execute, connection


@contextmanager
def over_psycopg_with_factories(url: str) -> Iterator[tuple[Any, Callable[[str], object], Any]]:
    with closing(psycopg.connect(url, row_factory=dict_row, cursor_factory=psycopg.RawCursor)) as connection:
        yield connection, connection.execute, connection


@contextmanager
def over_psycopg2(url: str) -> Iterator[tuple[Any, Callable[[str], object], Any]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        yield connection, cursor.execute, connection


@contextmanager
def over_psycopg2_with_factories(url: str) -> Iterator[tuple[Any, Callable[[str], object], Any]]:
    factories = {
        "connection_factory": psycopg2.extras.LoggingConnection,
        "cursor_factory": psycopg2.extras.RealDictCursor,
    }
    factories["connection_factory"] = type("OwnConnection", (psycopg2.extensions.connection,), {})
    with closing(psycopg2.connect(url, **factories)) as connection, connection.cursor() as cursor:
        yield connection, cursor.execute, connection


@contextmanager
def _engine(url: str, driver: str) -> Iterator[Any]:
    engine = sqlalchemy.create_engine(url.replace("postgresql:", f"postgresql+{driver}:"))
    try:
        yield engine
    finally:
        engine.dispose()


def _session_over(driver: str, scoped: bool = False) -> Way:
    @contextmanager
    def way(url: str) -> Iterator[tuple[Any, Callable[[str], object], Any]]:
        with _engine(url, driver) as engine:
            maker = sqlalchemy.orm.sessionmaker(engine)
            session = sqlalchemy.orm.scoped_session(maker) if scoped else maker()
            with closing(session):
                yield session, lambda statement: session.execute(sqlalchemy.text(statement)), session

    return way


def _connection_over(driver: str, part: Callable[[Any], Any] = lambda connection: connection) -> Way:
    @contextmanager
    def way(url: str) -> Iterator[tuple[Any, Callable[[str], object], Any]]:
        with _engine(url, driver) as engine, engine.connect() as connection:
            yield part(connection), connection.exec_driver_sql, connection

    return way


def _raw_connection(driver: str) -> Way:
    @contextmanager
    def way(url: str) -> Iterator[tuple[Any, Callable[[str], object], Any]]:
        with (
            _engine(url, driver) as engine,
            closing(engine.raw_connection()) as connection,
            closing(connection.cursor()) as cursor,
        ):
            yield connection, cursor.execute, connection

    return way


WAYS: dict[str, Way] = {
    "psycopg": over_psycopg,
    "psycopg with other rows and marks": over_psycopg_with_factories,
    "psycopg2": over_psycopg2,
    "psycopg2 with other classes": over_psycopg2_with_factories,
    "a Session over psycopg": _session_over("psycopg"),
    "a Session over psycopg2": _session_over("psycopg2"),
    "a scoped Session": _session_over("psycopg", scoped=True),
    "a Connection over psycopg": _connection_over("psycopg"),
    "a Connection over psycopg2": _connection_over("psycopg2"),
    "a raw connection over psycopg": _raw_connection("psycopg"),
    "a raw connection over psycopg2": _raw_connection("psycopg2"),
}


class WaysTest(AppConnectionCase):
    def plain_url(self) -> str:
        return self.server.url()

    def test_a_row_and_its_event(self) -> None:
        for name, way in WAYS.items():
            with self.subTest(name), way(self.plain_url()) as (connection, execute, transaction):
                before = self.log.last_sequence()
                execute(f"INSERT INTO orders VALUES ('{name}')")
                self.assertEqual(self.log.append("orders", f"100 % {name} ü\0\1", connection=connection), "")
                self.assertEqual(self.log.append("orders", name, "paid", connection=connection), "")
                self.log.ring()
                self.assertEqual(self.log.last_sequence(), before)
                transaction.commit()
                self.log.ring()
                found = [(record.channel, record.data, record.event) for record in self.log.read(before)]
                self.assertEqual(found, [("orders", f"100 % {name} ü\0\1", None), ("orders", name, "paid")])
        self.assertEqual(self.rows(), list(WAYS))

    def test_a_rollback_takes_both(self) -> None:
        for name, way in WAYS.items():
            with self.subTest(name), way(self.plain_url()) as (connection, execute, transaction):
                execute("INSERT INTO orders VALUES ('gone')")
                self.log.append("orders", "gone", connection=connection)
                transaction.rollback()
                self.log.append("orders", name, connection=connection)
                transaction.commit()
        self.assertEqual(self.committed(), list(WAYS))
        self.assertEqual(self.rows(), [])

    def test_a_savepoint_takes_its_events(self) -> None:
        for name, way in WAYS.items():
            with self.subTest(name), way(self.plain_url()) as (connection, execute, transaction):
                self.log.append("orders", f"{name} 1", connection=connection)
                execute("SAVEPOINT a")
                self.log.append("orders", "gone", connection=connection)
                execute("SAVEPOINT b")
                self.log.append("orders", "gone", connection=connection)
                execute("ROLLBACK TO SAVEPOINT a")
                self.log.append("orders", f"{name} 2", connection=connection)
                self.assertEqual(
                    [event.data for event in uncommitted_events(self.hub, connection)], [f"{name} 1", f"{name} 2"]
                )
                transaction.commit()
        self.assertEqual(self.committed(), [f"{name} {number}" for name in WAYS for number in (1, 2)])

    def test_the_transaction_may_begin_with_the_event(self) -> None:
        for name, way in WAYS.items():
            with self.subTest(name), way(self.plain_url()) as (connection, _, transaction):
                self.log.append("orders", name, connection=connection)
                self.assertEqual(len(uncommitted_events(self.hub, connection)), 1)
                transaction.commit()
        self.assertEqual(self.committed(), list(WAYS))

    def test_nested_sessions_of_sqlalchemy(self) -> None:
        with _engine(self.plain_url(), "psycopg") as engine, sqlalchemy.orm.Session(engine) as session:
            self.log.append("orders", "first", connection=session)
            with contextlib.suppress(ZeroDivisionError), session.begin_nested():
                self.log.append("orders", "gone", connection=session)
                raise ZeroDivisionError
            with session.begin_nested():
                self.log.append("orders", "second", connection=session)
            session.commit()
        self.assertEqual(self.committed(), ["first", "second"])

    def test_in_autocommit_the_event_is_committed_at_once(self) -> None:
        with closing(psycopg.connect(self.plain_url(), autocommit=True)) as connection:
            self.log.append("orders", "psycopg", connection=connection)
        with closing(psycopg2.connect(self.plain_url())) as connection:
            connection.autocommit = True
            self.log.append("orders", "psycopg2", connection=connection)
        with (
            _engine(self.plain_url(), "psycopg") as engine,
            engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            self.log.append("orders", "SQLAlchemy", connection=connection)
        self.assertEqual(self.committed(), ["psycopg", "psycopg2", "SQLAlchemy"])

    def test_other_isolation_levels(self) -> None:
        for level in ("REPEATABLE READ", "SERIALIZABLE"):
            with closing(psycopg.connect(self.plain_url())) as connection:
                connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
                self.log.append("orders", level, connection=connection)
                connection.commit()
        self.assertEqual(self.committed(), ["REPEATABLE READ", "SERIALIZABLE"])

    def test_without_a_ring_the_event_comes_too(self) -> None:
        doorbell = self.log.open_doorbell()
        self.addCleanup(doorbell.close)
        with closing(psycopg.connect(self.plain_url())) as connection:
            self.log.append("orders", "tea", connection=connection)
            connection.commit()
        wait_until(lambda: self.log.last_sequence() == 1, message="the process that listens numbers the event")

    def test_in_a_pipeline(self) -> None:
        with closing(psycopg.connect(self.plain_url())) as connection:
            with connection.pipeline():
                self.log.append("orders", "tea", connection=connection)
            connection.commit()
        self.assertEqual(self.committed(), ["tea"])


class PoolerTest(WaysTest):
    """All of it through PgBouncer in transaction mode."""

    bouncer: ClassVar[PgBouncer]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.bouncer = PgBouncer(cls.server)
        cls.addClassCleanup(cls.bouncer.close)

    def plain_url(self) -> str:
        return self.bouncer.url()


class RefusedTest(AppConnectionCase):
    def assert_refused(self, connection: object, part: str) -> LogUnusable:
        with self.assertRaises(LogUnusable) as caught:
            self.log.append("orders", "tea", connection=connection)
        self.assertIn(part, str(caught.exception))
        return caught.exception

    def test_objects_of_other_kinds(self) -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            self.assert_refused(connection, "cannot use a sqlite3.Connection; give a connection of psycopg,")
        self.assert_refused("x", "cannot use a builtins.str; ")
        self.assert_refused(object(), "cannot use a builtins.object; ")

    def test_another_database_of_django(self) -> None:
        connection = mock.Mock(spec=["alias", "in_atomic_block", "vendor"], vendor="sqlite", alias="default")
        self.assert_refused(connection, "Django's database 'default' is in sqlite, and this log in PostgreSQL")

    def test_another_database_of_sqlalchemy(self) -> None:
        with sqlalchemy.create_engine("sqlite://").connect() as connection:
            self.assert_refused(connection, "SQLAlchemy's dialect sqlite+pysqlite is not known here")

    def test_asynchronous_connections(self) -> None:
        async def use() -> None:
            async with await psycopg.AsyncConnection.connect(self.server.url()) as connection:
                self.assert_refused(connection, "psycopg.AsyncConnection; it is asynchronous")
            url = self.server.url().replace("postgresql:", "postgresql+psycopg:")
            engine = sqlalchemy.ext.asyncio.create_async_engine(url)
            async with sqlalchemy.ext.asyncio.AsyncSession(engine) as session:
                self.assert_refused(session, "AsyncSession; it is asynchronous")
                await session.run_sync(lambda inside: self.log.append("orders", "tea", connection=inside))
                await session.commit()
            await engine.dispose()

        asyncio.run(use())
        self.assertEqual(self.committed(), ["tea"])

    def test_another_database_without_a_log(self) -> None:
        database = self.server.make_database()
        with closing(psycopg.connect(self.server.url(database))) as connection:
            error = self.assert_refused(connection, "sse-threaded schema")
        self.assertIsInstance(error.__cause__, psycopg.errors.UndefinedFunction)

    def test_another_database_with_a_log_of_its_own(self) -> None:
        database = self.server.make_database()
        with closing(open_log(self.url.replace("/postgres?", f"/{database}?"))) as other:
            with closing(psycopg.connect(self.server.url(database))) as connection:
                self.assert_refused(connection, "another")
                connection.rollback()
            self.assertEqual(other.last_sequence(), 0)


class FailureTest(AppConnectionCase):
    """An error leaves the transaction as PostgreSQL left it, and has PostgreSQL's own error as its cause."""

    def test_a_lost_connection(self) -> None:
        for name, way in WAYS.items():
            with self.subTest(name), way(self.server.url()) as (connection, execute, transaction):
                execute("INSERT INTO orders VALUES ('gone')")
                execute("SET application_name = 'app'")
                transaction.commit()
                execute("INSERT INTO orders VALUES ('gone')")
                self.assertEqual(self.server.end_sessions("app"), 1)
                with self.assertRaises(LogUnavailable) as caught:
                    self.log.append("orders", "tea", connection=connection)
                cause = caught.exception.__cause__
                self.assertIsInstance(cause, psycopg.Error | psycopg2.Error)
                self.assertNotIsInstance(cause, sqlalchemy.exc.DBAPIError)
        self.assertEqual(self.committed(), [])

    def test_a_transaction_that_has_failed_before(self) -> None:
        for name, way in WAYS.items():
            with self.subTest(name), way(self.server.url()) as (connection, execute, transaction):
                with self.assertRaisesRegex(Exception, "division by zero"):
                    execute("SELECT 1 / 0")
                with self.assertRaises(LogUnusable) as caught:
                    self.log.append("orders", "tea", connection=connection)
                self.assertIn("current transaction is aborted", str(caught.exception))
                transaction.rollback()
                self.log.append("orders", name, connection=connection)
                transaction.commit()
        self.assertEqual(self.committed(), list(WAYS))

    def test_a_request_to_run_the_transaction_again_passes_unchanged(self) -> None:
        for name, way in WAYS.items():
            with self.subTest(name), way(self.server.url()) as (connection, execute, transaction):
                before = self.log.last_sequence()
                execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                execute("SELECT count(*) FROM orders")
                with self.server.connect() as other, other.transaction():
                    other.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                    other.execute("SELECT count(*) FROM orders")
                    other.execute("INSERT INTO orders VALUES ('one of two')")
                with self.assertRaises(Exception) as caught:
                    execute("INSERT INTO orders VALUES ('two of two')")
                    self.log.append("orders", "tea", connection=connection)
                    transaction.commit()
                error: Any = getattr(caught.exception, "orig", caught.exception)
                self.assertEqual(getattr(error, "sqlstate", None) or error.pgcode, "40001")
                self.assertEqual(self.log.last_sequence(), before)

    def test_a_read_only_transaction(self) -> None:
        with closing(psycopg.connect(self.server.url())) as connection:
            connection.read_only = True
            with self.assertRaises(LogUnavailable) as caught:
                self.log.append("orders", "tea", connection=connection)
        self.assertIsInstance(caught.exception.__cause__, psycopg.errors.ReadOnlySqlTransaction)

    def test_a_role_that_may_not_append(self) -> None:
        self.server.ask("CREATE ROLE reader LOGIN")
        with (
            closing(psycopg.connect(self.server.url(user="reader"))) as connection,
            self.assertRaises(LogUnusable) as caught,
        ):
            self.log.append("orders", "tea", connection=connection)
        self.assertIn("docs/postgresql.md", str(caught.exception))
        self.assertIsInstance(caught.exception.__cause__, psycopg.errors.InsufficientPrivilege)

    def test_an_error_that_nothing_is_known_of(self) -> None:
        raising = "BEGIN RAISE 'no room' USING ERRCODE = 'ZZ123'; END"
        self.server.ask(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {raising} $$")
        self.addCleanup(self.server.ask, "DROP FUNCTION refuse CASCADE")
        trigger = "CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION refuse()"
        self.server.ask(trigger.format(name_of(parse_url(self.url), "events")))
        for way in (over_psycopg, over_psycopg2, WAYS["a Session over psycopg2"]):
            with way(self.server.url()) as (connection, _, _), self.assertRaises(LogUnusable) as caught:
                self.log.append("orders", "tea", connection=connection)
            self.assertIn("PostgreSQL refused: no room", str(caught.exception))
            self.assertIsInstance(caught.exception.__cause__, psycopg.Error | psycopg2.Error)

    def test_errors_of_the_apps_own_code_pass(self) -> None:
        connection = mock.Mock(spec=["in_atomic_block", "vendor", "cursor"], vendor="postgresql")
        connection.cursor.side_effect = ZeroDivisionError
        with self.assertRaises(ZeroDivisionError):
            self.log.append("orders", "tea", connection=connection)


if __name__ == "__main__":
    unittest.main()
