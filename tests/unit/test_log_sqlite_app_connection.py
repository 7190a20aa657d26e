"""Appending over the app's own connection: which connections, to which files, in which transactions."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import unittest
from unittest import mock

import sqlalchemy
import sqlalchemy.ext.asyncio
import sqlalchemy.orm

from sse_threaded import LogError, LogUnavailable, LogUnusable, open_log
from sse_threaded.log.sqlite.file import SQLiteFile
from sse_threaded.log.sqlite.high_water_mark import HighWaterMark
from sse_threaded.log.sqlite.log import SQLiteLog
from sse_threaded.log.sqlite.timeouts import Timeouts
from sse_threaded.testing import uncommitted_events
from tests.support import missing, sqlite_url, temporary_directory, wait_until

try:
    import django.conf
    import django.db
except ImportError:
    django = None

# Options of a connection that commits each statement by itself. Python 3.12 has a second way.
AUTOCOMMIT = [{"isolation_level": None}]
if sys.version_info >= (3, 12):
    AUTOCOMMIT.append({"autocommit": True})

PUBLISH = """
import sqlite3, sys
from sse_threaded import open_log
url, path, times = sys.argv[1:]
log = open_log(url)
mine = sqlite3.connect(path, timeout=60, isolation_level=None)
sys.stdin.readline()
for _ in range(int(times)):
    print(log.append("a", "x", connection=mine))
"""


# A process that ends after an append of its own, in each way; without a close of the log.
LEAVE = """
import os, signal, sqlite3, sys
from pathlib import Path
from sse_threaded import open_log
path, way = sys.argv[1:]
log = open_log(Path(path))
mine = sqlite3.connect(path)
print(log.append("a", "kept"), flush=True)
log.append("a", "gone", connection=mine)
if way != "open":
    mine.commit() if way == "committed" else mine.rollback()
if way == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


class ConnectionCase(unittest.TestCase):
    def setUp(self):
        self.folder = temporary_directory(self)
        self.path = self.folder / "lög.db"
        self.log = open_log(self.path)
        self.addCleanup(self.log.close)

    def connect(self, name, **options):
        connection = sqlite3.connect(name, **options)
        self.addCleanup(connection.close)
        return connection

    def assert_refused(self, connection, *words):
        with self.assertRaises(LogUnusable) as caught:
            self.log.append("a", "x", connection=connection)
        for word in words:
            self.assertIn(str(word), str(caught.exception))
        self.assertEqual(self.log.last_sequence(), 0)


class LateLogTest(ConnectionCase):
    def test_a_log_that_could_not_be_opened_at_first(self):
        path = self.folder / "later" / "log.db"
        log = open_log(path)  # its folder is not there yet
        self.addCleanup(log.close)
        path.parent.mkdir()
        with contextlib.closing(open_log(path)) as another:
            another.append("a", "x")
        mine = self.connect(path)
        ids = []

        def is_appended():
            with contextlib.suppress(LogUnavailable):  # a failure is remembered for a moment
                ids.append(log.append("a", "y", connection=mine))
            return ids

        wait_until(is_appended, message="the log to be taken up")
        mine.commit()
        self.assertEqual(ids, [f"{log.epoch}-2"])
        self.assertEqual(log.last_sequence(), 2)


