"""What only the SQLite log does: other processes, the app's own rows, forks, and files with a fault."""

import contextlib
import fcntl
import gc
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import threading
import tracemalloc
import unittest
from functools import partial
from pathlib import Path
from unittest import mock

from sse_threaded import HistoryGone, Hub, LogUnavailable, LogUnusable, Retention, open_log
from sse_threaded.log.interface import NestedTransaction, TransactionOver
from sse_threaded.log.sqlite.connection import LogConnection
from sse_threaded.log.sqlite.file import SQLiteFile
from sse_threaded.log.sqlite.high_water_mark import HighWaterMark
from sse_threaded.log.sqlite.log import SQLiteLog
from sse_threaded.log.sqlite.timeouts import Timeouts
from sse_threaded.log.sqlite.trimmer import Trimmer
from tests.harness import warm_python
from tests.support import sqlite_url, temporary_directory, wait_until
from tests.unit.test_log import is_readable

NOBODY = 65534

# For tests that wait for a time-out.
IMPATIENT = Timeouts(lock=0.05)

APPEND = "import sys; from sse_threaded import open_log; print(open_log(sys.argv[1]).append('a', 'x'))"


def number_in(mark):
    """The number up to which a log's mark says that it has come."""
    return int(mark.read_text().split()[1])


