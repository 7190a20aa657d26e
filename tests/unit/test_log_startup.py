"""How a process starts with a log that it cannot open now, and what a health check finds."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
import unittest
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

from sse_threaded import Hub, LogUnavailable, LogUnusable, open_log
from sse_threaded.log.interface import NestedTransaction
from sse_threaded.log.sqlite.connection import SharedConnection
from sse_threaded.log.sqlite.file import SQLiteFile
from sse_threaded.log.sqlite.high_water_mark import HighWaterMark
from sse_threaded.log.sqlite.log import SQLiteLog
from sse_threaded.log.sqlite.timeouts import Timeouts
from tests.harness.warm_python import run_python
from tests.support import sqlite_url, temporary_directory, wait_until


class LogFileCase(unittest.TestCase):
    """A log's file in a folder of its own, and what can go wrong with it."""

    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.folder = self.directory / "data"
        self.folder.mkdir()
        self.path = self.folder / "log.db"
        self.url = sqlite_url(self.folder)

    @contextlib.contextmanager
    def moved_away(self) -> Iterator[None]:
        moved = self.directory / "moved"
        self.folder.rename(moved)
        try:
            yield
        finally:
            moved.rename(self.folder)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        modes = {path: path.stat().st_mode for path in (*self.folder.glob("log.db*"), self.folder)}
        for path in modes:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)

    @contextlib.contextmanager
    def no_database(self) -> Iterator[None]:
        kept = self.directory / "kept"
        self.folder.rename(kept)
        self.folder.mkdir()
        self.path.write_text("These are my notes and no database at all.\n" * 50)
        try:
            yield
        finally:
            shutil.rmtree(self.folder)
            kept.rename(self.folder)

    @contextlib.contextmanager
    def newer_schema(self) -> Iterator[None]:
        def write(value: str) -> None:
            with contextlib.closing(sqlite3.connect(self.path)) as mine, mine:
                mine.execute("UPDATE sse_meta SET value = ? WHERE name = 'schema'", (value,))

        write("99")
        try:
            yield
        finally:
            write("1")

    def faults(self) -> tuple[Callable[[], contextlib.AbstractContextManager[None]], ...]:
        return self.moved_away, self.read_only, self.no_database, self.newer_schema


class BeginningTest(LogFileCase):
    """A process that begins."""

    def run_python(self, code: str, status: int = 0) -> str:
        done = run_python(code, self.url, self.path)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout + done.stderr

    def test_a_hub_is_made_without_its_log_and_takes_it_up_later(self) -> None:
        url = sqlite_url(self.folder / "later")
        with self.assertLogs("sse_threaded.log.startup", "WARNING") as logged:
            hub = Hub(url)
        self.addCleanup(hub.close)
        self.assertEqual(len(logged.output), 1)
        for use in (
            hub.health,
            partial(hub.publish, "a", "x"),
            hub.log.last_event_id,
            partial(hub.log.read, 0),
            hub.log.open_doorbell,
        ):
            self.assertRaisesRegex(LogUnavailable, "its folder must be there", use)
        with self.assertRaises(LogUnavailable), hub.log.transaction():
            self.fail("entered")
        with self.assertRaises(LogUnavailable):
            hub.log.epoch  # noqa: B018
        reply = hub.stream({"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1"}, "a")
        self.assertEqual(reply.status_code, 200)
        self.assertRegex(b"".join(reply.iter_encoded()), rb"retry: \d+")
        poll = hub.stream({"REQUEST_METHOD": "GET", "HTTP_ACCEPT": "application/json"}, "a")
        self.assertEqual(poll.status_code, 503)
        (self.folder / "later").mkdir()

        def is_taken_up() -> bool:
            with contextlib.suppress(LogUnavailable):
                return hub.publish("a", "x") == f"{hub.log.epoch}-1"
            return False

        with self.assertLogs("sse_threaded.log.sqlite.file", "WARNING") as logged:
            wait_until(is_taken_up, message="the log to be taken up")
        self.assertIn("could be opened now", "".join(logged.output))
        self.assertEqual(hub.health()["log"]["lastEventId"], f"{hub.log.epoch}-1")

    def test_a_file_that_goes_away_while_it_is_opened(self) -> None:
        with (
            mock.patch.object(HighWaterMark, "decide_epoch", side_effect=FileNotFoundError(2, "No such file")),
            self.assertLogs("sse_threaded", "WARNING"),
        ):
            log = open_log(self.url)
            self.addCleanup(log.close)
            self.assertRaisesRegex(LogUnavailable, "cannot be opened", log.append, "a", "x")

        def is_taken_up() -> bool:
            with contextlib.suppress(LogUnavailable):
                return log.append("a", "x").endswith("-1")
            return False

        wait_until(is_taken_up, message="the log to be taken up")

    def test_requests_do_not_queue_up_for_a_file_that_cannot_be_opened(self) -> None:
        with self.assertLogs("sse_threaded", "WARNING"):
            log = open_log(sqlite_url(self.folder / "nowhere"))
        self.addCleanup(log.close)
        with mock.patch.object(SQLiteFile, "prepare", autospec=True, side_effect=SQLiteFile.prepare) as prepare:
            for _ in range(100):
                self.assertRaises(LogUnavailable, log.read, 0)
        self.assertLess(prepare.call_count, 50)

    def test_what_no_waiting_can_mend_is_refused_by_the_first_process(self) -> None:
        open_log(self.url).close()
        for fault, words in (
            (self.no_database, "not a SQLite database"),
            (self.newer_schema, "schema 99"),
        ):
            with self.subTest(fault=fault.__name__), fault():
                printed = self.run_python("import sys; from sse_threaded import Hub; Hub(sys.argv[1])", 1)
                self.assertIn(words, printed)

    def test_nor_do_its_children_refuse_it_once_it_was_good(self) -> None:
        printed = self.run_python(
            """
            import os, sys
            from sse_threaded import Hub, LogUnusable
            if not os.fork():
                hub = Hub(sys.argv[1])
                hub.publish("a", "x")
                hub.close()
                os._exit(0)
            os.wait()
            os.rename(sys.argv[2], sys.argv[2] + "-kept")
            with open(sys.argv[2], "w") as file:
                file.write("These are my notes and no database at all." * 50)
            if not os.fork():
                hub = Hub(sys.argv[1])
                try:
                    hub.publish("a", "y")
                except LogUnusable as error:
                    print(error.reason, flush=True)
                os.replace(sys.argv[2] + "-kept", sys.argv[2])
                while True:
                    try:
                        print(hub.publish("a", "y"), flush=True)
                        break
                    except LogUnusable:
                        pass
                os._exit(0)
            os.wait()
            """
        )
        self.assertRegex(printed, r"not a SQLite database(.|\n)*[a-z]{6}-2")

    def test_a_url_that_is_none_is_always_refused(self) -> None:
        for url in ("sqlite:///", "sqlite:///x?mode=ro", "nothing://", f"sqlite:///{self.folder}/"):
            self.assertRaises(LogUnusable, Hub, url)


