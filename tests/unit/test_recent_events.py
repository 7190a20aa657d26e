"""The newest events in memory: nothing missing between its floor and the pump's position."""

from __future__ import annotations

import sys
import tracemalloc
import unittest
from unittest import mock

from sse_threaded import Hub, Retention, ServerSentEvent, open_log
from sse_threaded.fanout import recent_events
from sse_threaded.fanout.recent_events import RecentEvents
from sse_threaded.log import Record
from sse_threaded.protocol.batch import Batch
from tests.support import temporary_directory


class RecentTest(unittest.TestCase):
    def setUp(self):
        self.hub = Hub()
        self.addCleanup(self.hub.close)
        self.log = self.hub.log

    def publish(self, *channels):
        for channel in channels:
            self.hub.publish(channel, f"on {channel}")

    def wire(self, *numbers):
        """What those who resume get: the log's events of these numbers."""
        records = {n: self.log.read(n - 1)[0] for n in numbers}
        events = (ServerSentEvent(data=records[n].data, id=self.log.event_id(n)) for n in numbers)
        return b"".join(event.encode() for event in events)

    def filled(self, **bounds):
        found = RecentEvents(self.log, 0, **bounds)
        found.fill(self.log.last_sequence())
        return found

    def test_one_channel_or_several_in_the_logs_order(self):
        self.publish("a", "b", "a", "c", "b")
        found = self.filled()
        for channels, after, numbers in (
            (("a",), 0, (1, 3)),
            (("a",), 1, (3,)),
            (("b", "a"), 1, (2, 3, 5)),
            (("c",), 4, ()),
            (("nobody",), 0, ()),
            (("a",), 5, ()),
        ):
            with self.subTest(channels=channels, after=after):
                batch, upto = found.batch_after(channels, after)
                self.assertEqual(batch.body, self.wire(*numbers))
                self.assertEqual((batch.count, upto), (len(numbers), 5))

    def test_a_position_ahead_of_the_memory_stays(self):
        self.publish("a")
        self.assertEqual(self.filled().batch_after(("a",), 9)[1], 9)

    def test_the_same_question_gets_the_same_batch(self):
        self.publish("a", "a")
        found = self.filled()
        self.assertIs(found.batch_after(("a",), 1)[0], found.batch_after(("a",), 1)[0])
        self.publish("a")
        found.add(self.log.read(2))
        self.assertEqual(found.batch_after(("a",), 1)[0].body, self.wire(2, 3))

    def test_the_memory_of_batches_is_bounded_whatever_clients_ask_for(self):
        self.publish("a")
        found = self.filled()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        long = "channel-" + "x" * 200
        for visit in range(60):  # 12 MB of keys
            found.batch_after((*(f"{long}-{visit}-{number}" for number in range(750)), "a"), 0)
        used, _ = tracemalloc.get_traced_memory()
        self.assertLess(used, 8 * 1024 * 1024)
        for number in range(10_000):  # 6 MB of entries
            found.batch_after(("a",), -number)
        used, _ = tracemalloc.get_traced_memory()
        self.assertLess(used, 1024 * 1024)

    def test_the_latest_batches_are_kept(self):
        self.publish("a", "b")
        found = self.filled()
        for number in range(2000):
            found.batch_after(("b",), -number)
        self.assertIs(found.batch_after(("a",), 0)[0], found.batch_after(("a",), 0)[0])

    def test_pages_are_bounded(self):
        for _ in range(5):
            self.hub.publish("a", "x" * 40_000)
        found, after, pages = self.filled(), 0, []
        while after < 5:
            batch, after = found.batch_after(("a",), after)
            pages.append(batch)
        self.assertEqual([batch.count for batch in pages], [2, 2, 1])
        self.assertEqual(b"".join(batch.body for batch in pages), self.wire(1, 2, 3, 4, 5))

    def test_it_is_bounded_in_events(self):
        self.publish("a", "b", "a", "b", "b")
        found = self.filled(count=3)
        self.assertEqual(found.floor, 2)
        self.assertEqual(found.batch_after(("a", "b"), 2)[0].body, self.wire(3, 4, 5))

    def test_2048_events_are_kept_by_default(self):
        found = RecentEvents(self.log, 0)
        found.add([Record(number, "a", None, "x") for number in range(1, 2050)])
        self.assertEqual(found.floor, 1)

    def test_4_megabytes_of_data_are_kept_by_default(self):
        found = RecentEvents(self.log, 0)
        data = "x" * 2**20
        found.add([Record(number, "a", None, data) for number in range(1, 6)])
        self.assertEqual(found.floor, 1)

    def test_it_is_bounded_in_length(self):
        for _ in range(4):
            self.hub.publish("a", "x" * 40)
        found = self.filled(length=100)
        self.assertEqual(found.floor, 2)
        self.hub.publish("a", "x" * 500)
        found.add(self.log.read(4))
        self.assertEqual(found.floor, 5)
        self.assertEqual(found.batch_after(("a",), 5)[0].body, b"")

    def test_where_some_were_trimmed_it_begins_with_some_of_the_rest(self):
        directory = temporary_directory(self)
        log = open_log(f"sqlite:///{directory}/log.db", Retention(count=30))
        self.addCleanup(log.close)
        for _ in range(100):
            log.append("a", "x")
        log.trim()
        found = RecentEvents(log, 0)
        found.fill(100)
        self.assertTrue(70 <= found.floor < 100, found.floor)
        self.assertEqual(found.batch_after(("a",), found.floor)[0].count, 100 - found.floor)
        log.append("a", "new")
        found.add(log.read(100))
        self.assertIn(b"data: new", found.batch_after(("a",), 100)[0].body)

    def test_1024_batches_are_kept_and_of_more_the_latest(self):
        self.publish("a")
        found = self.filled()
        kept = [found.batch_after(("a",), -number)[0] for number in range(1024)]
        self.assertIs(found.batch_after(("a",), 0)[0], kept[0])
        found.batch_after(("a",), -1024)
        for number in (1, 1023):
            self.assertIs(found.batch_after(("a",), -number)[0], kept[number])
        self.assertIsNot(found.batch_after(("a",), 0)[0], kept[0])

    def test_4_megabytes_of_batches_are_kept_and_none_that_is_longer_than_an_eighth(self):
        for _ in range(12):
            self.hub.publish("a", "x" * 200_000)  # a batch takes twice its bytes
        self.hub.publish("a", "x" * 300_000)
        found = self.filled()
        kept = [found.batch_after(("a",), number)[0] for number in range(10)]
        self.assertIsNot(found.batch_after(("a",), 12)[0], found.batch_after(("a",), 12)[0])
        self.assertIs(found.batch_after(("a",), 0)[0], kept[0])
        found.batch_after(("a",), 10)
        self.assertIs(found.batch_after(("a",), 1)[0], kept[1])
        self.assertIsNot(found.batch_after(("a",), 0)[0], kept[0])
        self.assertIs(found.batch_after(("a",), 2)[0], kept[2], "what was dropped made room")

    def test_a_batch_that_is_as_long_as_one_may_be_is_kept(self):
        self.publish("a")
        for more, is_kept in ((0, True), (1, False)):
            with (
                self.subTest(is_kept),
                mock.patch.object(recent_events, "_LARGEST_BATCH", self.size_of_a() - more),
            ):
                found = self.filled()
                first, again = (found.batch_after(("a",), 0)[0] for _ in range(2))
                self.assertEqual(again is first, is_kept)

    def test_batches_that_just_fit_together_are_kept(self):
        self.publish("a")
        for less, is_kept in ((0, True), (1, False)):
            with (
                self.subTest(is_kept),
                mock.patch.object(recent_events, "_BATCHES_SIZE", 2 * self.size_of_a() - less),
            ):
                found = self.filled()
                first, _ = (found.batch_after(("a",), after)[0] for after in (0, -1))
                self.assertEqual(found.batch_after(("a",), 0)[0] is first, is_kept)

    def test_a_batch_counts_twice_and_its_key_with_all_its_parts(self):
        for channels in (("a",), ("a", "b" * 100), tuple(f"channel-{number}" for number in range(100))):
            key = sum(map(sys.getsizeof, (channels, *channels)))
            self.assertEqual(recent_events._size(channels, Batch(b"x" * 100)), 512 + key + 200)

    def size_of_a(self):
        return recent_events._size(("a",), self.filled().batch_after(("a",), 0)[0])

    def test_what_just_fits_is_kept(self):
        for _ in range(4):
            self.hub.publish("a", "x" * 25)
        self.assertEqual(self.filled(length=100).floor, 0)
        self.assertEqual(self.filled(length=99).floor, 1)
        self.assertEqual(self.filled(count=4).floor, 0)

    def test_it_begins_with_the_newest_512_events(self):
        for _ in range(600):
            self.hub.publish("a", "x")
        found = self.filled()
        self.assertEqual(found.floor, 88)
        self.assertEqual(found.epoch, self.log.epoch)

    def test_after_a_restart_nothing_of_before_is_left(self):
        self.publish("a", "b")
        found = self.filled()
        found.batch_after(("a",), 0)
        found.restart(2)
        self.assertEqual((found.floor, found.batch_after(("a",), 0)[0].body), (2, b""))
        self.publish("a")
        found.add(self.log.read(2))
        self.assertEqual(found.batch_after(("a",), 2)[0].body, self.wire(3))