def run_python(code, *arguments, **options):
    """Run a program in another process of this Python and return what it printed."""
    done = warm_python.run_python(code, *arguments, **options)
    if done.returncode:
        raise AssertionError(f"exit status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class SQLiteTest(unittest.TestCase):
    def setUp(self):
        self.directory = temporary_directory(self)
        self.path = self.directory / "log.db"
        self.url = sqlite_url(self.directory)

    def make_log(self, url=None, retention=None, **options):
        log = SQLiteLog(url or self.url, retention, **options)
        self.addCleanup(log.close)
        return log

    def open_files(self):
        """The files in the log's folder that this process has open."""
        found = []
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the listing's own descriptor
                found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return [file for file in found if file.startswith(str(self.directory.resolve()))]


class OwnRowsTest(SQLiteTest):
    def test_rows_and_event_commit_together(self):
        log = self.make_log()
        with log.transaction() as transaction:
            transaction.connection.execute("CREATE TABLE notes (text)")
            transaction.connection.execute("INSERT INTO notes VALUES ('a')")
            transaction.append("notes", "a")
        with self.assertRaises(ZeroDivisionError), log.transaction() as transaction:
            transaction.connection.execute("INSERT INTO notes VALUES ('b')")
            transaction.append("notes", "b")
            raise ZeroDivisionError
        with log.snapshot() as snapshot:
            self.assertEqual(snapshot.connection.execute("SELECT text FROM notes").fetchall(), [("a",)])
            self.assertEqual(snapshot.last_event_id(), f"{log.epoch}-1")

    def test_an_error_of_the_callers_own_statement_passes_as_it_is(self):
        log = self.make_log()
        with self.assertRaises(sqlite3.IntegrityError), log.transaction() as transaction:
            transaction.connection.execute("CREATE TABLE one (id INTEGER PRIMARY KEY)")
            transaction.append("a", "x")
            transaction.connection.execute("INSERT INTO one VALUES (1), (1)")
        self.assertEqual(log.last_sequence(), 0)

    def test_a_commit_of_the_callers_own_is_no_error(self):
        log = self.make_log()
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        with log.transaction() as transaction:
            transaction.append("a", "x")
            transaction.connection.execute("COMMIT")
        self.assertTrue(is_readable(doorbell, 0))
        self.assertEqual(log.last_sequence(), 1)

    def test_without_an_event_nobody_is_rung(self):
        log = self.make_log()
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        with log.transaction() as transaction:
            transaction.connection.execute("CREATE TABLE notes (text)")
        self.assertFalse(is_readable(doorbell, 0))

    def test_an_event_that_was_trimmed_since_that_commit_is_no_error(self):
        log = self.make_log()
        with log.transaction() as transaction:
            transaction.append("a", "x")
            transaction.connection.commit()
            transaction.connection.execute("DELETE FROM sse_events")
        self.assertEqual(log.last_sequence(), 1)

    def test_nothing_is_appended_behind_it(self):
        log = self.make_log()
        with self.assertRaises(TransactionOver), log.transaction() as transaction:
            transaction.append("a", "x")
            transaction.connection.commit()
            transaction.append("a", "y")
        self.assertEqual([record.data for record in log.read(0)], ["x"])

    def test_it_is_not_mistaken_for_an_error_of_the_file(self):
        log = self.make_log()
        with self.assertRaisesRegex(sqlite3.OperationalError, "malformed JSON"), log.transaction() as transaction:
            transaction.connection.execute("SELECT json_extract('{bad', '$.a')")

    def test_a_snapshot_lets_nothing_be_written(self):
        log = self.make_log()
        with log.transaction() as transaction:
            transaction.connection.execute("CREATE TABLE notes (text)")
        with self.assertRaisesRegex(LogUnavailable, "a snapshot, or read-only"), log.snapshot() as snapshot:
            snapshot.connection.execute("INSERT INTO notes VALUES ('a')")
        self.assertEqual(log.append("a", "x"), f"{log.epoch}-1")

    def test_reading_the_log_inside_ones_own_snapshot_is_refused_at_once(self):
        log = self.make_log()
        with log.snapshot():
            self.assertRaises(NestedTransaction, log.read, 0)
        self.assertEqual(log.read(0), [])

    def test_the_callers_own_connection_can_carry_the_event(self):
        log = self.make_log()
        with contextlib.closing(sqlite3.connect(self.path)) as mine:
            mine.execute("CREATE TABLE notes (text)")
            mine.execute("INSERT INTO notes VALUES ('rolled back')")
            log.append("notes", "rolled back", connection=mine)
            mine.rollback()
            self.assertEqual(log.read(0), [])
            mine.execute("INSERT INTO notes VALUES ('kept')")
            event_id = log.append("notes", "kept", connection=mine)
            self.assertEqual(log.read(0), [], "not before the commit")
            mine.commit()
        self.assertEqual(event_id, log.last_event_id())
        self.assertEqual([record.data for record in log.read(0)], ["kept"])

    def test_it_lives_in_an_applications_own_file(self):
        with contextlib.closing(sqlite3.connect(self.path)) as mine:
            mine.execute("PRAGMA user_version = 42")
            mine.execute("CREATE TABLE events (mine)")
            mine.commit()
        self.make_log().append("a", "x")
        with contextlib.closing(sqlite3.connect(self.path)) as mine:
            self.assertEqual(mine.execute("PRAGMA user_version").fetchone(), (42,))
            tables = {name for (name,) in mine.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self.assertEqual(
            {name for name in tables if not name.startswith(("sse_", "sqlite_"))},
            {"events"},
        )


class OtherProcessesTest(SQLiteTest):
    def test_all_processes_share_one_epoch_and_one_order(self):
        log = self.make_log()
        log.append("a", "mine")
        self.assertEqual(run_python(APPEND, self.url).strip(), f"{log.epoch}-2")
        self.assertEqual([record.data for record in log.read(0)], ["mine", "x"])

    def test_an_append_in_another_process_rings_here(self):
        log = self.make_log()
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        run_python(APPEND, self.url)
        self.assertTrue(is_readable(doorbell, 0))

    def test_many_processes_may_make_the_log_at_the_same_moment(self):
        printed = run_python(
            """
            import os, sys
            from sse_threaded import open_log
            children = []
            for _ in range(6):
                children.append(os.fork())
                if not children[-1]:
                    os.write(1, open_log(sys.argv[1]).append("a", "x").encode() + b"\\n")    # in one piece
                    os._exit(0)
            for child in children:
                assert os.waitpid(child, 0)[1] == 0
            """,
            self.url,
            stderr=subprocess.STDOUT,
        ).splitlines()
        (told,) = [line for line in printed if "-" not in line.partition(" ")[0][:7]]
        self.assertRegex(told, r"\A.* made a new log in ")
        log = self.make_log()
        self.assertEqual({line for line in printed if line != told}, {f"{log.epoch}-{n}" for n in range(1, 7)})

    def test_the_doorbell_of_a_process_that_was_killed_is_swept_away(self):
        log = self.make_log()
        bells = self.directory / "log.db-bells"
        run_python(
            """
            import os, signal, sys
            from sse_threaded import open_log
            bell = open_log(sys.argv[1]).open_doorbell()
            pid = os.fork()
            if not pid:
                os._exit(0)   # the end of a child must not remove the parent's doorbell
            os.waitpid(pid, 0)
            assert len([name for name in os.listdir(sys.argv[2]) if name[0] != "."]) == 1
            os._exit(0)
            """,
            self.url,
            bells,
        )
        self.assertEqual(len(list(bells.glob("[!.]*"))), 1)
        log.append("a", "x")
        self.assertEqual([path.name for path in bells.iterdir()], [".mark"])

    def test_what_is_no_doorbell_is_left_alone(self):
        log = self.make_log()
        bells = self.directory / "log.db-bells"
        precious = self.directory / "precious"
        precious.write_text("precious")
        (bells / "link").symlink_to(precious)
        (bells / "file").write_text("a file")
        (bells / "folder").mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(bells / "socket"))
            listener.listen()
            for _ in range(3):
                log.append("a", "x")
        self.assertEqual(precious.read_text(), "precious")
        self.assertEqual((bells / "file").read_text(), "a file")
        self.assertEqual({path.name for path in bells.iterdir()}, {"link", "file", "folder", "socket", ".mark"})

    def test_a_doorbell_that_is_full_holds_nobody_up(self):
        log = self.make_log()
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        fcntl.fcntl(doorbell, fcntl.F_SETPIPE_SZ, 4096)  # the least that Linux gives
        for _ in range(5_000):
            log.ring()
        doorbell.clear()
        log.append("a", "x")
        self.assertTrue(is_readable(doorbell, 0))

    def test_listeners_that_come_and_go_leave_no_descriptor(self):
        log = self.make_log()
        gc.collect()  # what earlier tests left must not end meanwhile

        def come_and_go() -> None:
            doorbell = log.open_doorbell()
            log.append("a", "x")
            self.assertTrue(is_readable(doorbell, 5))
            doorbell.close()
            del doorbell
            log.append("a", "x")

        come_and_go()
        count = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            come_and_go()
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= count, message="its descriptors to be closed")

    def test_without_a_place_for_doorbells_it_says_so_and_goes_on(self):
        log = self.make_log()
        shutil.rmtree(self.directory / "log.db-bells")
        (self.directory / "log.db-bells").write_text("in the way")
        with self.assertLogs("sse_threaded.log.sqlite.log", "WARNING") as logs:
            doorbell = log.open_doorbell()
        self.assertIn("looking every", logs.output[0])
        log.append("a", "x")
        self.assertTrue(is_readable(doorbell, 0), "this process is woken all the same")

    def test_who_may_write_the_file_may_ring(self):
        log = self.make_log()
        self.path.chmod(0o660)
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        bells = self.directory / "log.db-bells"
        (bell,) = bells.glob("[!.]*")
        self.assertEqual(stat.S_IMODE(bell.stat().st_mode), 0o660)
        self.assertEqual(stat.S_IMODE(bells.stat().st_mode), 0o770)

    def test_by_a_link_it_is_the_same_log(self):
        folder = self.directory / "elsewhere"
        folder.mkdir()
        (folder / "link.db").symlink_to(self.path)
        log, linked = self.make_log(), self.make_log(f"sqlite:///{folder}/link.db")
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        linked.append("a", "x")
        self.assertTrue(is_readable(doorbell, 5))
        self.assertEqual([path.name for path in folder.iterdir()], ["link.db"])


