"""The decoder against WHATWG HTML 9.2.5 and 9.2.6: whole, cut in two everywhere, byte by byte."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import random
import re
import unittest
from collections.abc import Iterable

from sse_threaded import decoder as decoder_module
from sse_threaded.decoder import DecodedEvent, EventStreamDecoder


def message(data: str, last_event_id: str = "", event: str = "message") -> DecodedEvent:
    return DecodedEvent(data=data, event=event, last_event_id=last_event_id)


# name, bytes on the wire, events, last event ID afterwards, retry afterwards
WIRE: list[tuple[str, bytes, list[DecodedEvent], str, int | None]] = [
    ("nothing", b"", [], "", None),
    ("LF", b"data: a\n\n", [message("a")], "", None),
    ("CR", b"data: a\r\r", [message("a")], "", None),
    ("CRLF", b"data: a\r\n\r\n", [message("a")], "", None),
    ("mixed line ends", b"data: a\rdata: b\r\ndata: c\n\r", [message("a\nb\nc")], "", None),
    ("CRLF CR is two line ends", b"data: a\r\n\rdata: b\r\n\n", [message("a"), message("b")], "", None),
    ("LF CR is two line ends", b"data: a\n\rdata: b\n\r", [message("a"), message("b")], "", None),
    (
        "other Unicode line ends are text",
        "data: a\u2028b\x0bc\x0cd\x85e\x1cf\n\n".encode(),
        [message("a\u2028b\x0bc\x0cd\x85e\x1cf")],
        "",
        None,
    ),
    ("byte order mark", b"\xef\xbb\xbfdata: a\n\n", [message("a")], "", None),
    ("byte order mark before a comment", b"\xef\xbb\xbf: hello\ndata: a\n\n", [message("a")], "", None),
    ("byte order mark alone on its line", b"\xef\xbb\xbf\ndata: a\n\n", [message("a")], "", None),
    (
        "only one byte order mark is taken off",
        b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n",
        [message("b")],
        "",
        None,
    ),
    (
        "a byte order mark later on is text",
        b"data: a\n\n\xef\xbb\xbfdata: b\n\ndata: \xef\xbb\xbfc\n\n",
        [message("a"), message("\ufeffc")],
        "",
        None,
    ),
    ("half a byte order mark", b"\xef\xbbdata: a\n\ndata: b\n\n", [message("b")], "", None),
    ("comments", b": one\n:two\n:\ndata: a\n: three\ndata: b\n\n", [message("a\nb")], "", None),
    ("a comment that looks like a field", b":data: a\n\n", [], "", None),
    ("data lines are joined by LF", b"data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")], "", None),
    (
        "one space is taken off",
        b"data:  a \n\ndata:a\n\ndata:\ta\n\n",
        [message(" a "), message("a"), message("\ta")],
        "",
        None,
    ),
    ("data without a colon", b"data\n\n", [message("")], "", None),
    ("data with a colon and nothing", b"data:\n\ndata: \n\n", [message(""), message("")], "", None),
    ("two empty data lines are one LF", b"data\ndata\n\ndata:", [message("\n")], "", None),
    ("a colon in the value", b"data: a:b: c\n\n", [message("a:b: c")], "", None),
    ("NUL in data is text", b"data: a\x00b\n\n", [message("a\0b")], "", None),
    ("event", b"event: add\ndata: 1\n\ndata: 2\n\n", [message("1", event="add"), message("2")], "", None),
    ("the last event field counts", b"event: a\nevent: b\ndata: 1\n\n", [message("1", event="b")], "", None),
    (
        "an empty event is a message",
        b"event: a\nevent\ndata: 1\n\nevent:\ndata: 2\n\n",
        [message("1"), message("2")],
        "",
        None,
    ),
    ("an event without data is none and leaves no type", b"event: a\n\ndata: 1\n\n", [message("1")], "", None),
    ("id", b"id: 1\ndata: a\n\n", [message("a", "1")], "1", None),
    ("an id lasts", b"id: 1\ndata: a\n\ndata: b\n\n", [message("a", "1"), message("b", "1")], "1", None),
    ("id after data", b"data: a\nid: 1\n\n", [message("a", "1")], "1", None),
    (
        "an empty id takes the last one away",
        b"id: 1\ndata: a\n\nid\ndata: b\n\n",
        [message("a", "1"), message("b")],
        "",
        None,
    ),
    ("an id without data takes effect", b"id: 1\n\n", [], "1", None),
    ("and the next event carries it", b"id: 1\n\ndata: a\n\n", [message("a", "1")], "1", None),
    ("an id without the blank line does not", b"id: 1\ndata: a\n\nid: 2\n", [message("a", "1")], "1", None),
    (
        "an id with NUL is ignored",
        b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n",
        [message("a", "1"), message("b", "1")],
        "1",
        None,
    ),
    ("an id is text", "id: ä–1\ndata: a\n\n".encode(), [message("a", "ä–1")], "ä–1", None),
    ("retry", b"retry: 5000\n\n", [], "", 5000),
    ("retry takes effect at its line", b"retry: 5000\n", [], "", 5000),
    (
        "retry is digits only",
        b"retry: 1\nretry: -2\nretry: 3.0\nretry: 4 \nretry:  5\nretry: 6s\nretry\nretry:\n",
        [],
        "",
        1,
    ),
    ("retry is ASCII digits only", "retry: 1\nretry: ٢\nretry: ²\n".encode(), [], "", 1),
    ("retry is base ten", b"retry: 0010\n", [], "", 10),
    ("retry may be zero", b"retry: 000\n", [], "", 0),
    ("a retry no clock can count is ignored", b"retry: 7\nretry: " + b"9" * 6000 + b"\n", [], "", 7),
    ("leading zeros do not count", b"retry: " + b"0" * 6000 + b"8\n", [], "", 8),
    ("unknown fields", b"foo: 1\nDATA: 2\n data: 3\ndata : 4\ndata: a\nfoo\n\n", [message("a")], "", None),
    ("blank lines only", b"\n\n\r\r\n\n", [], "", None),
    ("an event cut off at the end is dropped", b"data: a\n\ndata: b\n", [message("a")], "", None),
    ("a line cut off at the end is dropped", b"data: a\n\ndata: b", [message("a")], "", None),
    ("UTF-8", "data: żółw 🐢\n\n".encode(), [message("żółw 🐢")], "", None),
    ("a lone byte becomes U+FFFD", b"data: a\xffb\n\n", [message("a\ufffdb")], "", None),
    ("a sequence cut by a line end", b"data: a\xf0\x9f\x90\n\n", [message("a\ufffd")], "", None),
    ("a surrogate", b"data: \xed\xa0\x80\n\n", [message("\ufffd\ufffd\ufffd")], "", None),
    ("an overlong LF is no line end", b"data: a\xc0\x8ab\n\n", [message("a\ufffd\ufffdb")], "", None),
    (
        "the second example of 9.2.6",
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [message("first event", "1"), message("second event"), message(" third event")],
        "",
        None,
    ),
]


def decode(chunks: Iterable[bytes]) -> tuple[list[DecodedEvent], str, int | None, int]:
    decoder = EventStreamDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events, decoder.last_event_id, decoder.retry, decoder.comments


def reference(wire: bytes) -> tuple[list[DecodedEvent], str, int | None, int]:
    """The standard's steps, word by word, on the whole text at once."""
    text = wire.decode("utf-8", "replace").removeprefix("\ufeff")
    events: list[DecodedEvent] = []
    data = event = last_id_buffer = last_event_id = ""
    retry, comments = None, 0
    for line in re.split("\r\n|\r|\n", text)[:-1]:
        if line == "":
            last_event_id = last_id_buffer
            if data != "":
                events.append(DecodedEvent(data[:-1], event or "message", last_event_id))
            data = event = ""
            continue
        if line[0] == ":":
            comments += 1
            continue
        field, value = line.split(":", 1) if ":" in line else (line, "")
        value = value[1:] if value[:1] == " " else value
        if field == "event":
            event = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            last_id_buffer = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)
    return events, last_event_id, retry, comments


class TableTest(unittest.TestCase):
    def test_the_whole_stream_at_once(self) -> None:
        for name, wire, *expected in WIRE:
            with self.subTest(name):
                self.assertEqual(list(decode([wire]))[:3], expected)

    def test_byte_by_byte(self) -> None:
        for name, wire, *expected in WIRE:
            with self.subTest(name):
                self.assertEqual(list(decode(bytes([byte]) for byte in wire))[:3], expected)

    def test_cut_in_two_at_every_place(self) -> None:
        for name, wire, *expected in WIRE:
            for cut in range(0, len(wire), 1 if len(wire) < 1000 else 97):
                with self.subTest(name, cut=cut):
                    self.assertEqual(list(decode([wire[:cut], wire[cut:]]))[:3], expected)

    def test_empty_chunks_between_change_nothing(self) -> None:
        for name, wire, *expected in WIRE:
            with self.subTest(name):
                chunks = [chunk for byte in wire for chunk in (bytes([byte]), b"")]
                self.assertEqual(list(decode(chunks))[:3], expected)


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
