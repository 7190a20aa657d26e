"""Killed processes, and files that go back: no two events get the same id, and a kill keeps the epoch."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import select
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import unittest
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from sse_threaded import EventLog, LogUnavailable, LogUnusable, Retention, open_log
from sse_threaded.log.sqlite.high_water_mark import HighWaterMark
from sse_threaded.log.sqlite.log import SQLiteLog
from sse_threaded.log.sqlite.timeouts import Timeouts
from tests.harness.warm_python import run_python
from tests.support import sqlite_url, temporary_directory


def publish(path: Path, name: str, way: str) -> NoReturn:
    """Publish without a pause. Each line is an id and the data of its event, written once the log has it."""
    patient = Timeouts(lock=60)  # the machine may be busy
    log = SQLiteLog(f"sqlite:///{path}", Retention(count=None), timeouts=patient)
    mine = sqlite3.connect(path, timeout=0)
    for number in itertools.count(1):
        data = f"{name}-{number}"
        if way == "append":
            event_id = log.append("a", data)
        elif way == "transaction":
            with log.transaction() as transaction:
                transaction.append("a", data + "-first")
                event_id = transaction.append("a", data)
        else:
            event_id = append_patiently(log, data, mine)
            mine.commit()
        os.write(1, f"{event_id} {data}\n".encode())
        time.sleep(0.001)  # so that the other processes get the lock
    raise AssertionError("it counts for ever")


def append_patiently(log: EventLog, data: str, mine: sqlite3.Connection) -> str:
    """Append over the app's connection; SQLite's own waiting would hardly ever get the lock beside the others."""
    while True:
        try:
            return log.append("a", data, connection=mine)
        except LogUnavailable:
            mine.rollback()
            time.sleep(0.001)


WAYS = ("append", "transaction", "connection")


class Publisher:
    """A process that publishes without a pause until it is killed."""

    def __init__(self, path: Path, name: str, way: str) -> None:
        self._printed = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this object
        self._output, output = os.pipe()
        # A fork has imported everything already; the tests start some hundred of these processes.
        self._pid = os.fork()
        if not self._pid:
            try:
                os.dup2(output, 1)
                os.dup2(self._errors.fileno(), 2)
                sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
                publish(path, name, way)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(output)

    def read_until(self, lines: int) -> None:
        """Wait until it has printed so many lines."""
        while self._printed.count(b"\n") < lines:
            ready, _, _ = select.select([self._output], [], [], 60)
            chunk = os.read(self._output, 65536) if ready else b""
            if not chunk:
                self.kill()
                raise AssertionError(f"no more than {self._printed!r}; {self._end()}")
            self._printed += chunk

    def kill(self) -> None:
        """Kill it, so that it cannot clean up."""
        os.kill(self._pid, signal.SIGKILL)

    def _end(self) -> str:
        """Wait for its end, and read the rest of what it printed; returns its errors."""
        os.waitpid(self._pid, 0)
        with open(self._output, "rb") as output:
            self._printed += output.read()
        with self._errors as errors:
            errors.seek(0)
            return errors.read().decode()

    def acknowledged(self) -> list[tuple[str, str]]:
        """Return all ids that it got, with the data of their events; after :meth:`kill`."""
        unexpected = [line for line in self._end().splitlines() if "made a new log" not in line]
        if unexpected:
            raise AssertionError("\n".join(unexpected))
        lines = self._printed.decode().split("\n")[:-1]  # the last was cut off, or is empty
        return [(event_id, data) for event_id, _, data in (line.partition(" ") for line in lines)]


def kill_together(publishers: Iterable[Publisher]) -> None:
    for publisher in publishers:
        publisher.kill()


class KilledTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.path = self.directory / "log.db"
        self.url = sqlite_url(self.directory)
        self.data_of: dict[str, str] = {}
        self.rounds = 0

    def run_and_kill(
        self, *, at_least: int, meanwhile: Callable[[], None] = lambda: None
    ) -> list[tuple[str, str]]:
        """Publish from several processes and kill all; returns what was acknowledged, with new ids only."""
        self.rounds += 1
        publishers = [Publisher(self.path, f"{self.rounds}-{way}", way) for way in WAYS]
        try:
            for publisher in publishers:
                publisher.read_until(at_least)
            meanwhile()
            for publisher in publishers:
                publisher.read_until(2 * at_least)
        finally:
            kill_together(publishers)
        acknowledged = [pair for publisher in publishers for pair in publisher.acknowledged()]
        for event_id, data in acknowledged:
            self.assertEqual(self.data_of.setdefault(event_id, data), data, f"{event_id} was given twice")
        return acknowledged

    def epoch(self) -> str:
        with contextlib.closing(open_log(self.url)) as log:
            return log.epoch

    def kept(self) -> dict[str, str]:
        """All events that the log has now."""
        found: dict[str, str] = {}
        after = 0
        with contextlib.closing(open_log(self.url)) as log:
            while page := log.read(after):
                found |= {log.event_id(record.sequence): record.data for record in page}
                after = page[-1].sequence
        return found

    def forget(self, *ends: str) -> None:
        for end in ends:
            Path(f"{self.path}{end}").unlink(missing_ok=True)

    def keep(self, name: str, *ends: str) -> None:
        folder = self.directory / name
        folder.mkdir(exist_ok=True)
        for end in ends:
            shutil.copyfile(f"{self.path}{end}", folder / f"log.db{end}")

    def put_back(self, name: str, *ends: str) -> None:
        for end in ends:
            shutil.copyfile(
                self.directory / name / f"log.db{end}", f"{self.path}{end}"
            )  # as cp does, over the file

    def back_up(self) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as source:
            (self.directory / "backup").mkdir(exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.directory / "backup" / "log.db")) as target:
                source.backup(target)

    def test_a_plain_kill_keeps_the_epoch_and_every_event(self) -> None:
        epochs = {self.epoch()}
        acknowledged = []
        for turn in range(5):
            acknowledged += self.run_and_kill(at_least=4 + 5 * turn)
            if turn % 2:
                epochs.add(self.epoch())  # otherwise a publisher is the first to open it
        epochs |= {event_id.partition("-")[0] for event_id in self.data_of}
        self.assertEqual(len(epochs), 1, epochs)
        kept = self.kept()
        self.assertEqual(kept | dict(acknowledged), kept)

    def test_what_goes_back_after_a_kill_begins_an_epoch(self) -> None:
        bells = f"{self.path}-bells"

        def lose_wal() -> None:
            self.forget("-wal", "-shm")

        def lose_all_beside() -> None:
            lose_wal()
            shutil.rmtree(bells)

        def older_pair() -> None:
            self.forget("-shm")
            self.put_back("kept", "", "-wal")

        def older_file() -> None:
            lose_wal()
            self.put_back("kept", "")

        def older_file_alone() -> None:
            lose_all_beside()
            self.put_back("kept", "")

        def backup() -> None:
            lose_wal()
            self.put_back("backup", "")

        def empty_wal() -> None:
            self.forget("-shm")
            os.truncate(f"{self.path}-wal", 0)

        def another_program_comes_first() -> None:
            lose_wal()
            with contextlib.closing(sqlite3.connect(self.path)) as mine, mine:
                mine.execute("CREATE TABLE IF NOT EXISTS notes (text)")
                mine.execute("INSERT INTO notes VALUES ('a')")

        def copy() -> None:
            with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as mine:
                mine.execute("BEGIN IMMEDIATE")  # so that all copies are of the same moment
                self.keep("kept", "", "-wal")
            self.back_up()

        for go_back in (
            lose_wal,
            lose_all_beside,
            older_pair,
            older_file,
            older_file_alone,
            backup,
            empty_wal,
            another_program_comes_first,
        ):
            with self.subTest(go_back=go_back.__name__):
                self.epoch()  # this closes the log in order
                before = dict(self.run_and_kill(at_least=4, meanwhile=copy))
                go_back()
                after = self.epoch()
                self.assertEqual(self.epoch(), after, "but once")
                if before.keys() - self.kept().keys():  # else SQLite had just copied all into the file
                    self.assertNotIn(after, {event_id.partition("-")[0] for event_id in before})
                self.run_and_kill(at_least=3)


class MarkTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.path = self.directory / "log.db"
        self.mark = self.directory / "log.db-bells" / ".mark"
        self.url = sqlite_url(self.directory)

    def make_log(self) -> SQLiteLog:
        log = open_log(self.url)
        self.addCleanup(log.close)
        assert isinstance(log, SQLiteLog)
        return log

    def run_code(self, code: str) -> str:
        return run_python(code, self.url, self.path).stdout

    def test_processes_that_come_and_go_beside_one_that_is_killed_keep_the_epoch(self) -> None:
        epoch = self.make_log().epoch
        for _ in range(4):
            publishers = [Publisher(self.path, way, way) for way in WAYS]
            try:
                publishers[0].read_until(5)
                publishers[0].kill()
                for _ in range(5):
                    with contextlib.closing(open_log(self.url)) as beside:
                        self.assertTrue(beside.append("a", "x").startswith(epoch))
                publishers[1].read_until(5)
                publishers[2].read_until(5)
            finally:
                kill_together(publishers)
            for publisher in publishers:
                for event_id, _ in publisher.acknowledged():
                    self.assertTrue(event_id.startswith(epoch), event_id)

    def test_what_was_rolled_back_costs_no_epoch(self) -> None:
        epoch = self.run_code(
            """
            import sys
            from sse_threaded import open_log
            log = open_log(sys.argv[1])
            print(log.append("a", "x"))
            """
        ).partition("-")[0]
        self.run_code(
            """
            import sys
            from sse_threaded import open_log
            log = open_log(sys.argv[1])
            with log.transaction() as transaction:
                transaction.append("a", "y")
                raise SystemExit("a script that fails")
            """
        )
        self.assertFalse(Path(f"{self.path}-wal").exists(), "all was in order")
        self.assertEqual(self.make_log().epoch, epoch)
        with contextlib.closing(open_log(self.url)) as log, contextlib.closing(sqlite3.connect(self.path)) as mine:
            assert isinstance(log, SQLiteLog)
            log.append("a", "z", connection=mine)
            mine.rollback()
        self.assertEqual(self.make_log().append("a", "next"), f"{epoch}-2")

    def test_a_number_that_was_reserved_before_a_kill_is_not_given(self) -> None:
        # Nobody can know whether its commit was there and somebody has seen the event.
        printed = self.run_code(
            """
            import os, signal, sys
            from unittest import mock
            from sse_threaded import open_log
            log = open_log(sys.argv[1])
            print(log.append("a", "x"), flush=True)
            with log.transaction() as transaction:
                print(transaction.append("a", "y"), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
        first, second = printed.split()
        log = self.make_log()
        self.assertEqual(log.last_event_id(), second)
        self.assertEqual(log.append("a", "z"), first.replace("-1", "-3"))
        self.assertEqual([record.data for record in log.read(0)], ["x", "z"])

    def test_a_transaction_reserves_its_numbers_behind_all_that_are_committed(self) -> None:
        log = self.make_log()
        for _ in range(3):
            log.append("a", "x")
        with log.transaction() as transaction:
            for reserved in (4, 5):
                transaction.append("a", "x")
                self.assertEqual([int(number) for number in self.mark.read_text().split()[1:3]], [3, reserved])

    def test_a_number_that_was_reserved_where_nothing_waits_beside_the_file_begins_an_epoch(self) -> None:
        # Its event may have been in a "-wal" that somebody has removed.
        with contextlib.closing(open_log(self.url)) as first:
            first.append("a", "x")
        HighWaterMark(str(self.path), self.url).reserve(first.epoch, 2, 1)
        with self.assertLogs("sse_threaded", "WARNING") as logs:
            log = self.make_log()
        self.assertIn("a new epoch", logs.output[0])
        self.assertNotEqual(log.epoch, first.epoch)

    def test_a_file_that_goes_back_in_use_is_refused_by_the_very_next_append(self) -> None:
        for way in (*WAYS, "autocommit"):
            with self.subTest(way=way):
                self.url = sqlite_url(self.directory, f"{way}.db")
                log = self.make_log()
                path = self.directory / f"{way}.db"
                log.append("a", "x")
                level = None if way == "autocommit" else "DEFERRED"
                with contextlib.ExitStack() as stack:
                    copy = sqlite3.connect(self.directory / f"{way}-backup.db")
                    backup = stack.enter_context(contextlib.closing(copy))
                    mine = stack.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=level)))
                    mine.backup(backup)
                    for _ in range(3):
                        log.append("a", "y")
                    backup.backup(mine)
                    before = mine.execute("SELECT data FROM sse_events").fetchall()
                    for _ in range(2):
                        with self.assertRaisesRegex(LogUnusable, "a backup was put into the file"):
                            self.append(log, way, mine)
                        mine.rollback()
                    self.assertRaisesRegex(LogUnusable, "a backup was put into the file", log.read, 0)
                    self.assertEqual(mine.execute("SELECT data FROM sse_events").fetchall(), before)
                with self.assertLogs("sse_threaded", "WARNING"):
                    self.assertNotEqual(self.make_log().epoch, log.epoch)

    @staticmethod
    def append(log: SQLiteLog, way: str, mine: sqlite3.Connection) -> None:
        if way == "append":
            log.append("a", "z")
        elif way == "transaction":
            with log.transaction() as transaction:
                transaction.append("a", "z")
        else:
            log.append("a", "z", connection=mine)

    def test_a_mark_that_is_removed_in_use_is_written_again(self) -> None:
        log = self.make_log()
        log.append("a", "x")
        shutil.rmtree(self.mark.parent)
        log.append("a", "y")
        self.assertEqual(self.make_log().epoch, log.epoch)
        self.assertEqual(self.mark.parent.stat().st_mode & 0o777, 0o755)
        self.path.chmod(0o660)
        self.mark.unlink()
        log.append("a", "z")
        self.assertEqual(self.mark.stat().st_mode & 0o777, 0o660, "who may write the log may write its mark")

    def test_a_mark_that_cannot_be_written_is_reported_once_and_holds_nobody_up(self) -> None:
        log = self.make_log()
        shutil.rmtree(self.mark.parent)
        self.mark.parent.write_text("in the way")
        with self.assertLogs("sse_threaded.log.sqlite.high_water_mark", "WARNING") as logged:
            for _ in range(3):
                log.append("a", "x")
        self.assertEqual(len(logged.output), 1, logged.output)
        log.close()
        with self.assertLogs("sse_threaded", "WARNING"):
            again = self.make_log()
        self.assertNotEqual(again.epoch, log.epoch, "nobody knows how far it had come")
        self.assertEqual(self.make_log().epoch, again.epoch, "but once")
        self.mark.parent.unlink()
        self.assertEqual(self.make_log().epoch, again.epoch)
        again.append("a", "y")
        self.assertEqual(self.make_log().epoch, again.epoch)
        self.mark.unlink()
        with self.assertLogs("sse_threaded", "WARNING"):
            self.assertNotEqual(self.make_log().epoch, again.epoch, "from now on it is known again")

    def test_a_link_in_its_place_is_not_followed(self) -> None:
        log = self.make_log()
        precious = self.directory / "precious"
        precious.write_text("precious")
        self.mark.unlink()
        self.mark.symlink_to(precious)
        log.append("a", "x")
        self.assertEqual(precious.read_text(), "precious")
        self.assertFalse(self.mark.is_symlink())


