"""Appending over the app's own connection: to which file it is, and what it is."""

import contextlib
import os
import sqlite3
import unittest

from sse_threaded import LogError, LogUnusable, open_log
from tests.support import missing, sqlite_url, temporary_directory

try:
    import django.conf
    import django.db
except ImportError:
    django = None


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


class OtherFileTest(ConnectionCase):
    def test_both_files_are_named(self):
        other = self.folder / "other.db"
        self.assert_refused(self.connect(other), self.path, other)

    def test_another_log_gets_nothing(self):
        # As where a relative path was opened in two working directories.
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

    def test_djangos_wrapper_with_what_to_write(self):
        if django is None:
            missing("django (pip install django)")
        if not django.conf.settings.configured:
            django.conf.settings.configure()
        self.assert_refused(django.db.connection, "connection.connection")


if __name__ == "__main__":
    unittest.main()
