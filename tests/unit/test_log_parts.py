"""The logs' small parts: pages at their bounds, the log in memory, doorbells, checks, the trimmer's rounds."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import sqlite3
import stat
import sys
import threading
import types
import unittest
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from sse_threaded.errors import HistoryGone, LogError, LogUnavailable, LogUnusable
from sse_threaded.log import MemoryLog, Retention, SQLiteLog
from sse_threaded.log.doorbell import Doorbell, FifoDoorbell, Ringer, make_folder
from sse_threaded.log.event_id import parse_event_id
from sse_threaded.log.interface import NestedTransaction
from sse_threaded.log.record import PAGE_CHARACTERS, PAGE_EVENTS, Record, page_of
from sse_threaded.log.retention import AS_OTHERS_KEEP
from sse_threaded.log.sqlite import trimmer as trimmer_module
from sse_threaded.log.sqlite.connection import LogConnection, SharedConnection
from sse_threaded.log.sqlite.file import SQLiteFile
from sse_threaded.log.sqlite.health_check import HealthCheck
from sse_threaded.log.sqlite.timeouts import Timeouts
from sse_threaded.log.sqlite.trimmer import REMEMBERED_CHANNELS, Trimmer
from sse_threaded.log.startup import open_at_start
from sse_threaded.log.validation import validate_channel, validate_event
from tests.support import sqlite_url, temporary_directory, wait_until


def records(*data: str) -> list[Record]:
    return [Record(number, "a", None, text) for number, text in enumerate(data, 1)]


class PageBoundsTest(unittest.TestCase):
    def test_a_page_has_200_events_at_most_and_is_full_only_if_there_are_more(self) -> None:
        self.assertEqual(PAGE_EVENTS, 200)
        page = page_of(records(*["x"] * 200))
        self.assertEqual((len(page), page.full), (200, False))
        page = page_of(records(*["x"] * 201))
        self.assertEqual((len(page), page.full), (200, True))

    def test_a_page_has_256_kilobytes_of_data_at_most(self) -> None:
        self.assertEqual(PAGE_CHARACTERS, 262_144)
        half = "x" * (PAGE_CHARACTERS // 2)
        page = page_of(records(half, half))
        self.assertEqual((len(page), page.full), (2, False))
        page = page_of(records(half, half + "x"))
        self.assertEqual((len(page), page.full), (1, True))
        page = page_of(records(half + half + "x", ""))
        self.assertEqual((len(page), page.full), (1, True))

    def test_an_empty_page_is_not_full(self) -> None:
        self.assertFalse(page_of([]).full)
        self.assertFalse(page_of(records("x"), 0).full)

    def test_what_is_beyond_the_last_that_is_wanted_makes_no_page_full(self) -> None:
        self.assertFalse(page_of(records(*["x"] * 201), 200).full)
        self.assertFalse(page_of(records("x" * PAGE_CHARACTERS, "x"), 1).full)


class ChecksTest(unittest.TestCase):
    def test_an_event_id_has_six_letters_and_up_to_18_digits(self) -> None:
        for event_id, expected in (
            ("abcdef-0", ("abcdef", 0)),
            ("abcdef-10", ("abcdef", 10)),
            ("abcdef-" + "9" * 18, ("abcdef", 10**18 - 1)),
        ):
            self.assertEqual(parse_event_id(event_id), expected)
        for event_id in ("abcde-1", "abcdefg-1", "abcdef-1" + "0" * 18, "abcdef-00"):
            with self.subTest(event_id), self.assertRaises(HistoryGone):
                parse_event_id(event_id)

    def test_what_is_valid_is_returned(self) -> None:
        self.assertIsNone(validate_channel("c"))  # type: ignore[func-returns-value]
        self.assertEqual(validate_event("c", {"a": 1}, "e"), ("c", '{"a":1}', "e"))
        self.assertEqual(validate_event("c", "x", "resets"), ("c", "x", "resets"))
        self.assertEqual(validate_event("c", "x", None), ("c", "x", None))

    def test_retention_takes_its_bounds_themselves(self) -> None:
        hundred_years = 3_155_760_000
        Retention(count=1, age=1)
        Retention(count=None, age=hundred_years)
        for count, age in ((0, None), (None, 0.999), (None, hundred_years + 1)):
            with self.subTest(count=count, age=age), self.assertRaises(ValueError):
                Retention(count=count, age=age)
        self.assertEqual((AS_OTHERS_KEEP.count, AS_OTHERS_KEEP.age), (None, None))


class MemoryTest(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 0.0

    def make_log(self, retention: Retention | None = None, **options: Any) -> MemoryLog:
        return MemoryLog(retention, clock=lambda: self.now, **options)

    def test_the_feed_of_all_channels_has_the_newest_events_also_those_that_are_trimmed(self) -> None:
        log = self.make_log(Retention(count=5, age=None))
        for number in range(1, 1001):
            log.append("a", str(number))
        self.assertEqual([record.sequence for record in log.read(0)], list(range(1, 201)))
        self.assertEqual([record.sequence for record in log.read(997)], [998, 999, 1000])
        self.assertEqual(log.read(1000), [])
        self.assertRaises(HistoryGone, log.read, 0, channels=["a"])
        log.append("a", "1001")
        self.assertEqual(log.read(1)[0].sequence, 2)
        self.assertRaises(HistoryGone, log.read, 0)

    def test_a_feed_that_is_asked_for_a_part_ends_there(self) -> None:
        log = self.make_log()
        for _ in range(5):
            log.append("a", "x")
        self.assertEqual([record.sequence for record in log.read(1, upto=3)], [2, 3])

    def test_an_age_is_over_after_its_last_moment(self) -> None:
        log = self.make_log(Retention(count=None, age=10.0))
        log.append("a", "x")
        self.now = 10.0
        self.assertEqual(log.trim(), 0)
        self.now = 10.1
        self.assertEqual(log.trim(), 1)

    def test_how_many_were_trimmed_counts_none_twice(self) -> None:
        log = self.make_log(Retention(count=None, age=10.0))
        for second in range(10):
            self.now = float(second)
            log.append("a", "x")
        for now, trimmed in ((13.0, 3), (15.0, 2), (15.0, 0), (30.0, 5)):
            self.now = now
            self.assertEqual(log.trim(), trimmed)

    def test_a_reader_that_has_the_newest_trimmed_event_goes_on(self) -> None:
        log = self.make_log(Retention(count=2, age=None))
        for _ in range(5):
            log.append("a", "x")
        self.assertEqual([record.sequence for record in log.read(3, channels=["a"])], [4, 5])
        self.assertRaises(HistoryGone, log.read, 2, channels=["a"])

    def test_each_append_trims_two_other_channels_by_age(self) -> None:
        log = self.make_log(Retention(count=None, age=10.0), remembered_channels=0)
        for number in range(20):
            log.append(f"channel-{number}", "x")
        self.now = 20.0
        for _ in range(30):
            log.append("busy", "x")
        self.assertIn("channels=1>", repr(log), "all others were trimmed and forgotten")

    def test_channels_are_forgotten_only_beyond_the_limit(self) -> None:
        for remembered, kept in ((5, 5), (4, 4), (3, 3)):
            with self.subTest(remembered=remembered):
                log = self.make_log(Retention(count=None, age=10.0), remembered_channels=remembered)
                self.now = 0.0
                for number in range(5):
                    log.append(f"channel-{number}", "x")
                self.now = 20.0
                self.assertEqual(log.trim(), 5)
                self.assertIn(f"channels={kept}>", repr(log))
                self.assertRaises(HistoryGone, log.read, 0, channels=["channel-0"])
                if kept < 5:
                    self.assertRaises(HistoryGone, log.read, 0, channels=["unknown"])
                    forgotten = 5 - kept
                    self.assertEqual(log.read(forgotten, channels=["unknown"]), [])
                    self.assertRaises(HistoryGone, log.read, forgotten - 1, channels=["unknown"])
                else:
                    self.assertEqual(log.read(0, channels=["unknown"]), [])

    def test_an_empty_transaction_rings_nobody(self) -> None:
        log = self.make_log()
        doorbell = log.open_doorbell()
        with log.transaction():
            pass
        self.assertFalse(is_ringing(doorbell))
        with log.transaction() as transaction:
            transaction.append("a", "x")
        self.assertTrue(is_ringing(doorbell))

    def test_doorbells_that_were_closed_are_dropped(self) -> None:
        log = self.make_log()
        first = log.open_doorbell()
        first.close()
        log.ring()  # nobody minds
        log.open_doorbell()
        first.clear()
        log.ring()
        self.assertFalse(is_ringing(first))
        second = log.open_doorbell()
        log.close()
        log.ring()
        self.assertFalse(is_ringing(second))

    def test_its_lock_is_held_for_a_fork_and_given_back_once(self) -> None:
        log = self.make_log()
        done = threading.Event()

        def append() -> None:
            log.append("a", "x")
            done.set()

        log.before_fork()
        thread = threading.Thread(target=append, daemon=True)
        thread.start()
        self.assertFalse(done.is_set())
        log.after_fork(in_child=False)
        self.assertTrue(done.wait(10))
        log.after_fork(in_child=False)  # as after an interrupt before the lock was taken
        thread.join(10)

    def test_a_child_has_an_epoch_a_lock_and_doorbells_of_its_own(self) -> None:
        log = self.make_log()
        epoch, doorbell = log.epoch, log.open_doorbell()
        holds, ends = threading.Event(), threading.Event()

        def hold() -> None:
            with log.snapshot():
                holds.set()
                ends.wait(10)

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        self.assertTrue(holds.wait(10))
        log.after_fork(in_child=True)
        self.assertNotEqual(log.epoch, epoch)
        log.append("a", "x")  # it would wait for the other thread
        self.assertFalse(is_ringing(doorbell))
        ends.set()
        thread.join(10)
        log.after_fork(in_child=False)


def is_ringing(doorbell: Doorbell) -> bool:
    return bool(select.select([doorbell], [], [], 0)[0])


class DoorbellTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = str(temporary_directory(self) / "bells")
        self.ringer = Ringer(self.folder)
        self.addCleanup(self.ringer.close)

    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def test_one_that_could_not_be_made_is_dropped_without_an_error(self) -> None:
        unraisable = mock.Mock()
        with mock.patch.object(sys, "unraisablehook", unraisable):
            with mock.patch("os.pipe", side_effect=OSError(24, "Too many open files")):
                self.assertRaises(OSError, Doorbell)
            Doorbell()
            gc.collect()
        unraisable.assert_not_called()

    def test_neither_side_blocks(self) -> None:
        doorbell = Doorbell()
        for _ in range(3):
            doorbell.clear()
        for _ in range(70_000):  # more than a pipe holds
            doorbell.ring()
        self.assertTrue(is_ringing(doorbell))
        doorbell.clear()
        self.assertFalse(is_ringing(doorbell), "one look takes all rings")

    def test_its_descriptors_are_closed_when_nobody_has_it_and_not_before(self) -> None:
        before = self.descriptors()
        doorbell = Doorbell()
        doorbell.close()
        doorbell.ring()
        self.assertEqual(self.descriptors(), before + 2)
        del doorbell
        self.assertEqual(self.descriptors(), before)
        fifo = FifoDoorbell(self.folder, 0o600)
        self.assertEqual(self.descriptors(), before + 1)
        fifo.close()
        del fifo
        self.assertEqual(self.descriptors(), before)

    def test_a_fifo_that_could_not_be_put_in_its_place_is_removed(self) -> None:
        for step in ("open", "chmod", "rename"):
            with self.subTest(step):
                make_folder(self.folder, 0o600)
                with (
                    mock.patch("sse_threaded.log.doorbell.make_folder"),
                    mock.patch(f"os.{step}", side_effect=OSError(13, "not allowed")),
                ):
                    self.assertRaises(OSError, FifoDoorbell, self.folder, 0o600)
                self.assertEqual(os.listdir(self.folder), [])

    def test_a_closed_one_is_gone_and_another_with_its_name_stays(self) -> None:
        doorbell = FifoDoorbell(self.folder, 0o600)
        (name,) = os.listdir(self.folder)
        doorbell.close()
        self.assertTrue(doorbell.closed)
        self.assertEqual(os.listdir(self.folder), [])
        os.mkfifo(os.path.join(self.folder, name))
        doorbell.close()
        self.assertEqual(os.listdir(self.folder), [name])

    def test_who_may_read_or_write_the_log_may_enter_the_folder(self) -> None:
        for mode, expected in ((0o600, 0o700), (0o660, 0o770), (0o664, 0o775), (0o640, 0o750), (0o200, 0o200)):
            with self.subTest(oct(mode)):
                make_folder(self.folder, mode)
                self.assertEqual(stat.S_IMODE(os.stat(self.folder).st_mode), expected)

    def test_a_file_in_the_folders_place_is_an_error_and_a_folder_of_others_is_none(self) -> None:
        with mock.patch("os.chmod", side_effect=PermissionError(1, "not yours")):
            make_folder(self.folder, 0o600)
            make_folder(self.folder, 0o600)
        os.rmdir(self.folder)
        Path(self.folder).write_text("in the way")
        self.assertRaises(FileExistsError, make_folder, self.folder, 0o600)

    def test_all_are_rung_and_hidden_ones_are_not(self) -> None:
        self.ringer.ring()  # the folder need not be there
        bells = [FifoDoorbell(self.folder, 0o600) for _ in range(3)]
        hidden = FifoDoorbell(self.folder, 0o600)
        name = hidden._path
        os.rename(name, os.path.join(self.folder, ".hidden"))
        for _ in range(2):
            self.ringer.ring()
            self.assertEqual([is_ringing(bell) for bell in (*bells, hidden)], [True, True, True, False])
            for bell in bells:
                bell.clear()

    def test_a_ringer_keeps_one_descriptor_for_each_and_closes_those_of_bells_that_are_gone(self) -> None:
        first, second = FifoDoorbell(self.folder, 0o600), FifoDoorbell(self.folder, 0o600)
        before = self.descriptors()
        for _ in range(3):
            self.ringer.ring()
        self.assertEqual(self.descriptors(), before + 2)
        first.close()
        self.ringer.ring()
        self.assertEqual(self.descriptors(), before + 1)
        self.assertTrue(is_ringing(second))
        self.ringer.close()
        self.ringer.close()
        self.assertEqual(self.descriptors(), before)

    def test_bells_of_dead_processes_are_removed_also_those_that_were_rung_before(self) -> None:
        make_folder(self.folder, 0o600)
        never, once = os.path.join(self.folder, "1-never"), os.path.join(self.folder, "2-once")
        os.mkfifo(never)
        os.mkfifo(once)
        reader = os.open(once, os.O_RDONLY | os.O_NONBLOCK)
        before = self.descriptors()
        self.ringer.ring()
        self.assertEqual(os.listdir(self.folder), ["2-once"])
        os.close(reader)
        self.ringer.ring()
        self.assertEqual(os.listdir(self.folder), [])
        self.assertEqual(self.descriptors(), before - 1)

    def test_a_child_closes_the_descriptors_whoever_holds_the_lock(self) -> None:
        bell = FifoDoorbell(self.folder, 0o600)
        before = self.descriptors()
        self.ringer.ring()
        bell.clear()
        with self.ringer._lock:
            self.ringer.after_fork_in_child()
            self.assertEqual(self.descriptors(), before)
            self.ringer.ring()  # it would wait for ever
        self.assertTrue(is_ringing(bell))


class StartTest(unittest.TestCase):
    """How a log is opened at the start; the URLs are no log's, and each test has one of its own."""

    def fail(self, error: type[LogUnavailable | LogUnusable]) -> Any:  # type: ignore[override]
        return mock.Mock(side_effect=error("memory://", "broken"))

    def test_an_unavailable_log_is_gone_without_unless_it_is_required(self) -> None:
        with self.assertLogs("sse_threaded.log.startup", "WARNING"):
            open_at_start("test:unavailable", self.fail(LogUnavailable))
        with self.assertRaises(LogUnavailable):
            open_at_start("test:unavailable", self.fail(LogUnavailable), is_required=True)

    def test_an_unusable_log_is_refused_by_the_process_that_opened_it_first(self) -> None:
        with self.assertRaises(LogUnusable):
            open_at_start("test:unusable", self.fail(LogUnusable))
        opened = mock.Mock()
        open_at_start("test:unusable", opened)
        opened.assert_called_once_with()
        with self.assertRaises(LogUnusable):
            open_at_start("test:unusable", self.fail(LogUnusable))
        child = os.fork()
        if not child:
            status = 1
            with contextlib.suppress(BaseException), self.assertLogs("sse_threaded.log.startup", "WARNING"):
                open_at_start("test:unusable", mock.Mock())  # the first one stays the first
                open_at_start("test:unusable", self.fail(LogUnusable))
                status = 0
            os._exit(status)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        with self.assertRaises(LogUnusable):
            open_at_start("test:unusable", self.fail(LogUnusable))


class TrimmerRoundsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = temporary_directory(self)

    def make_log(self, retention: Retention, **options: Any) -> SQLiteLog:
        log = SQLiteLog(sqlite_url(self.directory), retention, **options)
        self.addCleanup(log.close)
        return log

    def make_older(self, log: SQLiteLog) -> None:
        with log.transaction() as transaction:
            assert transaction.connection is not None
            transaction.connection.execute("UPDATE sse_events SET created = created - 1000")

    def count(self, log: SQLiteLog, table: str) -> int:
        with log.snapshot() as snapshot:
            assert snapshot.connection is not None
            return int(snapshot.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def test_a_round_trims_by_age_alone_and_forgets_channels(self) -> None:
        log = self.make_log(Retention(count=None, age=100.0), timeouts=Timeouts(trim=0.01), remembered_channels=3)
        for number in range(10):
            log.append(f"channel-{number}", "x")
        self.make_older(log)
        log.open_doorbell()
        wait_until(lambda: not self.count(log, "sse_events"), message="the events to go")
        wait_until(lambda: self.count(log, "sse_channels") <= 4, message="the channels to be forgotten")

    def test_a_round_trims_by_count_what_other_processes_left(self) -> None:
        log = self.make_log(Retention(count=None, age=None))
        for _ in range(10):
            log.append("a", "x")
        other = self.make_log(Retention(count=4, age=None), timeouts=Timeouts(trim=0.01))
        other.open_doorbell()
        wait_until(lambda: self.count(log, "sse_events") == 4, message="the channel to be trimmed")

    def test_who_must_not_decide_trims_and_forgets_nothing(self) -> None:
        first = self.make_log(Retention(count=None, age=100.0))
        for number in range(10):
            first.append(f"channel-{number}", "x")
        self.make_older(first)
        self.assertEqual(first.trim(), 10)
        first.append("a", "x")
        channels = self.count(first, "sse_channels")
        rounds = threading.Semaphore(0)
        update_mark = Trimmer._update_mark

        def noted(trimmer: Trimmer) -> None:
            update_mark(trimmer)
            rounds.release()

        with mock.patch.object(Trimmer, "_update_mark", noted):
            log = self.make_log(AS_OTHERS_KEEP, timeouts=Timeouts(trim=0.01), remembered_channels=3)
            log.open_doorbell()
            for _ in range(3):
                self.assertTrue(rounds.acquire(timeout=10))
        self.assertEqual((self.count(log, "sse_events"), self.count(log, "sse_channels")), (1, channels))

    def test_the_thread_starts_when_a_channel_has_grown_by_an_eighth_of_its_bound(self) -> None:
        for count, appends in ((8, 16), (128, 16), (160, 20)):
            with self.subTest(count=count), mock.patch.object(Trimmer, "start") as start:
                log = self.make_log(Retention(count=count, age=None))
                for number in range(1, appends + 1):
                    start.reset_mock()
                    log.append("a", "x")
                    log.append(f"other-{number}", "x")
                    self.assertEqual(start.called, number == appends)
                log.close()

    def test_events_that_are_just_within_the_bounds_stay(self) -> None:
        log = self.make_log(Retention(count=5, age=None))
        for _ in range(5):
            log.append("a", "x")
        self.assertEqual(log.trim(), 0)
        log.append("a", "x")
        self.assertEqual(log.trim(), 1)
        self.assertEqual([record.sequence for record in log.read(1, channels=["a"])], [2, 3, 4, 5, 6])
        self.assertRaises(HistoryGone, log.read, 0, channels=["a"])

    def test_the_first_event_stays_where_a_channel_has_few(self) -> None:
        log = self.make_log(Retention(count=5, age=None))
        log.append("a", "the first")
        for _ in range(20):
            log.append("busy", "x")
        log.append("a", "the last")
        log.trim()
        self.assertEqual([record.data for record in log.read(0, channels=["a"])], ["the first", "the last"])

    def test_it_remembers_as_many_channels_as_it_should(self) -> None:
        log = self.make_log(Retention(count=None, age=100.0), remembered_channels=3)
        for number in range(10):
            log.append(f"channel-{number}", "x")
        self.make_older(log)
        self.assertEqual(log.trim(), 10)
        log.trim()
        self.assertEqual(self.count(log, "sse_channels"), 3)
        log.trim()
        self.assertEqual(self.count(log, "sse_channels"), 3)

    def test_channels_that_are_forgotten_leave_the_newest_number_of_them(self) -> None:
        log = self.make_log(Retention(count=None, age=100.0), remembered_channels=3)
        for number in range(10):
            log.append(f"channel-{number}", "x")
        self.make_older(log)
        for _ in range(2):
            log.trim()
        self.assertRaises(HistoryGone, log.read, 7, channels=["unknown"])
        self.assertEqual(log.read(8, channels=["unknown"]), [])

    def test_where_no_channel_is_to_be_forgotten_nothing_is_written(self) -> None:
        log = self.make_log(Retention(count=1, age=None))
        for _ in range(2):
            log.append("a", "x")
        log.trim()
        for remembered, writes in ((1, False), (0, True)):
            statements = self.statements_of(Retention(count=1, age=None), Trimmer.trim_all, remembered)
            self.assertEqual("BEGIN IMMEDIATE" in statements, writes)

    def test_a_step_that_fails_gives_the_write_lock_back(self) -> None:
        log = self.make_log(Retention(count=None, age=None), timeouts=Timeouts(lock=0.05))
        for _ in range(5):
            log.append("a", "x")

        def fail(trimmer: Trimmer) -> None:
            denied = [sqlite3.SQLITE_DELETE]
            with trimmer.connection.use() as connection:
                connection.set_authorizer(
                    lambda action, *_: sqlite3.SQLITE_DENY if action in denied else sqlite3.SQLITE_OK
                )
            self.assertRaises(LogUnusable, trimmer.trim_all)
            log.append("a", "x")

        self.statements_of(Retention(count=1, age=None), fail)

    def test_its_end_writes_how_far_the_log_has_come_if_its_thread_ran(self) -> None:
        log = self.make_log(Retention(count=None, age=None))
        mark = self.directory / "log.db-bells" / ".mark"

        def committed() -> int:
            return int(mark.read_text().split()[1])

        def stop(trimmer: Trimmer, *, has_thread: bool) -> None:
            if has_thread:
                for _ in range(16):  # so that it makes its first round now
                    trimmer.count_append("a")
                wait_until(lambda: committed() == 2, message="the first round")
                (thread,) = [each for each in threading.enumerate() if "trimmer" in each.name]
                self.assertTrue(thread.daemon, "it does not keep a process from its end")
                log.append("a", "x")
            join = mock.patch.object(threading.Thread, "join", autospec=True, side_effect=threading.Thread.join)
            with mock.patch("os.fsync") as fsync, join as joined:
                trimmer.stop()
            self.assertEqual((fsync.called, joined.called), (has_thread, has_thread))

        for has_thread, expected in ((False, 0), (True, 3)):
            log.append("a", "x")
            self.statements_of(Retention(count=128), partial(stop, has_thread=has_thread))
            self.assertEqual(committed(), expected)

    def test_of_20_000_channels_it_counts_how_they_have_grown(self) -> None:
        for others, is_counted in ((19_999, True), (20_000, False)):

            def grow(trimmer: Trimmer, others: int = others) -> None:
                for _ in range(15):
                    trimmer.count_append("a")
                for number in range(others):
                    trimmer.count_append(f"channel-{number}")
                trimmer.count_append("a")

            with self.subTest(others=others), mock.patch.object(Trimmer, "start") as start:
                self.statements_of(Retention(count=8), grow)
                self.assertIs(start.called, is_counted)

    def test_between_two_rounds_a_channel_that_has_grown_is_trimmed(self) -> None:
        log = self.make_log(Retention(count=16, age=None), timeouts=Timeouts(trim=3600))
        trim_grown, a_round = Trimmer.trim_grown, Trimmer._round
        with (
            mock.patch.object(Trimmer, "trim_grown", autospec=True, side_effect=trim_grown) as looks,
            mock.patch.object(Trimmer, "_round", autospec=True, side_effect=a_round) as rounds,
        ):
            for _ in range(3):  # the first time there is a round
                for _ in range(40):
                    log.append("a", "x")
                wait_until(lambda: self.count(log, "sse_events") <= 32, message="the channel to be trimmed")
        self.assertLessEqual(looks.call_count, 120, "it sleeps while no channel has grown")
        self.assertEqual(rounds.call_count, 1)

    def statements_of(
        self, retention: Retention, step: Callable[[Trimmer], object], remembered: int = REMEMBERED_CHANNELS
    ) -> list[str]:
        """What a trimmer beside the log's own asks SQLite in one step."""
        file = SQLiteFile(str(self.directory / "log.db"), sqlite_url(self.directory), "full")
        trimmer = Trimmer(file, retention, remembered)
        self.addCleanup(trimmer.stop)
        statements: list[str] = []
        with trimmer.connection.use() as connection:
            connection.set_trace_callback(statements.append)
        step(trimmer)
        return statements

    def test_a_round_looks_at_200_channels_and_the_next_one_goes_on(self) -> None:
        log = self.make_log(Retention(count=None, age=None))
        with log.transaction() as transaction:
            for number in range(250):
                transaction.append(f"channel-{number:03}", "x")

        def two_rounds(trimmer: Trimmer) -> None:
            trimmer._round()
            trimmer._round()

        statements = self.statements_of(Retention(count=5), two_rounds)
        looks = [statement for statement in statements if statement.startswith("SELECT channel FROM sse_events")]
        self.assertEqual(len(looks), 200 + 51)
        self.assertIn("'channel-198'", looks[199])
        self.assertIn("'channel-199'", looks[200])

    def test_a_channel_counts_as_grown_from_an_eighth_of_its_bound_on_and_then_anew(self) -> None:
        self.make_log(Retention(count=None, age=None)).append("a", "x")
        for appends, looks in (
            ((15,), [False]),
            ((16,), [True]),
            ((16, 15), [True, False]),
            ((15, 1), [False, True]),
        ):
            found: list[bool] = []

            def grow(trimmer: Trimmer, appends: tuple[int, ...] = appends, found: list[bool] = found) -> None:
                for number in appends:
                    for _ in range(number):
                        trimmer.count_append("a")
                    with mock.patch.object(trimmer, "_trim") as trim:
                        trimmer.trim_grown()
                    found.append(trim.called)

            with self.subTest(appends=appends), mock.patch.object(Trimmer, "start"):
                self.statements_of(Retention(count=8), grow)
                self.assertEqual(found, looks)

    def test_one_transaction_deletes_250_events_at_most(self) -> None:
        log = self.make_log(Retention(count=None, age=None))
        with log.transaction() as transaction:
            for _ in range(601):
                transaction.append("a", "x")
        statements = self.statements_of(Retention(count=1, age=None), Trimmer.trim_all)
        self.assertEqual(len([each for each in statements if each.startswith("DELETE FROM sse_events")]), 3)
        self.assertEqual(statements.count("COMMIT"), 3)
        self.assertEqual(self.count(log, "sse_events"), 1)

    def test_a_round_looks_at_each_channel_once(self) -> None:
        log = self.make_log(Retention(count=None, age=None))
        for number in range(3):
            log.append(f"channel-{number}", "x")
        statements = self.statements_of(Retention(count=5), Trimmer._round)
        looks = [statement for statement in statements if statement.startswith("SELECT channel FROM sse_events")]
        self.assertEqual(len(looks), 4)

    def test_a_round_that_fails_is_told_unless_the_log_is_being_closed(self) -> None:
        for is_closed in (False, True):
            begun = threading.Event()

            def fail(trimmer: Trimmer, is_closed: bool = is_closed, begun: threading.Event = begun) -> None:
                begun.set()
                if is_closed:
                    wait_until(lambda: trimmer._stopped, message="the log to be closed")
                raise LogUnavailable("memory://", "away")

            logger = mock.Mock()
            with (
                self.subTest(is_closed=is_closed),
                mock.patch.object(Trimmer, "_round", fail),
                mock.patch.object(trimmer_module, "ThrottledLog", return_value=logger),
            ):
                log = self.make_log(Retention(), timeouts=Timeouts(trim=0.01))
                log.open_doorbell()
                self.assertTrue(begun.wait(10))
                if not is_closed:
                    wait_until(partial(getattr, logger.warning, "called"), message="the line")
                log.close()
                self.assertEqual(logger.warning.called, not is_closed)

    def test_a_stopped_trimmer_does_not_start_again(self) -> None:
        log = self.make_log(Retention(count=16, age=None))
        log.open_doorbell()
        log.close()
        names = [thread.name for thread in threading.enumerate()]
        self.assertNotIn("sse_threaded trimmer", names)


class SharedConnectionTest(unittest.TestCase):
    def setUp(self) -> None:
        path = temporary_directory(self) / "log.db"
        log = SQLiteLog(sqlite_url(path.parent))
        self.addCleanup(log.close)
        self.shared = SharedConnection(SQLiteFile(str(path), log.url, "full", Timeouts(lock=0.05)))
        self.addCleanup(self.shared.close)

    def use(self, **options: bool) -> LogConnection:
        with self.shared.use(**options) as connection:
            connection.execute("SELECT 1")
        return connection

    def in_a_thread(self, **options: bool) -> object:
        """What another thread gets: a connection, or an error."""
        found: list[object] = []

        def run() -> None:
            try:
                found.append(self.use(**options))
            except LogError as error:
                found.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(10)
        return found[0]

    def assert_closed(self, connection: LogConnection) -> None:
        self.assertRaisesRegex(sqlite3.ProgrammingError, "closed", connection.execute, "SELECT 1")

    def test_closed_it_has_no_connection_for_anybody(self) -> None:
        connection = self.use()
        self.shared.close()
        self.shared.close()
        self.assert_closed(connection)
        self.assertIsInstance(self.in_a_thread(), LogUnusable)
        self.assertRaisesRegex(LogUnusable, "was closed", self.use)

    def test_a_fork_finds_it_closed_and_afterwards_it_is_opened_again(self) -> None:
        self.shared.after_fork(in_child=False)  # as after an interrupt before the lock was taken
        for _ in range(2):
            connection = self.use()
            self.shared.before_fork()
            self.assert_closed(connection)
            self.assertIsInstance(self.in_a_thread(), LogUnavailable)
            self.shared.after_fork(in_child=False)
            self.shared.after_fork(in_child=False)
            self.assertIsInstance(self.in_a_thread(), LogConnection)
        self.shared.before_fork()
        self.shared.after_fork(in_child=True)
        connection = self.use()
        self.assertIs(self.in_a_thread(), connection)
        self.shared.close()
        self.assert_closed(connection)

    def test_a_child_leaves_a_connection_alone_that_was_in_use(self) -> None:
        with self.shared.use() as parents:
            parents.execute("BEGIN")
            with self.assertLogs("sse_threaded.log.sqlite.connection", "WARNING"):
                self.shared.before_fork()
            self.shared.after_fork(in_child=False)
            self.assertIsInstance(self.in_a_thread(), LogUnavailable, "in the parent it is in use")
            references = sys.getrefcount(parents)
            self.shared.after_fork(in_child=True)
            self.assertEqual(sys.getrefcount(parents), references, "nothing closes it")
            another = self.in_a_thread()
            self.assertIsInstance(another, LogConnection)
            self.assertIs(self.use(), another)
            self.assertIsNot(another, parents)
            self.assertTrue(parents.in_transaction)
            parents.execute("ROLLBACK")

    def test_a_thread_waits_for_another_one_only_if_it_wants_to(self) -> None:
        with self.shared.use():
            for options, waited in (({}, "0.05"), ({"wait": 0.0}, "0")):
                error = self.in_a_thread(**options)
                self.assertIsInstance(error, LogUnavailable)
                self.assertIn(f"for over {waited} s;", str(error))
            self.assertRaises(NestedTransaction, self.use)
        self.assertIsInstance(self.in_a_thread(wait=0.0), LogConnection)

    def test_an_error_in_the_block_is_translated_and_gives_it_back(self) -> None:
        for raised, expected in (
            (sqlite3.OperationalError("disk I/O error"), LogError),
            (ValueError(), ValueError),
        ):
            with self.assertRaises(expected), self.shared.use():
                raise raised
            self.assertIsInstance(self.in_a_thread(), LogConnection)

    def test_a_transaction_that_was_left_open_is_rolled_back(self) -> None:
        with self.shared.use() as connection:
            connection.execute("BEGIN")
        self.assertFalse(self.use().in_transaction)


class FileStepsTest(unittest.TestCase):
    """Waits and tries, on a clock that the test sets."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        clock = types.SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        patch = mock.patch("sse_threaded.log.sqlite.file.time", clock)
        patch.start()
        self.addCleanup(patch.stop)
        directory = temporary_directory(self)
        timeouts = Timeouts(lock=2.0, reopen=0.5)
        self.file = SQLiteFile(str(directory / "log.db"), sqlite_url(directory), "full", timeouts)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def test_it_looks_at_the_write_lock_each_millisecond_until_the_time_is_over(self) -> None:
        connection = mock.Mock()
        connection.execute.side_effect = sqlite3.OperationalError("database is locked")
        self.assertRaises(sqlite3.OperationalError, self.file.begin_write, connection)
        self.assertEqual(set(self.slept), {0.001})
        self.assertAlmostEqual(self.now, 1002.0, delta=0.0015)
        connection.execute.side_effect = [sqlite3.OperationalError("database is locked")] * 3 + [None]
        self.slept.clear()
        self.file.begin_write(connection)
        self.assertEqual(len(self.slept), 3)
        connection.execute.side_effect = sqlite3.OperationalError("disk I/O error")
        self.assertRaises(sqlite3.OperationalError, self.file.begin_write, connection)
        self.assertEqual(len(self.slept), 3, "that is no lock")

    def test_where_nobody_can_say_how_far_a_connection_has_come_it_is_behind(self) -> None:
        connection = self.file.connect(sqlite3.Connection)
        connection.close()
        self.assertIs(self.file.is_behind(connection), True)

    def test_a_new_file_that_others_switch_is_tried_each_hundredth_of_a_second(self) -> None:
        errors: list[Exception] = []
        closed: list[object] = []

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                if "journal_mode" in sql and errors:
                    raise errors.pop()
                return super().execute(sql, *values)

            def close(self) -> None:
                closed.append(self)
                super().close()

        locked = sqlite3.OperationalError("database is locked")
        errors += [locked] * 3
        self.file.connect(Connection).close()
        self.assertEqual(self.slept, [0.01] * 3)
        errors += [locked] * 1000
        closed.clear()
        self.assertRaises(LogUnavailable, self.file.connect, Connection)
        self.assertEqual(len(closed), 1)
        self.assertAlmostEqual(self.now, 1002.03, delta=0.02)
        errors[:] = [sqlite3.OperationalError("disk I/O error")]
        self.slept.clear()
        self.assertRaises(LogUnavailable, self.file.connect, Connection)
        self.assertEqual(self.slept, [])

    def test_a_file_that_could_not_be_opened_is_tried_again_after_a_moment(self) -> None:
        failed = LogUnavailable("memory://", "the first reason")
        with mock.patch.object(self.file, "prepare", side_effect=failed) as prepare:
            for _ in range(3):
                self.assertRaisesRegex(LogUnavailable, "the first reason", self.file.require_prepared)
            self.assertEqual(prepare.call_count, 1)
            self.now += 0.5
            self.assertRaises(LogUnavailable, self.file.require_prepared)
            self.assertEqual(prepare.call_count, 2)
        self.now += 0.5
        with self.assertLogs("sse_threaded.log.sqlite.file", "WARNING") as logs:
            self.file.require_prepared()
        self.assertEqual(len([line for line in logs.output if "could be opened now" in line]), 1)
        with mock.patch.object(self.file, "prepare") as prepare:
            self.file.require_prepared()
        prepare.assert_not_called()

    def test_while_another_thread_opens_it_others_wait_and_then_find_it_open(self) -> None:
        begun, ends = threading.Event(), threading.Event()

        def prepare() -> None:
            begun.set()
            ends.wait(10)
            self.file.epoch = "abcdef"

        with mock.patch.object(self.file, "prepare", side_effect=prepare) as prepared:
            threads = [threading.Thread(target=self.file.require_prepared) for _ in range(2)]
            for thread in threads:
                thread.start()
                self.assertTrue(begun.wait(10))
            self.file.timeouts = Timeouts(lock=0.01)
            self.assertRaisesRegex(LogUnavailable, "another thread", self.file.require_prepared)
            ends.set()
            for thread in threads:
                thread.join(10)
        self.assertEqual(prepared.call_count, 1)


class HealthCheckStepsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.path = temporary_directory(self) / "log.db"
        self.log = SQLiteLog(sqlite_url(self.path.parent))
        self.addCleanup(self.log.close)
        self.log.append("a", "x")

    def run_check(self, trace: Callable[[str], object]) -> None:
        file = SQLiteFile(str(self.path), self.log.url, "full")
        writer = SharedConnection(file)
        self.addCleanup(writer.close)
        with writer.use() as connection:
            connection.set_trace_callback(trace)
        HealthCheck(file, writer).run()

    def test_a_file_that_is_replaced_meanwhile_is_noticed(self) -> None:
        def move(statement: str) -> None:
            if statement.startswith("UPDATE"):
                self.path.rename(self.path.with_name("moved.db"))

        with self.assertRaisesRegex(LogUnusable, "removed or replaced"):
            self.run_check(move)

    def test_it_tries_the_file_and_rolls_the_event_back(self) -> None:
        statements: list[str] = []
        self.run_check(statements.append)
        words = [statement.split()[0] for statement in statements]
        self.assertEqual(words[:2], ["PRAGMA", "BEGIN"])
        self.assertIn("shrink_memory", statements[0])
        self.assertEqual(words[2:], ["SAVEPOINT", "INSERT", "ROLLBACK", "UPDATE", "COMMIT"])
        self.assertEqual(len(self.log.read(0)), 1)


if __name__ == "__main__":
    unittest.main()
