"""The pump takes events of its own process from memory, and events of others from the log; it misses none."""

from __future__ import annotations

import os
import sqlite3
import unittest
from collections.abc import Callable
from contextlib import closing
from unittest import mock

from sse_threaded.errors import LogUnavailable
from sse_threaded.fanout.log_reader import LogReader
from sse_threaded.log import Page, Record
from sse_threaded.log.doorbell import Doorbell, FifoDoorbell, Ringer
from sse_threaded.log.memory import MemoryLog
from sse_threaded.log.record import PAGE_CHARACTERS, PAGE_EVENTS
from sse_threaded.log.sqlite.log import SQLiteLog
from sse_threaded.log.sqlite.own_events import OwnEvents
from tests.support import sqlite_url, temporary_directory


def record(number: int, data: str = "x") -> Record:
    return Record(number, "a", None, data)


class OwnEventsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.events = OwnEvents()

    def add(self, *numbers: int, data: str = "x") -> None:
        self.events.add([record(number, data) for number in numbers])

    def after(self, number: int) -> list[int] | None:
        page = self.events.after(number)
        return None if page is None else [each.sequence for each in page]

    def test_only_events_that_follow_without_a_gap_are_there(self) -> None:
        self.assertIsNone(self.after(0))
        self.add(5, 6)
        self.add(7)
        found = {number: self.after(number) for number in range(3, 9)}
        self.assertEqual(found, {3: None, 4: [5, 6, 7], 5: [6, 7], 6: [7], 7: [], 8: []})
        self.add(9)
        self.assertEqual([self.after(number) for number in (6, 7, 8, 9)], [None, None, [9], []])

    def test_it_is_bounded_in_events_and_in_characters(self) -> None:
        self.add(*range(1, PAGE_EVENTS + 11))
        self.assertIsNone(self.after(9))
        self.assertEqual(self.after(10), list(range(11, PAGE_EVENTS + 11)))
        self.add(PAGE_EVENTS + 11, data="x" * (PAGE_CHARACTERS - 1))
        self.assertEqual(self.after(PAGE_EVENTS + 9), [PAGE_EVENTS + 10, PAGE_EVENTS + 11])
        self.assertIsNone(self.after(PAGE_EVENTS + 8))
        self.add(PAGE_EVENTS + 12, data="x" * 2 * PAGE_CHARACTERS)
        self.assertEqual(self.after(PAGE_EVENTS + 11), [PAGE_EVENTS + 12], "one is there, however long")

    def test_a_forks_child_begins_with_none(self) -> None:
        self.add(1)
        self.events.after_fork_in_child()
        self.assertIsNone(self.after(0))
        self.add(2)
        self.assertEqual(self.after(1), [2])


class DoorbellTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = str(temporary_directory(self))
        self.doorbell = FifoDoorbell(self.folder, 0o600)
        self.addCleanup(self.doorbell.close)
        self.ringer = Ringer(self.folder)
        self.addCleanup(self.ringer.close)
        self.own = {self.doorbell.name}

    def test_it_is_known_who_has_rung(self) -> None:
        for rings, is_own in (
            ([], False),
            ([self.own], True),
            ([self.own, self.own], True),
            ([()], False),
            ([self.own, ()], False),
            ([(), self.own], False),
            ([{"another"}], False),
        ):
            with self.subTest(rings=rings):
                for own in rings:
                    self.ringer.ring(own)
                self.assertIs(self.doorbell.clear(), is_own)
                self.assertIs(self.doorbell.clear(), False)

    def test_one_that_may_have_been_full_says_nothing(self) -> None:
        for _ in range(5000):
            self.ringer.ring(self.own)
        self.assertIs(self.doorbell.clear(), False)

    def test_a_pipe_says_nothing(self) -> None:
        pipe = Doorbell()
        self.ringer.add(pipe)
        self.ringer.ring(self.own)
        self.assertIs(pipe.clear(), False)


class SQLiteLogTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = temporary_directory(self)
        self.path = directory / "log.db"
        self.url = sqlite_url(directory)
        self.log = self.make_log()
        self.doorbell = self.log.open_doorbell()
        self.addCleanup(self.doorbell.close)

    def make_log(self) -> SQLiteLog:
        log = SQLiteLog(self.url)
        self.addCleanup(log.close)
        return log

    def numbers(self, after: int) -> list[int] | None:
        page = self.log.own_events(after)
        return None if page is None else [each.sequence for each in page]

    def test_only_an_append_of_this_log_is_its_own(self) -> None:
        self.log.append("a", "x", "named")
        self.assertTrue(self.doorbell.clear())
        self.assertEqual(self.log.own_events(0), self.log.read(0))
        other = self.make_log()
        for append in (other.append, self.append_in_transaction, self.append_over_own_connection):
            last = self.log.last_sequence()
            append("a", "y")
            self.assertFalse(self.doorbell.clear())
            self.assertEqual(self.numbers(last), [])
            self.log.append("a", "z")
            self.assertEqual(self.numbers(last), None)
            self.assertEqual(self.numbers(last + 1), [last + 2])
            self.assertTrue(self.doorbell.clear())

    def append_in_transaction(self, channel: str, data: str) -> None:
        with self.log.transaction() as transaction:
            transaction.append(channel, data)

    def append_over_own_connection(self, channel: str, data: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            self.log.append(channel, data, connection=connection)
        self.log.ring()

    def test_what_is_not_in_the_log_is_not_there(self) -> None:
        looks = [None, LogUnavailable("x://", "gone")]  # when the file is opened, and after the commit
        with mock.patch.object(self.log._file, "require_unchanged", side_effect=looks):
            self.assertRaises(LogUnavailable, self.log.append, "a", "x")
        self.assertIsNone(self.numbers(0))

    def test_a_child_has_no_doorbell_and_no_events_of_its_parent(self) -> None:
        self.log.append("a", "x")
        ends, begins = os.pipe()
        self.log.before_fork()
        child = os.fork()
        if not child:
            try:
                self.log.after_fork(in_child=True)
                found = [self.log.own_events(0), sorted(self.log._own_doorbells)]
                os.write(begins, repr(found).encode())
            finally:
                os._exit(0)
        self.log.after_fork(in_child=False)
        os.waitpid(child, 0)
        self.assertEqual(os.read(ends, 100), b"[None, []]")
        os.close(ends)
        os.close(begins)

    def test_other_engines_read_the_log(self) -> None:
        log = MemoryLog()
        log.append("a", "x")
        self.assertIsNone(log.own_events(0))


class LogReaderTest(unittest.TestCase):
    """A log reads what was asked of it: ``own`` for memory, ``log`` for the log."""

    def setUp(self) -> None:
        self.asked: list[str] = []
        self.own: Callable[[], Page | None] = Page
        self.log = mock.Mock(poll_interval=3600.0, url="x://")
        self.log.own_events = lambda after: self.asked.append("own") or self.own()
        self.log.read = lambda after: self.asked.append("log") or Page()
        self.reader = LogReader(self.log, mock.Mock(position=0), mock.Mock(), first_retry=0.0)
        self.look()
        self.asked.clear()

    def look(self, ring: str = "") -> None:
        self.reader.read(was_rung=bool(ring), is_own=ring == "own", is_closing=False)

    def test_after_rings_of_this_process_the_log_is_not_read(self) -> None:
        self.look("own")
        self.look("own")
        self.assertEqual(self.asked, ["own", "own"])

    def test_after_another_ring_or_without_one_it_is(self) -> None:
        self.look("others")
        self.reader.due = 0.0
        self.look()
        self.assertEqual(self.asked, ["log", "log"])

    def test_if_the_events_are_not_in_memory_it_is(self) -> None:
        self.own = lambda: None
        self.look("own")
        self.assertEqual(self.asked, ["own", "log"])

    def test_a_ring_of_others_counts_until_the_log_is_read(self) -> None:
        for first, second in (("own", "others"), ("others", "own")):
            self.asked.clear()
            with mock.patch.object(self.reader, "_pauses_until", float("inf")):
                self.look(first)
            self.assertEqual(self.asked, [], "it pauses")
            self.look(second)
            self.look("own")
            self.assertEqual(self.asked, ["log", "own"])

    def test_a_ring_of_this_process_outlasts_a_pause(self) -> None:
        with mock.patch.object(self.reader, "_pauses_until", float("inf")):
            self.look("own")
        self.reader.due = 0.0
        self.look()
        self.look("own")
        self.assertEqual(self.asked, ["own", "own"])

    def test_after_a_failure_the_log_is_read(self) -> None:
        self.log.read = mock.Mock(side_effect=LogUnavailable("x://", "cut off"))
        with self.assertLogs("sse_threaded.fanout", "ERROR"):
            self.look("others")
        self.log.read = lambda after: self.asked.append("log") or Page()
        with self.assertLogs("sse_threaded.fanout", "WARNING"):
            self.look()
        self.assertEqual(self.asked, ["log"])

    def test_at_the_end_the_log_is_read(self) -> None:
        self.reader.read(was_rung=True, is_own=True, is_closing=True)
        self.assertEqual(self.asked, ["log"])

    def test_a_full_page_is_followed_by_a_look_at_the_log(self) -> None:
        page = Page([record(1)])
        page.full = True
        self.own = lambda: page
        with mock.patch.object(self.reader, "_hand_out"):
            self.look("own")
            self.look()
        self.assertEqual(self.asked, ["own", "log"])


if __name__ == "__main__":
    unittest.main()
