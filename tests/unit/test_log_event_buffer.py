"""The newest events of a Redis log in memory: none is missing, and a loss is noticed. It needs no Redis."""

from __future__ import annotations

import unittest

from sse_threaded import HistoryGone
from sse_threaded.log import Record
from sse_threaded.log.redis.event_buffer import EventBuffer
from sse_threaded.log.redis.gaps import Gaps


def records(*numbers: int, data: str = "x") -> list[Record]:
    return [Record(number, "a", None, data) for number in numbers]


class GapsTest(unittest.TestCase):
    def test_they_may_follow_each_other(self) -> None:
        gaps = Gaps(b"5:100,100:300,400:500")
        for sequence, before, follows in ((6, 5, True), (301, 5, True), (302, 5, False), (501, 5, False)):
            with self.subTest(sequence=sequence):
                self.assertEqual(gaps.follows(sequence, before), follows)

    def test_they_hold_the_numbers_that_were_left_out(self) -> None:
        gaps = Gaps(b"5:100")
        found = {number for number in range(200) if gaps.hold(number)}
        self.assertEqual(found, set(range(6, 100)))
        self.assertFalse(Gaps().hold(6))


class EventBufferTest(unittest.TestCase):
    def make_buffer(self, last: int = 0, gaps: bytes = b"", **options: int) -> EventBuffer:
        buffer = EventBuffer(**options)
        buffer.renew("abcdef")
        self.assertTrue(buffer.update("abcdef", last, Gaps(gaps), idle=False))
        return buffer

    def numbers(self, buffer: EventBuffer, after: int) -> list[int]:
        page = buffer.page(after)
        assert page is not None, "only the log has them"
        return [record.sequence for record in page]

    def test_before_anything_is_known_it_has_nothing(self) -> None:
        buffer = EventBuffer()
        self.assertEqual(buffer.page(7), [])
        self.assertEqual(buffer.place, (None, None))

    def test_it_has_all_events_since_it_began(self) -> None:
        buffer = self.make_buffer(5)
        self.assertTrue(buffer.add("abcdef", records(6, 7)))
        self.assertEqual(self.numbers(buffer, 5), [6, 7])
        self.assertEqual(self.numbers(buffer, 7), [])
        self.assertIsNone(buffer.page(4), "older events are in the log only")
        self.assertEqual(buffer.place, ("abcdef", 7))
        for idle in (False, True):
            buffer.update("abcdef", 7, Gaps(), idle=idle)
            self.assertEqual(self.numbers(buffer, 5), [6, 7], "a look at the same log drops nothing")

    def test_events_behind_a_missing_one_are_not_taken(self) -> None:
        buffer = self.make_buffer(5)
        for numbers in ((7,), (6, 8)):
            with self.subTest(numbers=numbers):
                self.assertFalse(buffer.add("abcdef", records(*numbers)))
        self.assertEqual(buffer.place, ("abcdef", 5))
        buffer.restart(8)
        self.assertIsNone(buffer.page(5))

    def test_events_behind_a_gap_are_taken(self) -> None:
        buffer = self.make_buffer(5, b"5:100")
        self.assertTrue(buffer.add("abcdef", records(101)))
        self.assertEqual(self.numbers(buffer, 5), [101])

    def test_events_of_another_epoch_are_not_taken(self) -> None:
        buffer = self.make_buffer(5)
        self.assertTrue(buffer.add("ghijkl", records(6)), "that is no fault")
        self.assertFalse(buffer.update("ghijkl", 9, Gaps(), idle=False))
        self.assertEqual(buffer.place, ("abcdef", 5))

    def test_it_is_bounded(self) -> None:
        buffer = self.make_buffer(0, kept_events=10)
        for number in range(1, 101):
            buffer.add("abcdef", records(number))
        self.assertIsNone(buffer.page(89))
        self.assertEqual(self.numbers(buffer, 96), [97, 98, 99, 100])
        large = self.make_buffer()
        for number in range(1, 20):
            large.add("abcdef", records(number, data="x" * 1024 * 1024))
        self.assertIsNone(large.page(8))
        self.assertEqual(self.numbers(large, 18), [19])

    def test_a_place_that_the_log_does_not_have_is_refused(self) -> None:
        buffer = self.make_buffer(5, b"5:100")
        for after in (6, 99):
            with self.subTest(after=after), self.assertRaises(HistoryGone) as raised:
                buffer.page(after)
            self.assertEqual(raised.exception.reason, "beyond")
        self.assertTrue(buffer.is_lost(6))

    def test_a_place_whose_event_has_not_come_yet_is_none_of_them(self) -> None:
        buffer = self.make_buffer(5)
        self.assertRaises(HistoryGone, buffer.page, 7)
        buffer.expect(7)
        self.assertEqual(buffer.page(7), [])

    def test_a_log_that_lost_its_newest_events_begins_again_where_it_is(self) -> None:
        buffer = self.make_buffer(5)
        buffer.add("abcdef", records(6, 7))
        buffer.update("abcdef", 6, Gaps(), idle=True)
        self.assertEqual(buffer.place, ("abcdef", 6))
        self.assertRaises(HistoryGone, buffer.page, 7)

    def test_events_that_never_come_are_noticed_by_the_second_look(self) -> None:
        buffer = self.make_buffer(5)
        buffer.update("abcdef", 8, Gaps(), idle=True)
        self.assertEqual(buffer.place, ("abcdef", 5), "they may be on their way")
        buffer.update("abcdef", 8, Gaps(), idle=True)
        self.assertEqual(buffer.place, ("abcdef", 8))

    def test_a_gap_without_an_event_behind_it_is_no_fault(self) -> None:
        buffer = self.make_buffer(5)
        for _ in range(3):
            buffer.update("abcdef", 100, Gaps(b"5:100"), idle=True)
        self.assertEqual(buffer.place, ("abcdef", 5))


if __name__ == "__main__":
    unittest.main()