class OtherFileTest(ConnectionCase):
    def test_both_files_are_named(self):
        other = self.folder / "other.db"
        self.assert_refused(self.connect(other), self.path, other)

    def test_another_log_gets_nothing(self):
        # A relative path names two files in two working directories.
        other = open_log(sqlite_url(self.folder, "other.db"))
        self.addCleanup(other.close)
        with contextlib.closing(sqlite3.connect(self.folder / "other.db")) as mine:
            self.assert_refused(mine, self.path, self.folder / "other.db")
            mine.commit()
        self.assertEqual(other.last_sequence(), 0)

    def test_a_database_in_memory_with_what_to_set_in_django(self):
        for name in (":memory:", "", "file:memorydb_default?mode=memory&cache=shared"):
            with self.subTest(name=name):
                connection = self.connect(name, uri=name.startswith("file:"))
                self.assert_refused(connection, self.path, "in memory", "'TEST'", "'NAME'")

    def test_a_file_that_was_removed(self):
        mine = self.connect(self.path)
        self.path.rename(self.folder / "moved.db")
        with self.assertRaises(LogError):
            self.log.append("a", "x", connection=mine)

    def test_a_file_that_was_replaced(self):
        self.path.rename(self.folder / "moved.db")
        open_log(self.path).close()
        with self.assertRaisesRegex(LogUnusable, "replaced"), self.connect(self.path) as mine:
            self.log.append("a", "x", connection=mine)
        with contextlib.closing(open_log(self.path)) as new:
            self.assertEqual(new.last_sequence(), 0)


class SameFileTest(ConnectionCase):
    def assert_appends(self, connection):
        before = self.log.last_sequence()
        self.assertEqual(self.log.append("a", "x", connection=connection), f"{self.log.epoch}-{before + 1}")
        self.assertEqual(self.log.last_sequence(), before, "not before the commit")
        connection.commit()
        self.assertEqual(self.log.last_sequence(), before + 1)

    def test_by_whichever_path(self):
        (self.folder / "link.db").symlink_to(self.path)
        os.link(self.path, self.folder / "hard.db")
        for name in (self.path, os.path.relpath(self.path), self.folder / "link.db", f"file:{self.path}"):
            with self.subTest(name=name):
                self.assert_appends(self.connect(name, uri=True))

    def test_an_attached_file(self):
        # The log, and not the other one, though the other one comes first.
        other = open_log(sqlite_url(self.folder, "other.db"))
        self.addCleanup(other.close)
        for number, name in enumerate(("log", "the log", 'quo"ted')):
            with self.subTest(name=name):
                mine = self.connect(self.folder / "other.db")
                quoted = name.replace('"', '""')
                mine.execute(f'ATTACH ? AS "{quoted}"', (str(self.path),))
                self.log.append("a", "x", connection=mine)
                mine.commit()
                self.assertEqual((self.log.last_sequence(), other.last_sequence()), (number + 1, 0))

    def test_a_transaction_that_has_begun_before_somebody_else_wrote(self):
        mine = self.connect(self.path, isolation_level=None)
        mine.execute("BEGIN")
        self.log.append("a", "theirs")
        self.log.append("a", "x", connection=mine)
        mine.execute("COMMIT")
        self.assertEqual([record.data for record in self.log.read(0)], ["theirs", "x"])

    def test_no_transaction_begins_where_the_connection_is_refused(self):
        mine = self.connect(self.folder / "other.db")
        with self.assertRaises(LogUnusable):
            self.log.append("a", "x", connection=mine)
        self.assertFalse(mine.in_transaction)

    def test_rows_and_texts_of_another_kind(self):
        for factory in (sqlite3.Row, lambda cursor, row: list(row)):
            for text in (bytes, lambda raw: raw.decode("latin-1")):
                with self.subTest(factory=factory, text=text):
                    mine = self.connect(self.path)
                    mine.row_factory, mine.text_factory = factory, text
                    self.assert_appends(mine)
                    self.assertIs(mine.text_factory, text)