class ForkTest(SQLiteTest):
    def test_a_child_goes_on_with_connections_of_its_own(self):
        printed = run_python(
            """
            import os, sys
            from sse_threaded import Hub
            hub = Hub(sys.argv[1])
            hub.publish("a", "before")
            for name in ("first", "second"):
                pid = os.fork()
                if not pid:
                    print(hub.publish("a", name), flush=True)
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            print(hub.publish("a", "after"))
            """,
            self.url,
        )
        log = self.make_log()
        self.assertEqual(printed.split(), [f"{log.epoch}-{n}" for n in (2, 3, 4)])
        self.assertEqual([record.data for record in log.read(0)], ["before", "first", "second", "after"])

    def test_a_closed_log_leaves_no_file_open_whatever_threads_have_used_it(self):
        log = self.make_log()
        used, ends = threading.Event(), threading.Event()

        def use():
            log.append("a", "x")
            log.read(0)
            used.set()
            ends.wait(10)

        user = threading.Thread(target=use)
        user.start()
        self.addCleanup(user.join)
        self.addCleanup(ends.set)
        self.assertTrue(used.wait(10))
        log.close()
        self.assertEqual(self.open_files(), [])

    def test_a_fork_in_the_midst_of_appends_harms_neither_side(self):
        printed = run_python(
            """
            import os, sys, threading
            from sse_threaded import Hub, Retention
            hub = Hub(sys.argv[1], retention=Retention(count=None))    # a fast disk would reach the default
            stop = threading.Event()
            published = []
            def publish():
                while not stop.is_set():
                    published.append(hub.publish("a", "parent"))
            threads = [threading.Thread(target=publish) for _ in range(3)]
            for thread in threads: thread.start()
            for _ in range(10):
                pid = os.fork()
                if not pid:
                    hub.publish("a", "child")
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            stop.set()
            for thread in threads: thread.join()
            print(len(set(published)))
            """,
            self.url,
        )
        log = self.make_log()
        with log.snapshot() as snapshot:
            count = "SELECT count(*) FROM sse_events WHERE data = ?"
            self.assertEqual(snapshot.connection.execute(count, ["child"]).fetchone(), (10,))
            self.assertEqual(snapshot.connection.execute(count, ["parent"]).fetchone(), (int(printed),))
            self.assertEqual(snapshot.connection.execute("PRAGMA integrity_check").fetchone(), ("ok",))

    def test_threads_that_fork_at_the_same_moment_wait_for_each_other(self):
        # In another process: some modules of the standard library also let only one thread fork at a time.
        printed = run_python(
            """
            import os, sys, threading
            from sse_threaded import Hub
            hub = Hub(sys.argv[1])
            begun = threading.Semaphore(0)
            os.register_at_fork(before=begun.release)    # hooks run last in, first out: before the hub's
            def fork():
                pid = os.fork()
                if not pid:
                    subscribe()
                    os.write(1, hub.publish("a", "child").encode() + b"\\n")    # in one piece
                    os._exit(0)
                ends.append(os.waitpid(pid, 0)[1])
            def subscribe():
                environ = {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.multithread": True}
                body = hub.stream(environ, "a").response
                next(body)
                body.close()
            ends = []
            threads = [threading.Thread(target=fork) for _ in range(2)]
            with hub.log.transaction():    # both forks wait for its end
                for thread in threads: thread.start()
                for _ in threads: begun.acquire()
                threads[1].join(0.2)
            for thread in threads: thread.join()
            assert ends == [0, 0], ends
            subscribe()
            print(hub.publish("a", "parent"))
            """,
            self.url,
        )
        epoch = self.make_log().epoch
        *children, parent = printed.split()
        self.assertEqual(set(children), {f"{epoch}-1", f"{epoch}-2"}, "in either order: both run at once")
        self.assertEqual(parent, f"{epoch}-3")

    def test_an_interrupt_while_a_fork_waits_leaves_no_lock_behind(self):
        # Python goes on with a fork whose preparation raised. The child may be broken then, but not the parent.
        printed = run_python(
            """
            import itertools, os, sys, threading
            from unittest import mock
            from sse_threaded import Hub
            from sse_threaded.fanout.pump import Pump
            from sse_threaded.log.sqlite.log import SQLiteLog
            first, second = Hub(sys.argv[1]), Hub(sys.argv[1] + "2")
            def interrupted(kind, number):
                real, calls = kind.before_fork, itertools.count(1)
                def before_fork(self):
                    if next(calls) == number:
                        raise KeyboardInterrupt
                    real(self)
                return mock.patch.object(kind, "before_fork", before_fork)
            def fork():
                pid = os.fork()
                if not pid:
                    os._exit(0)
                os.waitpid(pid, 0)
            for kind, number in ((SQLiteLog, 1), (Pump, 2)):
                with interrupted(kind, number):
                    fork()
                for _ in range(2):
                    thread = threading.Thread(target=fork)    # would hang
                    thread.start()
                    thread.join()
                    print(first.publish("a", "x"), second.publish("a", "x"))
            """,
            self.url,
            stderr=subprocess.DEVNULL,
        )
        self.assertEqual([line.count("-") for line in printed.splitlines()], [2] * 4, printed)

    def test_a_child_outlives_its_parent(self):
        # A child with the parent's connection would write into a log that the end of the parent removes.
        printed = run_python(
            """
            import os, sys, time
            from sse_threaded import Hub
            hub = Hub(sys.argv[1])
            hub.publish("a", "parent")
            hub.log.read(0)
            parent = os.getpid()
            if os.fork():
                sys.exit()    # an ordinary end, which closes the connections
            while os.getppid() == parent:
                time.sleep(0.01)
            print(hub.publish("a", "child"), len(hub.log.read(0)))
            """,
            self.url,
        )
        log = self.make_log()
        self.assertEqual(printed.split(), [f"{log.epoch}-2", "2"])
        self.assertEqual([record.data for record in log.read(0)], ["parent", "child"])

    def test_a_fork_during_a_transaction_leaves_the_parents_as_it_is(self):
        impatient = partial(SQLiteLog, timeouts=Timeouts(lock=0.1))
        with mock.patch("sse_threaded.hub.open_log", impatient):
            hub = Hub(self.url)
        self.addCleanup(hub.close)
        entered, leave = threading.Event(), threading.Event()

        def keep():
            with hub.log.transaction() as transaction:
                transaction.append("a", "in the transaction")
                entered.set()
                leave.wait(30)

        thread = threading.Thread(target=keep)
        thread.start()
        self.assertTrue(entered.wait(30))
        with self.assertLogs("sse_threaded.log.sqlite.connection", "WARNING"):
            self.fork_and_end()
        self.assertRaises(LogUnavailable, hub.publish, "a", "beside")
        leave.set()
        thread.join(30)
        with (
            self.assertLogs("sse_threaded.log.sqlite.connection", "WARNING"),
            hub.log.transaction() as transaction,
        ):
            transaction.append("a", "second")
            self.fork_and_end()
        self.assertEqual([record.data for record in hub.log.read(0)], ["in the transaction", "second"])

    @staticmethod
    def fork_and_end():
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)


