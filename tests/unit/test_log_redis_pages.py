"""Pages of what Redis answers. It needs no Redis: the answers are written by hand, as ``read.lua`` gives them."""

from __future__ import annotations

import unittest
from collections.abc import Sequence

from sse_threaded import HistoryGone
from sse_threaded.log.record import PAGE_CHARACTERS, PAGE_EVENTS, Page
from sse_threaded.log.redis.pages import bounds_of, page_from, record_of

Entry = tuple[bytes, list[bytes]]


def entry(number: int, channel: str | None = None, event: str | None = None) -> Entry:
    """One entry of a stream; those of the feed name their channel."""
    fields = [] if channel is None else [b"c", channel.encode()]
    fields += [b"d", str(number).encode()]
    fields += [] if event is None else [b"e", event.encode()]
    return f"{number}-1760000000000".encode(), fields


def answer(last: int, *streams: tuple[int, list[Entry]], gaps: bytes = b"", gone: int = 0) -> object:
    return [str(last).encode(), gaps, gone, [list(stream) for stream in streams]]


class BoundsTest(unittest.TestCase):
    def test_one_stream_may_fill_a_page_and_shows_whether_there_is_more(self) -> None:
        self.assertEqual(bounds_of(1), (PAGE_EVENTS + 1, PAGE_CHARACTERS + 1))
        self.assertEqual(bounds_of(0), bounds_of(1))

    def test_many_channels_share_a_page_and_each_has_a_least_part(self) -> None:
        self.assertEqual(bounds_of(4), (PAGE_EVENTS // 4 + 1, PAGE_CHARACTERS // 4 + 1))
        self.assertEqual(bounds_of(10_000), (9, 16 * 1024 + 1))


class RecordTest(unittest.TestCase):
    def test_an_entry_of_the_feed_names_its_channel(self) -> None:
        fields = {b"c": "ü".encode(), b"d": b"x", b"e": b"named"}
        self.assertEqual(record_of(b"7-1", fields), (7, "ü", "named", "x"))
        self.assertEqual(record_of(b"7-1", {b"d": b"x"}, "a"), (7, "a", None, "x"))


class PageTest(unittest.TestCase):
    def read(self, found: object, after: int, channels: Sequence[str] | None, upto: int | None = None) -> Page:
        return page_from(found, after, channels, upto)

    def numbers(self, page: Page) -> list[int]:
        return [record.sequence for record in page]

    def assert_gone(self, reason: str, found: object, after: int, channels: Sequence[str] | None) -> None:
        with self.assertRaises(HistoryGone) as raised:
            page_from(found, after, channels, None)
        self.assertEqual(raised.exception.reason, reason)

    def test_channels_are_merged(self) -> None:
        found = answer(4, (0, [entry(1), entry(4)]), (0, [entry(2), entry(3, event="e")]))
        page = self.read(found, 0, ["a", "b"])
        self.assertEqual([record.channel for record in page], ["a", "b", "b", "a"])
        self.assertEqual([record.event for record in page], [None, None, "e", None])
        self.assertFalse(page.full)
        self.assertEqual(self.numbers(self.read(found, 0, ["a", "b"], upto=3)), [1, 2, 3])

    def test_no_event_comes_before_one_that_was_cut_off(self) -> None:
        found = answer(9, (1, [entry(1), entry(3)]), (0, [entry(2), entry(8)]))
        page = self.read(found, 0, ["a", "b"])
        self.assertEqual(self.numbers(page), [1, 2, 3])
        self.assertTrue(page.full)

    def test_the_feed_is_read_whole(self) -> None:
        page = self.read(answer(3, (0, [entry(2, "a"), entry(3, "b")])), 1, None)
        self.assertEqual([(record.sequence, record.channel) for record in page], [(2, "a"), (3, "b")])
        self.assertEqual(self.read(answer(3, (0, [])), 3, None), [])
        self.assertEqual(self.read(answer(3, (0, [])), 9, None), [], "as in all engines")

    def test_a_feed_that_lacks_the_next_event_is_told(self) -> None:
        self.assert_gone("expired", answer(3, (0, [entry(3, "a")])), 1, None)
        self.assert_gone("expired", answer(3, (0, [])), 1, None)

    def test_numbers_that_were_left_out_are_not_missing(self) -> None:
        gaps = b"1:100"
        self.assertEqual(self.numbers(self.read(answer(101, (0, [entry(101, "a")]), gaps=gaps), 1, None)), [101])
        self.assertEqual(self.read(answer(100, (0, []), gaps=gaps), 1, None), [])

    def test_a_place_whose_event_is_lost_or_trimmed_is_told(self) -> None:
        for channels in (None, ["a"]):
            with self.subTest(channels=channels):
                self.assert_gone("expired", answer(9, (0, []), gone=1), 9, channels)
                self.assert_gone("beyond", answer(200, (0, []), gaps=b"1:100"), 50, channels)
        self.assert_gone("beyond", answer(3, (0, [])), 4, ["a"])
        self.assertEqual(self.read(answer(3, (0, [])), 3, ["a"]), [])


if __name__ == "__main__":
    unittest.main()