class CheckTest(LogFileCase):
    """What health checks ask of a log."""

    def make_log(self, timeouts: Timeouts | None = None) -> SQLiteLog:
        log = SQLiteLog(self.url, timeouts=timeouts)
        self.addCleanup(log.close)
        return log

    def start_check(self, log: SQLiteLog, results: list[str]) -> threading.Thread:
        """A thread that checks the log, once it has begun to wait for the connection that writes."""
        thread = threading.Thread(target=lambda: results.append(log.check()))
        waits, use = threading.Event(), SharedConnection.use

        def noted_use(shared: SharedConnection, **options: bool) -> contextlib.AbstractContextManager[object]:
            if threading.current_thread() is thread:
                waits.set()
            return use(shared, **options)

        patch = mock.patch.object(SharedConnection, "use", noted_use)
        patch.start()
        self.addCleanup(patch.stop)
        thread.start()
        self.assertTrue(waits.wait(10))
        return thread

    def test_it_changes_nothing(self) -> None:
        log = self.make_log(Timeouts(health=0))
        first = log.append("a", "x")
        mark = self.folder / "log.db-bells" / ".mark"
        before = mark.read_bytes()
        for _ in range(3):
            self.assertEqual(log.check(), first)
        self.assertEqual(mark.read_bytes(), before)
        self.assertEqual([record.data for record in log.read(0)], ["x"])
        self.assertEqual(log.append("a", "y"), first.replace("-1", "-2"))
        with log.snapshot() as snapshot:
            assert snapshot.connection is not None
            self.assertEqual(snapshot.connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])

    def test_it_writes_to_the_disk(self) -> None:
        log = self.make_log()
        log.append("a", "x")
        wal = Path(f"{self.path}-wal")
        before = wal.stat().st_size
        log.check()
        self.assertGreater(wal.stat().st_size, before)

    def test_a_good_result_holds_for_a_while(self) -> None:
        log = self.make_log(Timeouts(health=600))
        begin = SQLiteFile.begin_write
        with mock.patch.object(SQLiteFile, "begin_write", autospec=True, side_effect=begin) as tries:
            for _ in range(20):
                log.check()
        self.assertEqual(tries.call_count, 1)

    def test_a_full_file(self) -> None:
        log = self.make_log()
        log.append("a", "x")

        def let_it_have(pages: int) -> None:
            with log.transaction() as transaction:
                assert transaction.connection is not None
                transaction.connection.execute(f"PRAGMA max_page_count = {pages}")

        let_it_have(1)  # SQLite keeps the pages that there are
        self.assertRaisesRegex(LogUnavailable, "disk is full", log.check)
        let_it_have(1_000_000)
        self.assertEqual(log.check(), log.last_event_id())

    def test_a_file_that_was_removed(self) -> None:
        log = self.make_log()
        log.append("a", "x")
        self.path.rename(self.folder / "moved.db")
        self.assertRaisesRegex(LogUnusable, "removed or replaced", log.check)

    def test_inside_a_transaction_of_its_own_it_is_refused_and_nowhere_else(self) -> None:
        log = self.make_log()
        results: list[str] = []
        with log.transaction() as transaction:
            transaction.append("a", "x")
            self.assertRaises(NestedTransaction, log.check)
            checking = self.start_check(log, results)
            self.assertEqual(log.check(), f"{log.epoch}-0", "another prober has the result before")
        checking.join()
        self.assertEqual(results, [f"{log.epoch}-1"])

    def test_a_brief_lock_is_no_fault_and_a_long_one_takes_one_thread(self) -> None:
        log = self.make_log()
        log.append("a", "x")
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            results: list[str] = []
            checking = self.start_check(log, results)
            self.assertEqual(log.check(), log.last_event_id(), "another prober is not kept")
            other.execute("ROLLBACK")
            checking.join()
            self.assertEqual(results, [log.last_event_id()])
            impatient = self.make_log(Timeouts(lock=0.05))
            other.execute("BEGIN IMMEDIATE")
            self.assertRaisesRegex(LogUnavailable, "locked by another writer", impatient.check)
            other.execute("ROLLBACK")
        self.assertEqual(log.check(), log.last_event_id())


if __name__ == "__main__":
    unittest.main()