class AutocommitTest(ConnectionCase):
    """Where no transaction is open, the event commits by itself, as in Django outside of ``atomic()``."""

    def assert_as_before(self, connection, options):
        self.assertFalse(connection.in_transaction)
        for name, value in options.items():
            self.assertEqual(getattr(connection, name), value)

    def assert_can_write(self):
        other = self.connect(self.path, timeout=0)
        other.execute("BEGIN IMMEDIATE")
        other.rollback()

    def test_nobody_appends_between_the_event_and_its_mark(self):
        other = SQLiteLog(sqlite_url(self.folder, self.path.name), timeouts=Timeouts(lock=0))
        self.addCleanup(other.close)
        reserve, busy = HighWaterMark.reserve, []

        def reserve_later(mark, *arguments, **options):
            if not busy:  # else it is the other's own
                busy.append(True)
                with contextlib.suppress(LogUnavailable):  # it says that the file is locked
                    other.append("a", "theirs")
                busy.clear()
            reserve(mark, *arguments, **options)

        for options in AUTOCOMMIT:
            with self.subTest(options=options):
                mine = self.connect(self.path, **options)
                before = self.log.last_sequence()
                with mock.patch.object(HighWaterMark, "reserve", reserve_later):
                    event_id = self.log.append("a", "x", connection=mine)
                self.assert_as_before(mine, options)
                self.assertEqual(event_id, f"{self.log.epoch}-{before + 1}")
                self.assertEqual(self.log.last_sequence(), before + 1)
                self.assertEqual(self.log.append("a", "next"), f"{self.log.epoch}-{before + 2}")

    def test_a_number_whose_commit_failed_is_taken_back_when_the_log_is_closed(self):
        class Full(sqlite3.Connection):
            def execute(self, statement, *values):
                if statement == "COMMIT":
                    raise sqlite3.OperationalError("disk I/O error")
                return super().execute(statement, *values)

        mine = self.connect(self.path, isolation_level=None, factory=Full)
        epoch = self.log.epoch
        self.assertRaises(LogUnavailable, self.log.append, "a", "x", connection=mine)
        mine.close()
        self.log.close()
        with contextlib.closing(open_log(self.path)) as log:
            self.assertEqual((log.epoch, log.last_sequence()), (epoch, 0))

    def test_processes_append_without_a_pause(self):
        times, command = 300, [sys.executable, "-c", PUBLISH, f"sqlite:///{self.path}", str(self.path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen([*command, str(times)], **pipes) for _ in range(2)]
        for process in processes:
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        ids = []
        for process in processes:
            printed, errors = process.communicate(timeout=120)
            self.assertEqual((process.returncode, errors), (0, ""))
            ids += printed.split()
        expected = {f"{self.log.epoch}-{number}" for number in range(1, 2 * times + 1)}
        self.assertEqual((len(ids), set(ids)), (2 * times, expected))

    def test_an_event_that_is_refused_is_not_in_the_file(self):
        for options in AUTOCOMMIT:
            for kind, step in ((SQLiteFile, "require_unchanged"), (HighWaterMark, "reserve")):
                with self.subTest(options=options, step=step):
                    mine = self.connect(self.path, **options)
                    refuse = mock.patch.object(kind, step, side_effect=KeyboardInterrupt)
                    with refuse, self.assertRaises(KeyboardInterrupt):
                        self.log.append("a", "x", connection=mine)
                    self.assert_as_before(mine, options)
                    self.assertEqual(mine.execute("SELECT count(*) FROM sse_events").fetchone(), (0,))
                    self.assert_can_write()

    def test_only_the_logs_file_is_locked(self):
        # An event in an attached file does not wait for a writer of the app's main file.
        app = self.folder / "app.db"
        for options in AUTOCOMMIT:
            with self.subTest(options=options):
                writer = self.connect(app, isolation_level=None)
                writer.execute("BEGIN IMMEDIATE")
                mine = self.connect(app, timeout=0, **options)
                mine.execute("ATTACH ? AS log", (str(self.path),))
                before = self.log.last_sequence()
                self.log.append("a", "x", connection=mine)
                self.assertEqual(self.log.last_sequence(), before + 1)
                self.assert_as_before(mine, options)
                writer.execute("ROLLBACK")

    def test_an_open_transaction_is_left_to_the_app(self):
        for begin in ("BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT mine"):
            for options in AUTOCOMMIT:
                with self.subTest(begin=begin, options=options):
                    mine = self.connect(self.path, **options)
                    mine.execute(begin)
                    self.log.append("a", "x", connection=mine)
                    self.assertTrue(mine.in_transaction)
                    mine.execute("ROLLBACK")
                    self.assertEqual(self.log.last_sequence(), 0)

    def test_a_connection_that_begins_by_itself_is_left_to_the_app(self):
        ways = [{}, {"isolation_level": "IMMEDIATE"}]
        if sys.version_info >= (3, 12):
            ways += [{"autocommit": False}, {"autocommit": False, "isolation_level": None}]
        for options in ways:
            with self.subTest(options=options):
                mine = self.connect(self.path, **options)
                self.log.append("a", "x", connection=mine)
                self.assertTrue(mine.in_transaction)
                mine.rollback()
                self.assertEqual(self.log.last_sequence(), 0)


class OtherThreadTest(ConnectionCase):
    def test_it_does_not_wait_for_another_threads_snapshot(self):
        # The app's connection has the write lock, so the writers of all processes would wait, too.
        self.log = SQLiteLog(
            sqlite_url(self.folder, self.path.name), timeouts=Timeouts(lock=600)
        )  # longer than this test waits
        self.addCleanup(self.log.close)
        for begin in (None, "BEGIN", "BEGIN IMMEDIATE"):
            for level in ("", None):
                with self.subTest(begin=begin, level=level):
                    mine = self.connect(self.path, isolation_level=level, check_same_thread=False)
                    before = self.log.last_sequence()
                    ids, done = [], threading.Event()

                    def append(mine=mine, begin=begin, ids=ids, done=done):
                        if begin:
                            mine.execute(begin)
                        ids.append(self.log.append("a", "x", connection=mine))
                        if mine.in_transaction:
                            mine.execute("COMMIT")
                        done.set()

                    thread = threading.Thread(target=append)
                    with self.log.snapshot():
                        thread.start()
                        is_done = done.wait(20)
                    thread.join()
                    self.assertTrue(is_done, "before the snapshot's end")
                    self.assertEqual(ids, [f"{self.log.epoch}-{before + 1}"])
                    self.assertEqual(self.log.last_sequence(), before + 1)
                    self.assertEqual(self.log.append("a", "next"), f"{self.log.epoch}-{before + 2}")


class LeavingTest(unittest.TestCase):
    """No process uses the log when the next one opens it, so SQLite has put all into the file."""

    def test_a_process_that_ends_after_its_own_transaction(self):
        for way in ("rolled back", "open", "killed", "committed"):
            with self.subTest(way):
                path = temporary_directory(self) / "log.db"
                ids = []
                for _ in range(2):
                    done = subprocess.run(
                        [sys.executable, "-c", LEAVE, str(path), way],
                        stdout=subprocess.PIPE,
                        text=True,
                        check=False,
                    )
                    ids.append(done.stdout.strip())
                with contextlib.closing(open_log(path)) as log:
                    ids.append(log.append("a", "last"))
                    data = [record.data for record in log.read(0)]
                self.assertEqual(len({event_id.partition("-")[0] for event_id in ids}), 1, f"one epoch: {ids}")
                numbers = [int(event_id.partition("-")[2]) for event_id in ids]
                # A number that was taken by the transaction is not given again.
                self.assertEqual(numbers, [1, 3, 5])
                expected = ["kept", "gone"] * 2 if way == "committed" else ["kept"] * 2
                self.assertEqual(data, [*expected, "last"])


class KindTest(ConnectionCase):
    def test_what_wraps_one(self):
        class Fairy:
            """As SQLAlchemy's pool hands out."""

            driver_connection = self.connect(self.path)

        self.log.append("a", "x", connection=Fairy())
        Fairy.driver_connection.commit()
        self.assertEqual(self.log.last_sequence(), 1)

    def test_what_is_none(self):
        for wrong in ("log.db", self.path, self.connect(self.path).cursor(), object(), 1):
            with self.subTest(wrong=wrong):
                self.assert_refused(wrong, "sqlite3.Connection", type(wrong).__name__)

    def django_connection(self, **settings):
        if django is None:
            missing("django (pip install django)")
        if not django.conf.settings.configured:
            django.conf.settings.configure()
        connection = django.db.ConnectionHandler({"default": settings})["default"]
        self.addCleanup(connection.close)
        return connection

    def test_djangos(self):
        mine = self.django_connection(ENGINE="django.db.backends.sqlite3", NAME=str(self.path))
        self.log.append("a", "x", connection=mine)
        self.assertEqual(self.log.last_sequence(), 1)
        mine.set_autocommit(False)
        self.log.append("a", "x", connection=mine)
        self.assertEqual(self.log.last_sequence(), 1)
        mine.rollback()
        self.log.append("a", "x", connection=mine)
        mine.commit()
        self.assertEqual(self.log.last_sequence(), 2)

    def test_djangos_of_another_database(self):
        self.assert_refused(self.django_connection(ENGINE="django.db.backends.dummy"), "DatabaseWrapper")
        memory = self.django_connection(ENGINE="django.db.backends.sqlite3", NAME=":memory:")
        self.assert_refused(memory, "a database in memory", "'test.sqlite3'")

    def test_sqlalchemys(self):
        engine = sqlalchemy.create_engine("sqlite://", creator=lambda: sqlite3.connect(self.path))
        self.addCleanup(engine.dispose)
        scoped = sqlalchemy.orm.scoped_session(sqlalchemy.orm.sessionmaker(engine))
        self.addCleanup(scoped.remove)
        kinds = {
            "connection": engine.connect,
            "session": lambda: sqlalchemy.orm.Session(engine),
            "scoped": lambda: scoped,
        }
        for name, make in kinds.items():
            with self.subTest(name), contextlib.closing(make()) as mine:
                before = self.log.last_sequence()
                self.log.append("a", "x", connection=mine)
                self.assertEqual(self.log.last_sequence(), before)
                mine.rollback()
                self.log.append("a", "x", connection=mine)
                mine.commit()
                self.assertEqual(self.log.last_sequence(), before + 1)

    def test_what_is_asynchronous(self):
        session = sqlalchemy.ext.asyncio.AsyncSession()
        self.assert_refused(session, "AsyncSession", "not asynchronous")


class UncommittedTest(ConnectionCase):
    def test_events_of_the_open_transaction(self):
        self.log.append("a", "committed")
        for attached in (False, True):
            with self.subTest(attached=attached):
                mine = self.connect(":memory:" if attached else self.path)
                if attached:
                    mine.execute("ATTACH ? AS 'a \"log\"'", [str(self.path)])
                mine.row_factory = sqlite3.Row
                self.assertEqual(uncommitted_events(self.log, mine), [])
                self.log.append("a", "one", event="kind", connection=mine)
                mine.execute("SAVEPOINT part")
                self.log.append("b", "gone", connection=mine)
                mine.execute("ROLLBACK TO part")
                self.log.append("b", "two", connection=mine)
                self.assertEqual(uncommitted_events(self.log, mine), [("a", "one", "kind"), ("b", "two", None)])
                mine.rollback()
                self.assertEqual(uncommitted_events(self.log, mine), [])

    def test_of_another_log(self):
        with self.assertRaises(LogUnusable) as caught:
            uncommitted_events(self.log, self.connect(":memory:"))
        self.assertIn("a database in memory", str(caught.exception))
        with contextlib.closing(open_log("memory://")) as log, self.assertRaises(LogUnusable) as caught:
            uncommitted_events(log, self.connect(self.path))
        self.assertIn("needs a log in SQLite or in PostgreSQL", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