class LendingTest(SQLiteTest):
    """After the block, the app's changes to the log's connection have no effect."""

    def test_a_cursor_that_is_not_read_to_its_end(self):
        log = self.make_log()
        with log.transaction() as transaction:
            transaction.append("a", "x")
            transaction.append("a", "y")
        for lend in (log.snapshot, log.transaction):
            with lend() as lent:
                rows = lent.connection.execute("SELECT * FROM sse_events")
                next(rows)
            with contextlib.closing(sqlite3.connect(self.path)) as other, other:
                other.execute("INSERT INTO sse_events (channel, data, created) VALUES ('a', 'z', 0)")
            log.append("a", "new")
            self.assertEqual([record.data for record in log.read(2)][-2:], ["z", "new"])
            self.assertRaises(sqlite3.ProgrammingError, next, rows)

    def test_its_methods_return_cursors_as_always(self):
        with self.make_log().transaction() as transaction:
            mine = transaction.connection
            for made in (
                mine.execute("CREATE TABLE notes (text)"),
                mine.executemany("INSERT INTO notes VALUES (?)", [("one",), ("two",)]),
                mine.executescript("SELECT 1"),
                mine.cursor(),
            ):
                self.assertIsInstance(made, sqlite3.Cursor)

    def test_cursors_of_the_logs_own_are_not_noted(self):
        log = self.make_log()
        for lend in (log.snapshot, log.transaction):
            with lend() as lent:
                self.assertIsNot(type(lent.connection).execute, sqlite3.Connection.execute)
            self.assertIs(type(lent.connection).execute, sqlite3.Connection.execute)

    def test_rows_of_another_kind(self):
        log = self.make_log()
        log.append("b", "x")

        def as_dict(cursor, row):
            return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}

        for factory in (sqlite3.Row, as_dict):
            for lend in (log.snapshot, log.transaction):
                with self.subTest(factory=factory, lend=lend), lend() as lent:
                    lent.connection.row_factory = factory
                    lent.connection.text_factory = bytes
                    row = lent.connection.execute("SELECT data FROM sse_events").fetchone()
                    self.assertEqual(row["data"], b"x")
                    lent.last_event_id()
                    if lend == log.transaction:
                        self.assertEqual(lent.append("a", "y"), lent.last_event_id())
        self.assertEqual([record.data for record in log.read(0, channels=["a", "b"])], ["x", "y", "y"])

    def test_errors_of_the_apps_own_tables_are_its_own(self):
        log = self.make_log()
        for statement in ("INSERT INTO door VALUES (NULL)", "SELECT unlocked FROM door", "SELECT * FROM readonly"):
            with self.subTest(statement), self.assertRaises(sqlite3.Error), log.transaction() as transaction:
                transaction.connection.execute("CREATE TABLE door (locked INTEGER NOT NULL)")
                transaction.connection.execute(statement)


