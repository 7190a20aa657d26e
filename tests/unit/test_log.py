"""What every engine does: one class of cases, run for each engine (see also tests/redis and tests/postgres)."""

import dataclasses
import re
import select
import threading
import unittest
import weakref

from sse_threaded import HistoryGone, InvalidEvent, LogUnusable, Retention, open_log
from sse_threaded.log import MemoryLog, SQLiteLog
from sse_threaded.log.interface import NestedTransaction, TransactionOver
from sse_threaded.log.record import PAGE_CHARACTERS, PAGE_EVENTS, Record, page_of
from sse_threaded.log.validation import MAX_DATA_CHARACTERS
from tests.support import sqlite_url, temporary_directory


class LogContract:
    """The cases of every engine, mixed into a TestCase for each.

    ``make_log`` makes an empty log, ``make_older`` lets its events be older than any age bound here, and
    ``remembered`` returns for how many channels it remembers what was trimmed.
    """

    has_connection = False
    has_lua = False
    trimmed_of_five = 5

    def read_all(self, log, after=0, **options):
        found = []
        while page := log.read(after, **options):
            self.assertLessEqual(len(page), PAGE_EVENTS)
            found += page
            after = page[-1].sequence
        return found

    def test_ids_are_the_epoch_and_a_number_that_grows(self):
        log = self.make_log()
        self.assertRegex(log.epoch, r"\A[a-z]{6}\Z")
        self.assertEqual(log.last_event_id(), f"{log.epoch}-0")
        self.assertEqual([log.append("a", "x") for _ in range(3)], [f"{log.epoch}-{n}" for n in (1, 2, 3)])
        self.assertEqual(log.last_event_id(), f"{log.epoch}-3")

    def test_two_logs_have_two_epochs(self):
        self.assertNotEqual(self.make_log().epoch, self.make_log().epoch)

    def test_what_was_appended_is_read_back(self):
        log = self.make_log()
        log.append("a", {"n": 1})
        log.append("b", "text\nof two lines", "named")
        log.append("a", "ü🎉\0")
        expected = [(1, "a", None, '{"n":1}'), (2, "b", "named", "text\nof two lines"), (3, "a", None, "ü🎉\0")]
        self.assertEqual(log.read(0), expected)
        self.assertEqual(log.read(1), expected[1:])
        self.assertEqual(log.read(3), [])
        self.assertEqual(log.read(99), [])

    def test_channels_are_merged_in_the_one_order(self):
        log = self.make_log()
        for number in range(12):
            log.append("abc"[number % 3], str(number))
        expected = [str(number) for number in range(12) if number % 3 != 1]
        for channels in (["a", "c"], ["c", "a"], ("a", "c", "a", "nobody"), {"a": 1, "c": 2}):
            with self.subTest(channels=channels):
                self.assertEqual([record.data for record in log.read(0, channels=channels)], expected)
        self.assertEqual([r.data for r in log.read(3, channels=["a", "c"], upto=7)], ["3", "5", "6"])
        self.assertEqual(log.read(0, channels=["nobody"]), [])

    def test_the_newest_event_of_a_channel(self):
        log = self.make_log()
        self.assertIsNone(log.newest("a"))
        log.append("a", "one", "kind")
        log.append("b", "other")
        log.append("a", "two\0", "kind")
        log.append("b", "last")
        self.assertEqual(log.newest("a"), (3, "a", "kind", "two\0"))
        self.assertEqual(log.newest("b"), (4, "b", None, "last"))
        self.assertIsNone(log.newest("nobody"))

    def test_after_the_trimmed_number_is_all_that_is_left(self):
        log = self.make_log(retention=Retention(count=3, age=None))
        self.assertEqual(log.trimmed(["a", "b"]), 0)
        for number in range(10):
            log.append("a", str(number))
        log.append("b", "one")
        log.trim()
        self.assertEqual(log.trimmed(["b"]), 0)
        self.assertEqual(log.trimmed([]), 0)
        for channels in (["a"], ["b", "a"]):
            self.assertEqual(log.trimmed(channels), 7)
            self.assertEqual([r.data for r in log.read(7, channels=["a"])], ["7", "8", "9"])
            self.assertRaises(HistoryGone, log.read, 6, channels=channels)

    def test_pages_are_bounded_and_join_without_gap_or_double(self):
        log = self.make_log()
        with log.transaction() as transaction:
            for number in range(2 * PAGE_EVENTS + 10):
                transaction.append("ab"[number % 2], str(number))
        for channels in (None, ["a", "b"]):
            with self.subTest(channels=channels):
                self.assertEqual(len(log.read(0, channels=channels)), PAGE_EVENTS)
                self.assertTrue(log.read(0, channels=channels).full)
                self.assertFalse(log.read(PAGE_EVENTS + 10, channels=channels).full)
                self.assertFalse(log.read(2 * PAGE_EVENTS + 10, channels=channels).full)
                self.assertFalse(log.read(0, channels=channels, upto=20).full)
                found = self.read_all(log, channels=channels)
                self.assertEqual([int(r.data) for r in found], list(range(2 * PAGE_EVENTS + 10)))

    def test_a_page_is_bounded_in_size_but_holds_one_event_at_least(self):
        log = self.make_log()
        for size in (10, PAGE_CHARACTERS - 5, 10, PAGE_CHARACTERS * 2, 10):
            log.append("a", "x" * size)
        for channels in (None, ["a"]):
            with self.subTest(channels=channels):
                after, pages = 0, []
                while page := log.read(after, channels=channels):
                    pages.append(len(page))
                    after = page[-1].sequence
                self.assertEqual(pages, [1, 1 if pages[1] == 1 else 2, *pages[2:]])
                self.assertEqual(sum(pages), 5)
                self.assertGreaterEqual(len(pages), 3)

    def test_bad_input_is_refused_and_nothing_is_appended(self):
        log = self.make_log()
        cases = [
            ("channel", ("", "x")),
            ("channel", ("c" * 256, "x")),
            ("channel", (None, "x")),
            ("channel", ("\ud800", "x")),
            ("data", ("a", object())),
            ("data", ("a", "\ud800")),
            ("data", ("a", "x" * (MAX_DATA_CHARACTERS + 1))),
            ("event", ("a", "x", "e" * 256)),
            ("event", ("a", "x", "two\nlines")),
            ("event", ("a", "x", "")),
            ("event", ("a", "x", "reset")),
            ("event", ("a", "x", "stream-start")),
            ("event", ("a", "x", "stream-anything")),
        ]
        for field, arguments in cases:
            with self.subTest(field=field, arguments=str(arguments)[:40]):
                with self.assertRaises(InvalidEvent) as caught:
                    log.append(*arguments)
                self.assertEqual(caught.exception.field, field)
        self.assertEqual(log.last_sequence(), 0)

    def test_the_longest_values_are_taken(self):
        log = self.make_log()
        longest = ("c" * 255, "x" * MAX_DATA_CHARACTERS, "e" * 255)
        log.append(*longest)
        (record,) = log.read(0)
        self.assertEqual((record.channel, record.data, record.event), longest)

    def test_none_is_json_null(self):
        log = self.make_log()
        log.append("a", None)
        self.assertEqual(log.read(0)[0].data, "null")

    def test_a_last_event_id_that_cannot_be_resumed_says_why(self):
        log = self.make_log()
        log.append("a", "x")
        self.assertEqual(log.sequence_of(f"{log.epoch}-0"), 0)
        self.assertEqual(log.sequence_of(f"{log.epoch}-1"), 1)
        malformed = ["", "1", "-1", f"{log.epoch}-", f"{log.epoch}-01", f"{log.epoch}-1 ", f"{log.epoch}--1"]
        malformed += [f"{log.epoch}-1\n", f"{log.epoch.upper()}-1", f"{log.epoch}-" + "9" * 40]
        malformed += ["\xff\0", "éééééé-1"]
        for reason, ids in (
            ("malformed", malformed),
            ("epoch", ["aaaaaa-1" if log.epoch != "aaaaaa" else "bbbbbb-1"]),
            ("beyond", [f"{log.epoch}-2", f"{log.epoch}-" + "9" * 18]),
        ):
            for event_id in ids:
                with self.subTest(event_id=event_id):
                    with self.assertRaises(HistoryGone) as caught:
                        log.sequence_of(event_id)
                    self.assertEqual(caught.exception.reason, reason)

    def test_a_transaction_takes_effect_as_a_whole(self):
        log = self.make_log()
        with log.transaction() as transaction:
            first = transaction.append("a", "one")
            second = transaction.append("b", "two")
            self.assertEqual(transaction.last_event_id(), second)
        self.assertEqual([first, second], [f"{log.epoch}-1", f"{log.epoch}-2"])
        self.assertEqual([record.data for record in log.read(0)], ["one", "two"])

    def test_a_transaction_that_fails_leaves_nothing(self):
        log = self.make_log()
        with self.assertRaisesRegex(RuntimeError, "mine"), log.transaction() as transaction:
            transaction.append("a", "never")
            raise RuntimeError("mine")
        self.assertEqual(log.read(0), [])
        self.assertEqual(log.append("a", "next"), f"{log.epoch}-1")

    def test_a_transaction_sees_the_newest_event_of_another_channel(self):
        log = self.make_log()
        log.append("a", "one", "kind")
        with log.transaction() as transaction:
            self.assertEqual(transaction.newest("a"), (1, "a", "kind", "one"))
            transaction.append("b", "x")
            self.assertEqual(transaction.newest("a"), (1, "a", "kind", "one"))
            self.assertIsNone(transaction.newest("nobody"))
        self.assertEqual(log.last_sequence(), 2)

    def test_what_a_transaction_sees_after_its_first_event_is_the_newest_until_its_end(self):
        """Threads count in one channel. Each appends, then looks, then writes one more than it has seen."""
        log = self.make_log()
        failures = []

        def count():
            try:
                for _ in range(10):
                    with log.transaction() as transaction:
                        transaction.append("other", "x")
                        newest = transaction.newest("count")
                        transaction.append("count", str(int(newest.data) + 1 if newest else 0))
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        found = [record.data for record in self.read_all(log, channels=["count"])]
        self.assertEqual(found, [str(number) for number in range(40)])

    def test_appending_beside_ones_own_transaction_is_refused_at_once(self):
        log = self.make_log()
        with log.transaction() as transaction:
            transaction.append("a", "one")
            self.assertRaises(NestedTransaction, log.append, "a", "beside")
            with self.assertRaises(NestedTransaction), log.transaction():
                self.fail("entered")
        self.assertEqual([record.data for record in log.read(0)], ["one"])

    def test_appending_to_a_transaction_that_is_over_is_refused(self):
        log = self.make_log()
        with log.transaction() as transaction:
            transaction.append("a", "one")
        self.assertRaises(TransactionOver, transaction.append, "a", "late")
        with self.assertRaises(ZeroDivisionError), log.transaction() as transaction:
            raise ZeroDivisionError
        self.assertRaises(TransactionOver, transaction.append, "a", "late")
        self.assertEqual([record.data for record in log.read(0)], ["one"])

    def test_a_snapshot_knows_its_id(self):
        log = self.make_log()
        log.append("a", "x")
        with log.snapshot() as snapshot:
            self.assertEqual(snapshot.last_event_id(), f"{log.epoch}-1")

    def test_what_the_engine_lacks_is_refused_with_what_has_it(self):
        # Typed alike for all engines, so that an app needs no cast.
        log = self.make_log()
        refused = self.assertRaisesRegex
        if not self.has_connection:
            refused(LogUnusable, "needs a log in SQLite", log.append, "a", "x", connection=object())
        if not self.has_lua:
            for method in (log.run, log.look):
                refused(LogUnusable, "needs a log in Redis", method, "return 1")
        for lend in (log.snapshot, log.transaction):
            with self.subTest(lend=lend), lend() as lent:
                self.assertEqual(lent.has_connection, self.has_connection)
                if self.has_connection:
                    self.assertEqual(lent.connection.execute("SELECT 1").fetchone(), (1,))
                else:
                    with refused(LogUnusable, f"^{re.escape(log.url)}: .*needs a log in SQLite"):
                        lent.connection  # noqa: B018
        self.assertEqual(log.last_sequence(), 0)

    def test_a_snapshot_changes_nothing(self):
        log = self.make_log()
        with log.snapshot() as snapshot:
            self.assertFalse(hasattr(snapshot, "append"))

    def test_channels_that_are_long_gone_do_not_add_up_and_are_still_no_silence(self):
        log = self.make_log(Retention(count=None, age=1.0), remembered_channels=3)
        for number in range(20):
            log.append(f"channel-{number}", "x")
        self.make_older(log)
        log.append("young", "x")
        log.trim()
        self.assertLess(self.remembered(log), 10)
        for number in range(20):
            self.assertRaises(HistoryGone, log.read, number, channels=[f"channel-{number}"])
        log.append("channel-0", "again")
        self.assertRaises(HistoryGone, log.read, 0, channels=["channel-0"])
        self.assertEqual([record.data for record in log.read(21, channels=["channel-0"])], ["again"])
        self.assertEqual(log.read(21, channels=["never heard of"]), [])

    def test_many_threads_append_in_one_order(self):
        log = self.make_log()
        barrier = threading.Barrier(4)
        ids = [[] for _ in range(4)]

        def run(mine):
            barrier.wait(10)
            for _ in range(25):
                mine.append(log.append("a", "x"))

        threads = [threading.Thread(target=run, args=(mine,)) for mine in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for mine in ids:
            self.assertEqual(mine, sorted(mine, key=log.sequence_of))
        self.assertEqual({log.sequence_of(i) for mine in ids for i in mine}, set(range(1, 101)))

    def test_every_append_rings_the_doorbell(self):
        log = self.make_log()
        doorbell = log.open_doorbell()
        self.addCleanup(doorbell.close)
        for append in (
            lambda: log.append("a", "x"),
            lambda: self.append_in_transaction(log),
            log.ring,
        ):
            doorbell.clear()
            self.assertFalse(is_readable(doorbell, 0))
            append()
            self.assertTrue(is_readable(doorbell, 10))

    def append_in_transaction(self, log):
        with log.transaction() as transaction:
            transaction.append("a", "x")

    def test_retention_by_count_is_per_channel(self):
        log = self.make_log(Retention(count=10, age=None))
        log.append("quiet", "kept")
        for number in range(50):
            log.append("busy", str(number))
        log.trim()
        self.assertEqual([int(r.data) for r in log.read(41, channels=["busy"])], list(range(40, 50)))
        self.assertEqual([r.data for r in log.read(0, channels=["quiet"])], ["kept"])

    def test_what_is_trimmed_is_never_passed_over_in_silence(self):
        log = self.make_log(Retention(count=10, age=None))
        log.append("quiet", "kept")
        for _ in range(50):
            log.append("busy", "x")
        log.trim()
        self.assertEqual(len(log.read(41, channels=["busy"])), 10)
        for channels in (["busy"], ["quiet", "busy"]):
            with self.subTest(channels=channels), self.assertRaises(HistoryGone) as caught:
                log.read(40, channels=channels)
            self.assertEqual(caught.exception.reason, "expired")
        self.assertEqual(log.read(1, channels=["quiet"]), [])

    def test_retention_by_age(self):
        log = self.make_log(Retention(count=None, age=3600.0))
        log.append("a", "old")
        log.append("b", "old")
        self.make_older(log)
        for number in range(3):
            log.append("c", str(number))
        log.trim()
        for channel in ("a", "b"):
            self.assertRaises(HistoryGone, log.read, 0, channels=[channel])
        self.assertEqual(len(log.read(2, channels=["a", "b", "c"])), 3)

    def test_numbers_go_on_when_everything_is_trimmed(self):
        log = self.make_log(Retention(count=None, age=3600.0))
        log.append("a", "old")
        self.make_older(log)
        log.trim()
        self.assertEqual(log.append("a", "new"), f"{log.epoch}-2")
        self.assertRaises(HistoryGone, log.read, 0, channels=["a"])

    def test_trimming_says_how_many_events_went(self):
        log = self.make_log(Retention(count=None, age=3600.0))
        for number in range(5):
            log.append(f"channel-{number % 2}", "old")
        self.assertEqual(log.trim(), 0)
        self.make_older(log)
        log.append("young", "new")
        self.assertEqual(log.trim(), self.trimmed_of_five)
        self.assertEqual(log.trim(), 0)

    def test_close_is_idempotent(self):
        log = self.make_log()
        log.append("a", "x")
        log.close()
        log.close()


def is_readable(doorbell, timeout):
    return bool(select.select([doorbell], [], [], timeout)[0])


class PageTest(unittest.TestCase):
    def test_a_page_that_is_just_full_takes_no_more(self):
        half = "x" * (PAGE_CHARACTERS // 2)
        records = [Record(number, "a", None, data) for number, data in enumerate((half, half, "", "x"), 1)]
        page = page_of(records)
        self.assertEqual([record.sequence for record in page], [1, 2, 3])
        self.assertTrue(page.full)
        self.assertFalse(page_of(records[:3]).full)

    def test_it_ends_where_it_is_asked_to(self):
        records = [Record(number, "a", None, "x") for number in (1, 2, 4)]
        self.assertEqual([record.sequence for record in page_of(records, 3)], [1, 2])
        self.assertFalse(page_of(records, 3).full)
        self.assertEqual(page_of([]), [])


class MemoryLogTest(LogContract, unittest.TestCase):
    def setUp(self):
        self.now = 0.0

    def make_log(self, retention=None, **options):
        log = MemoryLog(retention, clock=lambda: self.now, **options)
        self.addCleanup(log.close)
        return log

    def make_older(self, log):
        self.now += 7200

    def remembered(self, log):
        return int(re.search(r"channels=(\d+)", repr(log))[1])

    def test_a_reader_far_behind_the_feed_still_gets_all(self):
        log = self.make_log()
        for number in range(2500):
            log.append(f"channel-{number % 7}", str(number))
        self.assertEqual([int(r.data) for r in self.read_all(log)], list(range(2500)))

    def test_a_trimmed_event_takes_no_memory(self):
        class Text(str):
            """Text that a weak reference can point to."""

        log = self.make_log(Retention(count=5, age=None))
        texts = []
        for _ in range(2000):  # more than the newest events, which are kept for the pump
            text = Text("x")
            texts.append(weakref.ref(text))
            log.append("a", text)
            del text
        kept = [text() for text in texts if text() is not None]
        self.assertLess(len(kept), 1100)


class SQLiteLogTest(LogContract, unittest.TestCase):
    has_connection = True

    def make_log(self, retention=None, **options):
        log = SQLiteLog(sqlite_url(temporary_directory(self)), retention, **options)
        self.addCleanup(log.close)
        return log

    def make_older(self, log):
        with log.transaction() as transaction:
            transaction.connection.execute("UPDATE sse_events SET created = created - 7200")

    def remembered(self, log):
        with log.snapshot() as snapshot:
            return snapshot.connection.execute("SELECT count(*) FROM sse_channels").fetchone()[0]


class OpenLogTest(unittest.TestCase):
    def test_a_url_that_names_no_log_is_refused_with_the_forms_there_are(self):
        for url in ("", "sqlite", "sqlite://", "sqlite:///", "sqlite://host/x.db", "sqlite:///x.db?mode=fast"):
            with self.subTest(url=url):
                self.assertRaisesRegex(LogUnusable, "sqlite:///|synchronous", open_log, url)
        for url in ("mysql://host/db", "memory://x", "/var/log.db"):
            with self.subTest(url=url):
                self.assertRaisesRegex(LogUnusable, "memory://, sqlite:///", open_log, url)

    def test_a_password_is_not_repeated(self):
        with self.assertRaises(LogUnusable) as caught:
            open_log("mysql://user:secret@host/db")
        self.assertNotIn("secret", str(caught.exception))

    def test_retention_bounds_are_checked(self):
        wrong = ({"count": 0}, {"count": -1}, {"count": 2.5}, {"age": 0}, {"age": 1e16})
        no_numbers = ({"count": True}, {"count": "10"}, {"age": True}, {"age": "1d"})
        for bounds in (*wrong, *no_numbers, {"age": float("inf")}, {"age": float("nan")}):
            with self.subTest(bounds=bounds):
                self.assertRaises(ValueError, Retention, **bounds)
        with self.assertRaises(dataclasses.FrozenInstanceError):
            Retention().count = 0  # unchecked
