"""A reload under load, small: nothing lost or doubled, no connection refused, all back; for each way to reload."""

import unittest

from benchmarks.followers import take_apart
from benchmarks.reloading import KINDS, reloaded, table
from tests.support import once, sqlite_url, temporary_directory

load_tests = once

RETRY = 1000


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


class ReloadTest(unittest.TestCase):
    def test_nothing_is_lost_and_nobody_is_refused(self):
        for kind in KINDS:
            with self.subTest(kind):
                directory = temporary_directory(self)
                url = sqlite_url(directory)
                found = reloaded(kind, url, directory, streams=60, rate=20.0, retry=RETRY, looks=0.5)
                self.assertEqual((found.lost, found.doubled, found.disordered, found.resets), (0, 0, 0, 0), found)
                self.assertEqual((found.refused, found.cut, found.turned_away), (0, 0, 0), found)
                self.assertEqual((found.returned, found.away), (60, 0), found)
                self.assertGreaterEqual(found.events, found.posted)
                self.assertGreater(found.posted, 20)
                shortest, longest = found.told
                self.assertTrue(RETRY / 5000 <= shortest < longest <= RETRY / 1000, found.told)
                self.assertIn("| streams begun anew | 60, 60 |", table({kind: [found, found]}))


class TakeApartTest(unittest.TestCase):
    def test_bytes_cut_anywhere_bring_the_same(self):
        events = b"id: abcdef-7\ndata: x\n\n", b"id: abcdef-8\ndata: y\n\n", b"retry: 1234\n\n"
        body = chunk(b"retry: 5000\nid: abcdef-6\n\n") + b"".join(map(chunk, events)) + chunk(b"")
        for cut in range(len(body) + 1):
            with self.subTest(cut=cut):
                first = take_apart(body[:cut])
                second = take_apart(first.rest + body[cut:])
                self.assertEqual(first.sequences + second.sequences, [7, 8])
                self.assertEqual(second.retry if second.retry is not None else first.retry, 1234)
                self.assertEqual(second.last_event_id or first.last_event_id, "abcdef-8")
                self.assertTrue(first.ended or second.ended)

    def test_a_reset_is_no_event_of_the_log(self):
        piece = take_apart(chunk(b'event: reset\nid: abcdef-9\ndata: {"reason":"expired"}\n\n'))
        self.assertEqual((piece.sequences, piece.resets, piece.last_event_id), ([], 1, "abcdef-9"))


if __name__ == "__main__":
    unittest.main()
