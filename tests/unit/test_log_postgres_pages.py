"""Pages, texts and epochs of a log in PostgreSQL, without PostgreSQL."""

from __future__ import annotations

import unittest
from typing import Any

from sse_threaded.errors import HistoryGone
from sse_threaded.log.postgres.epochs import Epochs
from sse_threaded.log.postgres.pages import BYTES, ROWS, page_from
from sse_threaded.log.postgres.text import from_database, to_database
from sse_threaded.log.record import PAGE_CHARACTERS, PAGE_EVENTS, Record

NOTHING = (None, None, None, None, None)


def answer(
    *numbers: int, last: int, trimmed: int | None = None, lost: tuple[int, ...] = ()
) -> list[tuple[Any, ...]]:
    """An answer of ``read.sql`` with these events."""
    if not numbers:
        return [("abcdef", last, trimmed, *NOTHING)]
    return [("abcdef", last, trimmed, number, "a", number not in lost, None, "x") for number in numbers]


class PageTest(unittest.TestCase):
    def test_all_channels(self) -> None:
        page = page_from(answer(3, 4, 5, last=5), 2, None, None)
        self.assertEqual(page, [Record(number, "a", None, "x") for number in (3, 4, 5)])
        self.assertFalse(page.full)

    def test_nothing_new(self) -> None:
        for after in (5, 9):
            self.assertEqual(page_from(answer(last=5), after, None, None), [])
        self.assertEqual(page_from(answer(last=5), 2, ["a"], None), [])
        self.assertEqual(page_from(answer(last=5), 2, None, 2), [])

    def test_a_page_that_is_full(self) -> None:
        page = page_from(answer(*range(1, ROWS + 1), last=999), 0, None, None)
        self.assertEqual((len(page), page.full), (PAGE_EVENTS, True))

    def test_a_missing_number_is_a_missing_event(self) -> None:
        cases = [
            (answer(4, 5, last=5), 2, None),
            (answer(3, 5, last=5), 2, None),
            (answer(last=5), 2, None),
            (answer(last=5), 2, 4),
            (answer(3, 4, 5, last=5, lost=(4,)), 2, None),
        ]
        for rows, after, upto in cases:
            with self.subTest(rows=rows, upto=upto), self.assertRaises(HistoryGone) as caught:
                page_from(rows, after, None, upto)
            self.assertEqual(caught.exception.reason, "expired")

    def test_channels_have_gaps_in_their_numbers(self) -> None:
        page = page_from(answer(4, 9, last=12, trimmed=2), 2, ["a"], None)
        self.assertEqual([record.sequence for record in page], [4, 9])

    def test_channels_whose_events_are_gone(self) -> None:
        cases = [
            (answer(4, last=5, trimmed=3), 2, "expired"),
            (answer(4, last=5, lost=(4,)), 2, "expired"),
            (answer(last=5, trimmed=3), 2, "expired"),
            (answer(last=5), 6, "beyond"),
        ]
        for rows, after, reason in cases:
            with self.subTest(rows=rows), self.assertRaises(HistoryGone) as caught:
                page_from(rows, after, ["a"], None)
            self.assertEqual(caught.exception.reason, reason)

    def test_the_bound_of_an_answer_is_above_that_of_a_page(self) -> None:
        # An answer leaves out an event only if the page ends before it.
        self.assertGreaterEqual(BYTES, len(("\U0010ffff" * PAGE_CHARACTERS).encode()))


class TextTest(unittest.TestCase):
    def test_every_text_comes_back(self) -> None:
        for text in ("", "plain", "ü🎉", "\0", "\1", "\1\0", "\0\0\1\1", "\0001", "\0010", "a\0b\1c"):
            with self.subTest(text=text):
                written = to_database(text)
                self.assertNotIn("\0", written)
                self.assertEqual(from_database(written), text)

    def test_plain_text_stays_as_it_is(self) -> None:
        text = "plain"
        self.assertIs(to_database(text), text)
        self.assertIs(from_database(text), text)

    def test_text_of_other_programs_is_taken(self) -> None:
        self.assertEqual(from_database("\1 x"), "\1 x")


class EpochsTest(unittest.TestCase):
    def test_an_id_of_an_earlier_epoch_is_valid_up_to_its_end(self) -> None:
        epochs = Epochs("zzzzzz", {"aaaaaa": 0, "bbbbbb": 7})
        for epoch, number in (("aaaaaa", 0), ("bbbbbb", 0), ("bbbbbb", 7)):
            epochs.require_kept(epoch, number)
        for epoch, number in (("aaaaaa", 1), ("bbbbbb", 8), ("cccccc", 0)):
            with self.subTest(epoch=epoch), self.assertRaises(HistoryGone) as caught:
                epochs.require_kept(epoch, number)
            self.assertEqual(caught.exception.reason, "epoch")


if __name__ == "__main__":
    unittest.main()
