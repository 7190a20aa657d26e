"""The decoder beside the table of ``test_event_stream_format``: random streams, promptness, what it keeps."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import random
import unittest

from sse_threaded.protocol import decoder as decoder_module
from sse_threaded.protocol.decoder import DecodedEvent, EventStreamDecoder
from tests.unit.test_event_stream_format import decode, message, reference


class RandomTest(unittest.TestCase):
    def test_agrees_with_the_steps_of_the_standard(self) -> None:
        words = [
            b"data",
            b"id",
            b"event",
            b"retry",
            b":",
            b": ",
            b" ",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"1",
            b"x",
            b"\0",
            b"\xef\xbb\xbf",
            b"\xe2\x82\xac",
            b"\xe2\x82",
            b"\xf0\x9f",
            b"\xff",
            b"\x85",
        ]
        for seed in range(2000):
            pick = random.Random(seed)
            wire = b"".join(pick.choices(words, k=pick.randrange(40)))
            cuts = sorted(pick.randrange(len(wire) + 1) for _ in range(pick.randrange(6)))
            chunks = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
            with self.subTest(seed=seed, chunks=chunks):
                self.assertEqual(decode(chunks), reference(wire))


class PromptnessTest(unittest.TestCase):
    def test_a_cr_at_the_end_of_a_chunk_does_not_hold_the_event_back(self) -> None:
        decoder = EventStreamDecoder()
        self.assertEqual(decoder.feed(b"data: a\r\n\r"), [message("a")])
        self.assertEqual(decoder.feed(b"\ndata: b\r"), [])
        self.assertEqual(decoder.feed(b"\r"), [message("b")])

    def test_each_event_comes_with_the_byte_that_ends_it(self) -> None:
        decoder = EventStreamDecoder()
        counts = [len(decoder.feed(bytes([byte]))) for byte in b"data: a\n\ndata: b\n\n"]
        self.assertEqual([place for place, count in enumerate(counts) if count], [8, 17])


class StateTest(unittest.TestCase):
    def test_what_outlives_a_connection_is_given_to_the_next_decoder(self) -> None:
        decoder = EventStreamDecoder(last_event_id="7", retry=250)
        self.assertEqual((decoder.last_event_id, decoder.retry), ("7", 250))
        self.assertEqual(decoder.feed(b"data: a\n\n"), [message("a", "7")])

    def test_comments_are_counted(self) -> None:
        decoder = EventStreamDecoder()
        decoder.feed(b": one\n:\ndata: a\n: thr")
        self.assertEqual(decoder.comments, 2)
        decoder.feed(b"ee\n")
        self.assertEqual(decoder.comments, 3)

    def test_a_long_line_in_many_pieces(self) -> None:
        decoder = EventStreamDecoder()
        for chunk in [b"data: ", *[b"0123456789abcdef"] * 65536, b"\n"]:
            self.assertEqual(decoder.feed(chunk), [])
        self.assertEqual(decoder.feed(b"\n"), [message("0123456789abcdef" * 65536)])

    def test_what_is_kept_of_an_unfinished_event_is_counted(self) -> None:
        decoder = EventStreamDecoder()
        for chunk, count in (
            (b"data: ab", 8),
            (b"c\n", 4),
            (b"data\n", 5),
            (b": comment\n", 5),
            (b"id: 7", 10),
            (b"\n\n", 0),
        ):
            decoder.feed(chunk)
            self.assertEqual(decoder.unfinished_bytes, count)

    def test_an_event_is_a_value(self) -> None:
        event = DecodedEvent("a")
        self.assertEqual(event, DecodedEvent(data="a", event="message", last_event_id=""))
        self.assertEqual(len({event, DecodedEvent("a")}), 1)
        with self.assertRaises(dataclasses.FrozenInstanceError):
            event.data = "b"  # type: ignore[misc]


class PurityTest(unittest.TestCase):
    def test_imports_neither_input_nor_output_nor_clock(self) -> None:
        tree = ast.parse(inspect.getsource(decoder_module))
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        self.assertEqual(names, {"__future__", "dataclasses"})
        self.assertFalse([node for node in ast.walk(tree) if isinstance(node, ast.Import)])


if __name__ == "__main__":
    unittest.main()