class BadFileTest(SQLiteTest):
    def assert_publish_fails(self, log, kind, words):
        """Publishing raises, and what it was about is not in the log."""
        with self.assertRaisesRegex(kind, words) as caught:
            log.append("a", "must not be there")
        self.assertEqual(caught.exception.url, log.url)

    def data(self):
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return [data for (data,) in connection.execute("SELECT data FROM sse_events")]

    def test_a_locked_file(self):
        log = self.make_log(timeouts=IMPATIENT)
        log.append("a", "x")
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assert_publish_fails(log, LogUnavailable, "locked by another writer")
            with self.assertRaises(LogUnavailable), log.transaction():
                self.fail("entered")
            self.assertEqual(len(log.read(0)), 1, "reading goes on")
            other.execute("COMMIT")
        self.assertEqual(log.append("a", "y"), f"{log.epoch}-2")
        self.assertEqual(self.data(), ["x", "y"])

    def test_who_waits_for_the_lock_looks_again_and_again(self):
        # SQLite's own waiting would look ten times a second, inside of one statement.
        log = self.make_log(retention=Retention(count=1))

        def transaction():
            with log.transaction() as transaction:
                transaction.append("a", "y")

        log.append("a", "x")
        log.trim()
        for write in (lambda: log.append("a", "y"), transaction, log.trim):
            with self.subTest(write=write), self.looks() as looks, contextlib.closing(self.locked()) as other:
                writer = threading.Thread(target=write)
                writer.start()
                wait_until(lambda looks=looks: len(looks) >= 30, message="30 looks at the lock")
                other.execute("COMMIT")
                writer.join()
        self.assertEqual(self.data(), ["y"])

    def test_an_append_that_fails_gives_the_lock_back(self):
        log, other = self.make_log(), self.make_log(timeouts=IMPATIENT)
        with (
            mock.patch.object(HighWaterMark, "reserve", side_effect=ZeroDivisionError),
            self.assertRaises(ZeroDivisionError),
        ):
            log.append("a", "x")
        other.append("a", "y")
        with self.assertRaises(ZeroDivisionError), log.transaction() as transaction:
            transaction.append("a", "x")
            raise ZeroDivisionError
        other.append("a", "z")
        self.assertEqual(self.data(), ["y", "z"])

    def test_what_an_interrupt_leaves_does_no_harm(self):
        log = self.make_log()
        log.append("a", "x")
        log.read(0)

        def begin(file, connection):
            connection.execute("BEGIN IMMEDIATE")
            raise KeyboardInterrupt

        interrupted = self.assertRaises(KeyboardInterrupt)
        with mock.patch.object(SQLiteFile, "begin_write", begin), interrupted, log.transaction():
            self.fail("entered")
        self.assertEqual(self.data(), ["x"])
        # The state after a signal handler has raised between two steps; a test cannot reach it by public ways.
        for shared in (log._writer, log._reader):
            shared._connection.execute("BEGIN")
            shared._connection.execute("SELECT count(*) FROM sse_events").fetchone()
            shared._lock.acquire()
        log.append("a", "y")
        self.assertEqual(self.data(), ["x", "y"])
        self.assertEqual([record.data for record in log.read(0)], ["x", "y"])
        found = []
        thread = threading.Thread(target=lambda: found.append((log.append("a", "z"), len(log.read(0)))))
        thread.start()
        thread.join()
        self.assertEqual(found, [(f"{log.epoch}-3", 3)])

    def test_a_file_that_goes_while_somebody_waits_for_its_lock_has_no_event(self):
        for what in ("", "-wal", "-shm"):
            for write in (self.append_one, self.append_in_transaction):
                with self.subTest(what=what, write=write.__name__):
                    self.url = sqlite_url(directory := temporary_directory(self))
                    self.path = directory / "log.db"
                    log = self.make_log()
                    log.append("a", "x")
                    found = []
                    with self.looks() as looks, contextlib.closing(self.locked()) as other:
                        writer = threading.Thread(target=write, args=(log, found))
                        writer.start()
                        self.wait_for_a_look(looks)
                        os.unlink(f"{self.path}{what}")
                        other.execute("ROLLBACK")
                        writer.join()
                    self.assertEqual([type(each) for each in found], [LogUnusable], found)

    @staticmethod
    def append_one(log, found):
        try:
            found.append(log.append("a", "y"))
        except LogUnusable as error:
            found.append(error)

    @staticmethod
    def append_in_transaction(log, found):
        try:
            with log.transaction() as transaction:
                transaction.append("a", "y")
            found.append("committed")
        except LogUnusable as error:
            found.append(error)

    @staticmethod
    @contextlib.contextmanager
    def looks():
        """The statements of the log's connections from now on, as they come."""
        statements, execute = [], LogConnection.execute

        def traced(connection, statement, *values):
            statements.append(statement)
            return execute(connection, statement, *values)

        with mock.patch.object(LogConnection, "execute", traced):
            yield statements

    def wait_for_a_look(self, looks):
        wait_until(lambda: "BEGIN IMMEDIATE" in looks, message="a look at the lock")

    def locked(self):
        """Somebody else's connection that has the write lock."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def test_a_new_file_that_is_locked_for_a_moment_is_waited_for(self):
        opened = []
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # for this lock SQLite itself does not wait in the switch to WAL
            thread = threading.Thread(target=lambda: opened.append(SQLiteLog(self.url, must_open=True)))
            thread.start()
            thread.join(0.3)
            self.assertEqual(opened, [], "it waits")
            other.execute("ROLLBACK")
            thread.join(30)
        (log,) = opened
        self.addCleanup(log.close)
        self.assertTrue(log.append("a", "x").endswith("-1"))

    def test_a_new_file_that_stays_locked_is_refused_in_time(self):
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assertRaisesRegex(
                LogUnavailable, "locked", SQLiteLog, self.url, must_open=True, timeouts=IMPATIENT
            )

    def test_a_process_that_begins_meanwhile_reads(self):
        self.make_log().append("a", "x")
        other = sqlite3.connect(self.path, isolation_level=None)
        with contextlib.closing(other):
            other.execute("BEGIN IMMEDIATE")
            log = self.make_log(timeouts=IMPATIENT)
            self.assertEqual([record.data for record in log.read(0)], ["x"])
            self.assert_publish_fails(log, LogUnavailable, "locked by another writer")
            normal = self.make_log(f"{self.url}?synchronous=normal", timeouts=IMPATIENT)  # it writes the boot
            self.assertRaises(LogUnavailable, normal.read, 0)
        self.assertEqual(log.append("a", "y"), f"{log.epoch}-2")

    def test_a_log_that_lacks_something_is_completed(self):
        self.make_log().close()
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("DROP INDEX sse_channels_trimmed")
        self.make_log()
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
        self.assertIn("sse_channels_trimmed", names)

    def test_a_transaction_that_another_thread_keeps_open(self):
        log = self.make_log(timeouts=IMPATIENT)
        entered, leave = threading.Event(), threading.Event()

        def keep():
            with log.transaction():
                entered.set()
                leave.wait(10)

        thread = threading.Thread(target=keep)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(leave.set)
        self.assertTrue(entered.wait(10))
        self.assert_publish_fails(log, LogUnavailable, "kept by another thread")

    def test_a_full_disk(self):
        log = self.make_log()
        log.append("a", "x")
        with log.transaction() as transaction:
            (pages,) = transaction.connection.execute("PRAGMA page_count").fetchone()
            transaction.connection.execute(f"PRAGMA max_page_count = {pages}")
        with self.assertRaisesRegex(LogUnavailable, "disk is full"):
            for _ in range(100):
                log.append("a", "y" * 1000)
        full = self.data()
        with self.assertRaisesRegex(LogUnavailable, "disk is full"), log.transaction() as transaction:
            for _ in range(100):
                transaction.append("a", "z" * 1000)
        self.assertEqual(self.data(), full)
        with log.transaction() as transaction:
            transaction.connection.execute("PRAGMA max_page_count = 1000000")
        log.append("a", "room again")
        self.assertEqual(self.data(), [*full, "room again"])

    def test_a_full_disk_of_which_the_caller_will_not_know(self):
        for again in (False, True):
            log = self.make_log(sqlite_url(self.directory, f"{again}.db"))
            log.append("a", "x")
            with log.transaction() as transaction:
                transaction.connection.execute("CREATE TABLE notes (text)")
                (pages,) = transaction.connection.execute("PRAGMA page_count").fetchone()
                transaction.connection.execute(f"PRAGMA max_page_count = {pages + 3}")
            with self.assertRaisesRegex(LogUnavailable, "rolled back"), log.transaction() as transaction:
                transaction.append("a", "must not be there")
                with contextlib.suppress(sqlite3.Error):
                    transaction.connection.execute("INSERT INTO notes VALUES (zeroblob(1000000))")
                if again:
                    transaction.append("a", "nor this")
            self.assertEqual([record.data for record in log.read(0)], ["x"])

    def test_a_read_only_file(self):
        log = self.make_log()
        log.append("a", "x")
        log.close()
        for path in self.directory.iterdir():
            if path.is_file():
                path.chmod(0o444)
        self.addCleanup(self.directory.chmod, 0o755)
        for mode, opened in ((0o555, "read-only|cannot be opened"), (0o777, "read-only")):
            with self.subTest(mode=oct(mode)):
                self.directory.chmod(mode)
                # Root may write everything, so the process becomes another user.
                printed = run_python(
                    f"""
                    import os, sys
                    from sse_threaded import LogUnavailable, open_log
                    if os.getuid() == 0:
                        os.setuid({NOBODY})
                    try:
                        open_log(sys.argv[1]).read(0)
                    except LogUnavailable as error:
                        print(error.reason)
                    else:
                        print("was opened")
                    """,
                    self.url,
                )
                self.assertRegex(printed, opened)
        self.directory.chmod(0o755)
        self.assertEqual(self.data(), ["x"])

    def test_a_corrupt_file(self):
        log = self.make_log()
        for _ in range(50):
            log.append("a", "x" * 1000)
        log.close()
        with open(self.path, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(self.path.stat().st_size - 4096))
        with self.assertRaisesRegex(LogUnusable, "corrupt"):
            log = self.make_log()
            log.append("a", "y")

    def test_a_file_that_is_no_database(self):
        self.path.write_text("These are my notes and no database at all.\n" * 50)
        self.assertRaisesRegex(LogUnusable, "not a SQLite database", open_log, self.url)
        self.assertTrue(self.path.read_text().startswith("These are my notes"))

    def test_a_file_of_a_newer_schema_is_left_alone(self):
        log = self.make_log()
        log.append("a", "x")
        log.close()
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("UPDATE sse_meta SET value = '99' WHERE name = 'schema'")
            connection.commit()
        with self.assertRaisesRegex(LogUnusable, "schema 99.*upgrade"):
            open_log(self.url)
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            meta = dict(connection.execute("SELECT name, value FROM sse_meta"))
        self.assertEqual(meta["schema"], "99")

    def test_a_file_with_another_programs_tables_of_these_names(self):
        for number, (statement, words) in enumerate(
            (
                ("CREATE TABLE sse_events (id INTEGER)", "no such column"),
                ("CREATE TABLE sse_meta AS SELECT 'schema' AS name, 'v1' AS value", "another program"),
            )
        ):
            path = self.directory / f"{number}.db"
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute(statement)
                before = list(connection.execute("SELECT * FROM sqlite_master"))
            with self.subTest(statement), contextlib.closing(sqlite3.connect(path)) as connection:
                self.assertRaisesRegex(LogUnusable, words, open_log, f"sqlite:///{path}")
                self.assertEqual(list(connection.execute("SELECT * FROM sqlite_master")), before)

    def test_a_missing_folder_and_a_folder_in_its_place(self):
        url = sqlite_url(self.directory / "nowhere")
        with self.assertLogs("sse_threaded", "WARNING"):
            log = self.make_log(url)
        for use in (log.last_event_id, partial(log.append, "a", "x"), log.open_doorbell):
            self.assertRaisesRegex(LogUnavailable, "its folder must be there", use)
        self.assertRaisesRegex(LogUnusable, "is a directory", open_log, f"sqlite:///{self.directory}")

    def test_a_file_that_was_removed_or_replaced_in_use(self):
        log = self.make_log()
        log.append("a", "x")
        without_connection = self.make_log()
        self.path.rename(self.directory / "moved.db")
        self.assert_publish_fails(log, LogUnusable, "removed or replaced")
        for each in (log, without_connection):
            self.assertRaisesRegex(LogUnusable, "removed or replaced", each.read, 0)
        self.assertFalse(self.path.exists(), "a new file was made")
        with contextlib.closing(open_log(self.url)) as other:
            other.append("a", "in the new file")
            self.assertNotEqual(other.epoch, log.epoch)
        self.assert_publish_fails(log, LogUnusable, "removed or replaced")
        self.assertRaisesRegex(LogUnusable, "removed or replaced", without_connection.read, 0)

    def test_a_backup_that_is_put_into_a_file_in_use(self):
        log = self.make_log(timeouts=Timeouts(trim=0.01))
        log.append("a", "x")
        with contextlib.closing(sqlite3.connect(self.directory / "backup.db")) as backup:
            with log.snapshot() as snapshot:
                snapshot.connection.backup(backup)
            log.append("a", "y")
            mark = self.directory / "log.db-bells" / ".mark"
            self.addCleanup(log.open_doorbell().close)
            wait_until(lambda: number_in(mark) == 2, message="the mark")
            with contextlib.closing(sqlite3.connect(self.path)) as mine:
                backup.backup(mine)
            wait_until(partial(self.is_refused, log), message="the file to be seen as set back")
        self.assert_publish_fails(log, LogUnusable, "a backup was put into the file")
        self.assertRaises(LogUnusable, log.read, 0)
        with self.assertLogs("sse_threaded", "WARNING"):
            self.assertNotEqual(self.make_log().epoch, log.epoch, "the next process begins anew")

    @staticmethod
    def is_refused(log):
        """Whether reading is refused; it writes nothing that would show the same."""
        try:
            log.last_sequence()
        except LogUnusable:
            return True
        return False

    def test_a_file_of_sqlites_own_that_was_removed_in_use(self):
        link = self.directory / "link.db"
        link.symlink_to(self.path)
        for end, url in (("-wal", self.url), ("-shm", self.url), ("-wal", f"sqlite:///{link}")):
            with self.subTest(end=end, url=url):
                log = self.make_log(url)
                last = log.append("a", "x")
                self.assertEqual(log.last_event_id(), last)
                beside = self.directory / f"{self.path.name}{end}"
                beside.rename(self.directory / "moved")
                self.assert_publish_fails(log, LogUnusable, "removed or replaced")
                self.assertRaises(LogUnusable, log.read, 0)
                (self.directory / "moved").rename(beside)
                self.assertEqual(log.last_event_id(), last)
                log.close()

    def test_a_closed_log(self):
        log = self.make_log()
        log.close()
        self.assert_publish_fails(log, LogUnusable, "was closed")


class EpochTest(SQLiteTest):
    def test_the_epoch_outlives_the_process(self):
        first = open_log(self.url)
        first.append("a", "x")
        first.close()
        self.assertEqual(self.make_log().last_event_id(), f"{first.epoch}-1")

    def test_a_log_made_anew_has_another(self):
        first = open_log(self.url)
        first.close()
        self.path.unlink()
        self.assertNotEqual(self.make_log().epoch, first.epoch)

    def test_with_synchronous_normal_each_boot_begins_one(self):
        url = self.url + "?synchronous=normal"
        first = open_log(url)
        first.append("a", "x")
        first.close()
        again = open_log(url)
        self.assertEqual(again.epoch, first.epoch)
        again.close()
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("UPDATE sse_meta SET value = 'an earlier boot' WHERE name = 'boot'")
            connection.commit()
        after = self.make_log(self.url)
        self.assertNotEqual(after.epoch, first.epoch)
        self.assertEqual(after.last_sequence(), 1)

    def make_backup(self):
        """A log of five events that was listened to, and its file as it was after two."""
        log = open_log(self.url)
        with contextlib.closing(log), contextlib.closing(log.open_doorbell()):
            log.append("a", 1)
            log.append("a", 2)
            copied = self.directory / "backup.db"
            with contextlib.closing(sqlite3.connect(copied)) as backup, log.snapshot() as snapshot:
                snapshot.connection.backup(backup)
            for number in (3, 4, 5):
                log.append("a", number)
        return copied, log.epoch

    def test_a_backup_that_was_put_back_begins_one(self):
        copied, epoch = self.make_backup()
        shutil.copyfile(copied, self.path)
        bells = self.directory / "log.db-bells"
        with self.assertLogs("sse_threaded", "WARNING") as logged:
            log = self.make_log()
        self.assertIn("a new epoch", logged.output[0])
        for _ in range(5):
            log.append("a", "in the new order")
        with self.assertRaises(HistoryGone) as raised:
            log.sequence_of(f"{epoch}-5")
        self.assertEqual(raised.exception.reason, "epoch")
        self.assertEqual(self.make_log().epoch, log.epoch, "for the next process too")
        self.assertEqual([path.name for path in bells.iterdir()], [".mark"], "nothing is left over")

    def test_a_mark_of_a_log_that_was_removed_is_no_hindrance(self):
        _, epoch = self.make_backup()
        self.path.unlink()
        with self.assertLogs("sse_threaded", "WARNING") as logs:
            log = self.make_log()
            with contextlib.closing(log.open_doorbell()):
                log.append("a", "x")
                log.close()
        self.assertEqual(len(logs.output), 1, logs.output)
        self.assertIn("made a new log", logs.output[0])  # and not that it is a copy
        self.assertNotEqual(log.epoch, epoch)
        self.assertEqual(self.make_log().last_event_id(), f"{log.epoch}-1")

    def test_so_does_a_copy_on_another_machine(self):
        _, epoch = self.make_backup()
        with self.assertLogs("sse_threaded", "WARNING"):
            other = self.make_log(sqlite_url(self.directory, "backup.db"))
        self.assertNotEqual(other.epoch, epoch)
        self.assertEqual(self.make_log(other.url).epoch, other.epoch, "but once")
        self.assertEqual(self.make_log().epoch, epoch, "nor the original")

    def test_where_the_mark_cannot_be_written_the_next_process_agrees_all_the_same(self):
        copied, epoch = self.make_backup()
        shutil.copyfile(copied, self.path)
        with mock.patch.object(os, "replace", side_effect=PermissionError):
            epochs = {self.make_log().epoch, self.make_log().epoch}
        self.assertEqual(epochs, {epoch})

    def test_a_mark_that_says_nothing_any_more_begins_one(self):
        # Nobody knows how far the log had come.
        _, epoch = self.make_backup()
        mark = self.directory / "log.db-bells" / ".mark"
        whole = mark.read_text()
        epochs = {epoch}
        texts = ("", "rubbish", f"{epoch}-", f"{epoch}-five", "\u00e9", whole[:20], whole.replace("5", "6", 1))
        for text in texts:
            with self.subTest(text=text):
                mark.write_text(text, encoding="utf-8")
                with self.assertLogs("sse_threaded", "WARNING"):
                    log = self.make_log()
                self.assertNotIn(log.epoch, epochs)
                epochs.add(log.epoch)
                self.assertEqual(self.make_log().epoch, log.epoch, "but once")

    def test_an_earlier_releases_mark_is_understood(self):
        # Earlier releases wrote the mark now and then, and did not note it in the file.
        for last, goes_on in ((5, True), (3, True), (9, False)):
            with self.subTest(last=last):
                self.url = sqlite_url(temporary_directory(self))
                self.path = Path(self.url.removeprefix("sqlite:///"))
                first = self.make_log(self.url)
                for number in range(5):
                    first.append("a", number)
                first.close()
                with contextlib.closing(sqlite3.connect(self.path)) as mine, mine:
                    mine.execute("DELETE FROM sse_meta WHERE name = 'mark'")
                mark = Path(f"{self.path}-bells") / ".mark"
                mark.write_text(f"{first.epoch}-{last}")
                with self.make_log(self.url).transaction() as transaction:
                    event_id = transaction.append("a", "x")
                self.assertEqual(event_id.startswith(first.epoch), goes_on)
                mark.write_text(f"{event_id}")  # while the log is in use, as a process of that release does
                again = self.make_log(self.url).append("a", "y")
                self.assertEqual(again.partition("-")[0], event_id.partition("-")[0])
                self.assertEqual(number_in(mark), 6)

    def test_synchronous_is_full_unless_asked(self):
        for url, level in ((self.url, 2), (self.url + "?synchronous=normal", 1)):
            with self.make_log(url).transaction() as transaction:
                self.assertEqual(transaction.connection.execute("PRAGMA synchronous").fetchone(), (level,))


class TrimmerTest(SQLiteTest):
    def make_trimmer(self, retention):
        """A trimmer beside the log's own, without a thread."""
        trimmer = Trimmer(SQLiteFile(str(self.path), self.url, "full"), retention)
        self.addCleanup(trimmer.stop)
        return trimmer

    def test_appending_alone_keeps_a_channel_near_its_bound(self):
        log = self.make_log(self.url + "?synchronous=normal", Retention(count=160, age=None))
        for _ in range(2000):
            log.append("a", "x")
        count = "SELECT count(*) FROM sse_events"

        def kept():
            with log.snapshot() as snapshot:
                return snapshot.connection.execute(count).fetchone()[0]

        wait_until(lambda: 160 <= kept() <= 200, message="the channel to be trimmed in the background")

    def test_events_in_transactions_count_too(self):
        log = self.make_log(retention=Retention(count=16, age=None), timeouts=Timeouts(trim=0.01))
        with log.transaction() as transaction:
            for _ in range(100):
                transaction.append("a", "x")
        wait_until(lambda: self._count(log) == 16, message="the channel to be trimmed")

    def test_events_of_the_apps_connection_count_too(self):
        log = self.make_log(retention=Retention(count=16, age=None), timeouts=Timeouts(trim=0.01))
        with contextlib.closing(sqlite3.connect(self.path)) as mine, mine:
            for _ in range(100):
                log.append("a", "x", connection=mine)
        wait_until(lambda: self._count(log) == 16, message="the channel to be trimmed")

    def test_without_a_thread_for_it_appends_succeed_and_a_later_one_starts_it(self):
        log = self.make_log(retention=Retention(count=16, age=None))
        with mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")):
            for _ in range(50):
                log.append("a", "x")
        self.assertEqual(self._count(log), 50)
        log.append("a", "x")
        wait_until(lambda: self._count(log) < 40, message="the channel to be trimmed")

    def test_a_listener_trims_by_age_what_others_left(self):
        log = self.make_log(retention=Retention(age=1.0), timeouts=Timeouts(trim=0.01))
        for number in range(5):
            log.append(f"channel-{number}", "x")
        with log.transaction() as transaction:
            transaction.connection.execute("UPDATE sse_events SET created = created - 10")
        self.addCleanup(log.open_doorbell().close)
        wait_until(lambda: not self._count(log), message="old events to go")

    @staticmethod
    def _count(log):
        with log.snapshot() as snapshot:
            return snapshot.connection.execute("SELECT count(*) FROM sse_events").fetchone()[0]

    def test_a_look_is_bounded_by_its_batches_and_not_by_the_log(self):
        with self.make_log().transaction() as transaction:
            for _ in range(3000):
                transaction.append("a", "x")
        # Beside a log that keeps them all, as the thread of a log with this bound would trim some of them first.
        trimmer = self.make_trimmer(Retention(count=10, age=None))
        self.assertEqual(trimmer.trim_all(), 2990)
        self.assertEqual(trimmer.trim_all(), 0)

    def test_a_channel_within_its_bound_is_not_walked_along(self):
        with self.make_log().transaction() as transaction:
            for _ in range(20_000):
                transaction.append("a", "x")
        trimmer, steps = self.make_trimmer(Retention(count=50_000, age=None)), []
        with trimmer.connection.use() as connection:
            connection.set_progress_handler(lambda: steps.append(1), 1)
        self.assertEqual(trimmer.trim_all(), 0)
        self.assertTrue(steps)
        self.assertLess(len(steps), 1000)

    def test_counting_does_not_grow_with_the_channels(self):
        trimmer = self.make_trimmer(Retention(count=100, age=None))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(60_000):
            trimmer.count_append(f"channel-{number}")
        used, _ = tracemalloc.get_traced_memory()
        self.assertLess(used, 3_000_000)  # bytes; all of them would take twice as many

    def test_what_an_append_causes_does_not_grow_with_the_channels(self):
        with self.make_log().transaction() as transaction:
            for number in range(2000):
                transaction.append(f"channel-{number}", "x")
            for _ in range(120):
                transaction.append("busy", "x")
        trimmer, statements = self.make_trimmer(Retention(count=100, age=None)), []
        with trimmer.connection.use() as connection:
            connection.set_trace_callback(statements.append)
        # Without its thread, whose rounds look at other channels too.
        with mock.patch.object(trimmer, "start"):
            for _ in range(20):
                trimmer.count_append("busy")
            trimmer.trim_grown()
        self.assertEqual(self._count(self.make_log()), 2100)
        self.assertTrue(any("'busy'" in statement for statement in statements), statements)
        self.assertFalse([statement for statement in statements if "channel-" in statement])