class LeftBehindTest(unittest.TestCase):
    """Somebody removes or replaces the files of a process, and other processes go on with new files."""

    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.path = self.directory / "log.db"
        self.url = sqlite_url(self.directory)

    def append_elsewhere(self, *data: str) -> str:
        """Append in another process; returns the last id."""
        code = """
import sys
from sse_threaded import open_log
log = open_log(sys.argv[1])
last = [log.append("a", each) for each in sys.argv[2:]][-1]
assert [record.data for record in log.read(0)][-len(sys.argv[2:]):] == sys.argv[2:]
with log.snapshot() as snapshot:
    assert snapshot.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
print(last)
log.close()
"""
        done = run_python(code, self.url, *data)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_its_end_takes_nothing_from_others(self) -> None:
        for number, ends in enumerate((("-shm",), ("-wal", "-shm"), ("", "-wal", "-shm"), ("",))):
            with self.subTest(ends=ends):
                self.url = sqlite_url(self.directory, f"{number}.db")
                path = self.url.removeprefix("sqlite:///")
                log = open_log(self.url)
                for _ in range(20):
                    log.append("a", "x")
                log.read(0)
                for end in ends:
                    os.unlink(f"{path}{end}")
                last = self.append_elsewhere("of others", "the last")
                self.assertRaises(LogUnusable, log.append, "a", "y")
                log.close()
                gc.collect()  # it must not close a connection either
                kept = self.append_elsewhere("afterwards")
                self.assertEqual(kept.partition("-")[0], last.partition("-")[0])
                self.assertEqual(int(kept.partition("-")[2]), int(last.partition("-")[2]) + 1)

    def test_nor_does_the_end_of_a_process_that_only_reads(self) -> None:
        for number, ends in enumerate((("-shm",), ("-wal", "-shm"))):
            with self.subTest(ends=ends):
                self.url = sqlite_url(self.directory, f"reader-{number}.db")
                path = self.url.removeprefix("sqlite:///")
                log = open_log(self.url)
                log.read(0)
                self.append_elsewhere(*["x"] * 20)
                self.assertEqual(len(log.read(0)), 20)
                for end in ends:
                    os.unlink(f"{path}{end}")
                last = self.append_elsewhere("of others", "the last")
                log.close()
                kept = self.append_elsewhere("afterwards")
                self.assertEqual(kept.partition("-")[0], last.partition("-")[0])
                self.assertEqual(int(kept.partition("-")[2]), int(last.partition("-")[2]) + 1)

    def test_nor_does_it_take_their_files(self) -> None:
        log = open_log(self.url)
        log.append("a", "x")
        log.read(0)
        self.path.rename(self.directory / "moved.db")
        for end in ("-wal", "-shm"):
            os.rename(f"{self.path}{end}", self.directory / f"moved.db{end}")
        other = Publisher(self.path, "other", "append")
        try:
            other.read_until(3)
            log.close()
            self.assertTrue(Path(f"{self.path}-wal").exists())
            other.read_until(500)
        finally:
            other.kill()
        self.assertGreater(len(other.acknowledged()), 400)

    def test_where_nobody_else_came_its_end_saves_what_it_had(self) -> None:
        log = open_log(self.url)
        last = [log.append("a", "x") for _ in range(20)][-1]
        os.unlink(f"{self.path}-wal")
        log.close()
        with contextlib.closing(open_log(self.url)) as again:
            self.assertEqual(again.last_event_id(), last)
            self.assertEqual(len(again.read(0)), 20)


if __name__ == "__main__":
    unittest.main()
