"""The event stream format: a table of streams and what a reader makes of them (WHATWG HTML 9.2.5 and 9.2.6).

The decoder reads each stream whole and in pieces; what is dispatched goes back through the encoder.
"""

from __future__ import annotations

import re
import unittest
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sse_threaded import ServerSentEvent
from sse_threaded.protocol.decoder import DecodedEvent, EventStreamDecoder

# Bytes a piece; the largest is longer than most fields' names.
SIZES = (1, 2, 3, 7)


class Stream(NamedTuple):
    """A stream, and what a reader has of it at its end."""

    name: str
    wire: bytes
    events: list[DecodedEvent]
    last_event_id: str = ""
    retry: int | None = None


def message(data: str, last_event_id: str = "", event: str = "message") -> DecodedEvent:
    return DecodedEvent(data=data, event=event, last_event_id=last_event_id)


STREAMS: list[Stream] = [
    # Line ends.
    Stream("nothing", b"", []),
    Stream("LF", b"data: a\n\n", [message("a")]),
    Stream("CR", b"data: a\r\r", [message("a")]),
    Stream("CRLF", b"data: a\r\n\r\n", [message("a")]),
    Stream("mixed line ends", b"data: a\rdata: b\r\ndata: c\n\r", [message("a\nb\nc")]),
    Stream("CRLF CR is two line ends", b"data: a\r\n\rdata: b\r\n\n", [message("a"), message("b")]),
    Stream("LF CR is two line ends", b"data: a\n\rdata: b\n\r", [message("a"), message("b")]),
    Stream(
        "other Unicode line ends are text",
        "data: a\u2028b\x0bc\x0cd\x85e\x1cf\n\n".encode(),
        [message("a\u2028b\x0bc\x0cd\x85e\x1cf")],
    ),
    Stream("blank lines only", b"\n\n\r\r\n\n", []),
    Stream(
        "each line with an end of its own", b"data: 1\ndata: 2\rdata: 3\r\ndata: 4\n\r\n", [message("1\n2\n3\n4")]
    ),
    Stream("CRLF is never a blank line", b"data: a\r\ndata: b\r\n", []),
    Stream(
        "many blank lines after an event", b"data: a\n\n\n\r\r\r\n\r\ndata: b\n\n", [message("a"), message("b")]
    ),
    # The byte order mark.
    Stream("byte order mark", b"\xef\xbb\xbfdata: a\n\n", [message("a")]),
    Stream("byte order mark before a comment", b"\xef\xbb\xbf: hello\ndata: a\n\n", [message("a")]),
    Stream("byte order mark alone on its line", b"\xef\xbb\xbf\ndata: a\n\n", [message("a")]),
    Stream(
        "only one byte order mark is taken off", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [message("b")]
    ),
    Stream(
        "a byte order mark later on is text",
        b"data: a\n\n\xef\xbb\xbfdata: b\n\ndata: \xef\xbb\xbfc\n\n",
        [message("a"), message("\ufeffc")],
    ),
    Stream("half a byte order mark", b"\xef\xbbdata: a\n\ndata: b\n\n", [message("b")]),
    Stream(
        "a byte order mark is taken off once a stream, not once an event",
        b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n",
        [message("a"), message("c")],
    ),
    Stream("a byte order mark after a line is text", b"\n\xef\xbb\xbfdata: a\n\n", []),
    Stream("one of UTF-16 is invalid UTF-8", b"\xff\xfedata: a\n\ndata: b\n\n", [message("b")]),
    # Comments.
    Stream("comments", b": one\n:two\n:\ndata: a\n: three\ndata: b\n\n", [message("a\nb")]),
    Stream("a comment that looks like a field", b":data: a\n\n", []),
    Stream("a comment is as long as it likes", b":" + b"x" * 5000 + b"\ndata: a\n\n", [message("a")]),
    Stream("a comment may hold anything", b":\0\xff: \xef\xbb\xbf\r: :\r\ndata: a\n\n", [message("a")]),
    Stream(
        "a comment between the lines of an event ends nothing",
        b"data: a\n:\nevent: x\n: b\nid: 1\n:c\n\n",
        [message("a", "1", "x")],
        "1",
    ),
    Stream("comments and blank lines dispatch nothing", b": heartbeat\n\n:\n\n", []),
    # Fields: the first colon ends the name, one space after it is taken off, names are exact.
    Stream("unknown fields", b"foo: 1\nDATA: 2\n data: 3\ndata : 4\ndata: a\nfoo\n\n", [message("a")]),
    Stream(
        "one space is taken off",
        b"data:  a \n\ndata:a\n\ndata:\ta\n\n",
        [message(" a "), message("a"), message("\ta")],
    ),
    Stream("a colon in the value", b"data: a:b: c\n\n", [message("a:b: c")]),
    Stream("a name with a NUL is another name", b"data\0: 1\n\0data: 2\nda\0ta: 3\ndata: 4\n\n", [message("4")]),
    Stream(
        "a name with other letters is another name",
        b"Data: 1\ndatas: 2\nda-ta: 3\ndata_: 4\ndata: 5\n\n",
        [message("5")],
    ),
    Stream("a name is not trimmed", b"data : 1\n data: 2\n\tdata: 3\ndata\t: 4\ndata: 5\n\n", [message("5")]),
    Stream("an unknown field without a colon", b"something\ndata: a\nDATA\n data\n\n", [message("a")]),
    Stream("an unknown field changes no other", b"id: 1\nx: 2\nretries: 3\ndata: a\n\n", [message("a", "1")], "1"),
    Stream(
        "a no-break space is no space",
        "data:\u00a0a\n\ndata: \u00a0b\n\ndata:\u3000c\n\n".encode(),
        [message("\u00a0a"), message("\u00a0b"), message("\u3000c")],
    ),
    Stream("two colons", b"data::a\n\ndata: :b\n\n", [message(":a"), message(":b")]),
    Stream("a colon alone is a comment", b":\ndata: a\n\n", [message("a")]),
    # data.
    Stream("data lines are joined by LF", b"data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")]),
    Stream("data without a colon", b"data\n\n", [message("")]),
    Stream("data with a colon and nothing", b"data:\n\ndata: \n\n", [message(""), message("")]),
    Stream("two empty data lines are one LF", b"data\ndata\n\ndata:", [message("\n")]),
    Stream("NUL in data is text", b"data: a\x00b\n\n", [message("a\0b")]),
    Stream("empty data lines between others", b"data: a\ndata\ndata:\ndata: b\ndata\n\n", [message("a\n\n\nb\n")]),
    Stream("NUL alone", b"data: \0\n\ndata:\0\n\n", [message("\0"), message("\0")]),
    Stream(
        "all forms of a data line together",
        b"data:  1\rdata\r\ndata:2\ndata:\ndata: \0\n\n",
        [message(" 1\n\n2\n\n\0")],
    ),
    # event.
    Stream("event", b"event: add\ndata: 1\n\ndata: 2\n\n", [message("1", event="add"), message("2")]),
    Stream("the last event field counts", b"event: a\nevent: b\ndata: 1\n\n", [message("1", event="b")]),
    Stream(
        "an empty event is a message",
        b"event: a\nevent\ndata: 1\n\nevent:\ndata: 2\n\n",
        [message("1"), message("2")],
    ),
    Stream("an event without data is none and leaves no type", b"event: a\n\ndata: 1\n\n", [message("1")]),
    Stream("an event field after the data", b"data: 1\nevent: a\n\n", [message("1", event="a")]),
    Stream("an empty event field takes the type back", b"event: a\ndata: 1\nevent:\n\n", [message("1")]),
    Stream("a type of one space more", b"event:  a\ndata: 1\n\n", [message("1", event=" a")]),
    Stream(
        "a type may hold anything but line ends",
        "event: a:b ä\0\ndata: 1\n\n".encode(),
        [message("1", event="a:b ä\0")],
    ),
    Stream(
        "the names of EventSource's own events are types",
        b"event: open\ndata: 1\n\nevent: error\ndata: 2\n\n",
        [message("1", event="open"), message("2", event="error")],
    ),
    # id.
    Stream("id", b"id: 1\ndata: a\n\n", [message("a", "1")], "1"),
    Stream("an id lasts", b"id: 1\ndata: a\n\ndata: b\n\n", [message("a", "1"), message("b", "1")], "1"),
    Stream("id after data", b"data: a\nid: 1\n\n", [message("a", "1")], "1"),
    Stream(
        "an empty id takes the last one away",
        b"id: 1\ndata: a\n\nid\ndata: b\n\n",
        [message("a", "1"), message("b")],
    ),
    Stream("an id without data takes effect", b"id: 1\n\n", [], "1"),
    Stream("and the next event carries it", b"id: 1\n\ndata: a\n\n", [message("a", "1")], "1"),
    Stream("an id without the blank line does not", b"id: 1\ndata: a\n\nid: 2\n", [message("a", "1")], "1"),
    Stream(
        "an id with NUL is ignored",
        b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n",
        [message("a", "1"), message("b", "1")],
        "1",
    ),
    Stream("an id is text", "id: ä–1\ndata: a\n\n".encode(), [message("a", "ä–1")], "ä–1"),
    Stream(
        "NUL anywhere in an id",
        b"id: 1\nid: \0\nid: \x002\nid: 3\x004\nid: 5\0\ndata: a\n\n",
        [message("a", "1")],
        "1",
    ),
    Stream("the last id field counts", b"id: 1\nid: 2\ndata: a\nid: 3\n\n", [message("a", "3")], "3"),
    Stream("an empty id field takes the one before it back", b"id: 1\ndata: a\nid:\n\n", [message("a")]),
    Stream(
        "several ids over several events",
        b"id: 1\ndata: a\n\ndata: b\nid: 2\n\nid: 3\n\ndata: c\n\n",
        [message("a", "1"), message("b", "2"), message("c", "3")],
        "3",
    ),
    Stream("an id of one space more, and with a colon", b"id:  a:1\ndata: x\n\n", [message("x", " a:1")], " a:1"),
    # retry.
    Stream("retry", b"retry: 5000\n\n", [], retry=5000),
    Stream("retry takes effect at its line", b"retry: 5000\n", [], retry=5000),
    Stream(
        "retry is digits only",
        b"retry: 1\nretry: -2\nretry: 3.0\nretry: 4 \nretry:  5\nretry: 6s\nretry\nretry:\n",
        [],
        retry=1,
    ),
    Stream("retry is ASCII digits only", "retry: 1\nretry: ٢\nretry: ²\n".encode(), [], retry=1),
    Stream("retry is base ten", b"retry: 0010\n", [], retry=10),
    Stream("retry may be zero", b"retry: 000\n", [], retry=0),
    Stream("a retry no clock can count is ignored", b"retry: 7\nretry: " + b"9" * 6000 + b"\n", [], retry=7),
    Stream("leading zeros do not count", b"retry: " + b"0" * 6000 + b"8\n", [], retry=8),
    Stream(
        "a retry that is none leaves the last",
        b"retry: 1000\nretry: 2000x\nretry: x\nretry: 0x10\nretry: +3\ndata: a\n\n",
        [message("a")],
        retry=1000,
    ),
    Stream("an empty retry leaves the last", b"retry: 1000\nretry\nretry:\nretry: \n\n", [], retry=1000),
    Stream("a retry with NUL leaves the last", b"retry: 1000\nretry: 2\0\nretry: \x003\n\n", [], retry=1000),
    Stream(
        "a retry has 18 digits at most", b"retry: %b\nretry: 1%b\n" % (b"9" * 18, b"0" * 18), [], retry=10**18 - 1
    ),
    Stream("the last retry counts", b"retry: 1\nretry: 2\n\nretry:3\n", [], retry=3),
    Stream("letters at the end of a line belong to it", b"data: X\ndata: rn\n\n", [message("X\nrn")]),
    # The end of the stream: what has no blank line behind it is dropped.
    Stream("an event cut off at the end is dropped", b"data: a\n\ndata: b\n", [message("a")]),
    Stream("a line cut off at the end is dropped", b"data: a\n\ndata: b", [message("a")]),
    Stream(
        "nothing of an event that is cut off counts but its retry",
        b"data: a\n\nretry: 1\nid: 1\nevent: x\ndata: b\n",
        [message("a")],
        retry=1,
    ),
    Stream("a retry that is cut off does not count", b"data: a\n\nretry: 1", [message("a")]),
    # UTF-8, whatever else the answer says.
    Stream("UTF-8", "data: żółw 🐢\n\n".encode(), [message("żółw 🐢")]),
    Stream("a lone byte becomes U+FFFD", b"data: a\xffb\n\n", [message("a\ufffdb")]),
    Stream("a sequence cut by a line end", b"data: a\xf0\x9f\x90\n\n", [message("a\ufffd")]),
    Stream("a surrogate", b"data: \xed\xa0\x80\n\n", [message("\ufffd\ufffd\ufffd")]),
    Stream("an overlong LF is no line end", b"data: a\xc0\x8ab\n\n", [message("a\ufffd\ufffdb")]),
    Stream(
        "one to four bytes a character",
        "data: aé€😀\nevent: é€😀\nid: 😀\n\n".encode(),
        [message("aé€😀", "😀", "é€😀")],
        "😀",
    ),
    Stream("bytes of Latin-1", "data: ä\n\n".encode("latin-1"), [message("\ufffd")]),
    Stream("a sequence cut by the end of the stream", b"data: a\n\ndata: \xe2\x82", [message("a")]),
    Stream("a character beyond the last", b"data: \xf4\x90\x80\x80\n\n", [message("\ufffd" * 4)]),
    Stream("an overlong colon ends no name", b"data\xc0\xba 1\ndata: 2\n\n", [message("2")]),
    Stream("an invalid byte in a name", b"d\xffata: 1\ndata: 2\n\n", [message("2")]),
    # The examples of 9.2.6.
    Stream(
        "the second example",
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [message("first event", "1"), message("second event"), message(" third event")],
    ),
    Stream("the first example", b"data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")]),
    Stream("the third example", b"data\n\ndata\ndata\n\ndata:", [message(""), message("\n")]),
    Stream("the fourth example", b"data:test\n\ndata: test\n\n", [message("test"), message("test")]),
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


def encode(event: DecodedEvent) -> bytes:
    kind = None if event.event == "message" else event.event
    return ServerSentEvent(data=event.data, event=kind, id=event.last_event_id or None).encode()


def pieces(wire: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(wire), size):
        yield wire[start : start + size]


class TableTest(unittest.TestCase):
    """The decoder has of each stream what the table says, however it is cut."""

    def test_no_name_is_there_twice(self) -> None:
        self.assertEqual(len({stream.name for stream in STREAMS}), len(STREAMS))

    def test_it_agrees_with_the_steps_of_the_standard(self) -> None:
        for stream in STREAMS:
            if len(stream.wire) < 6000 and "18 digits" not in stream.name:  # our own limits
                with self.subTest(stream.name):
                    self.assertEqual(reference(stream.wire)[:3], stream[2:])

    def test_the_whole_stream_at_once(self) -> None:
        for stream in STREAMS:
            with self.subTest(stream.name):
                self.assertEqual(decode([stream.wire])[:3], stream[2:])

    def test_in_pieces(self) -> None:
        for stream in STREAMS:
            for size in SIZES:
                with self.subTest(stream.name, size=size):
                    self.assertEqual(decode(pieces(stream.wire, size))[:3], stream[2:])

    def test_cut_in_two_at_every_place(self) -> None:
        for stream in STREAMS:
            for cut in range(0, len(stream.wire), 1 if len(stream.wire) < 1000 else 97):
                with self.subTest(stream.name, cut=cut):
                    self.assertEqual(decode([stream.wire[:cut], stream.wire[cut:]])[:3], stream[2:])

    def test_empty_pieces_between_change_nothing(self) -> None:
        for stream in STREAMS:
            with self.subTest(stream.name):
                chunks = [chunk for byte in pieces(stream.wire, 1) for chunk in (byte, b"")]
                self.assertEqual(decode(chunks)[:3], stream[2:])

    def test_one_stream_after_the_other_on_one_connection(self) -> None:
        # Each of these ends with a blank line. A byte order mark or a cut end cannot be in the middle.
        ends = (b"\n\n", b"\r\r")
        plain = [stream for stream in STREAMS if stream.wire.endswith(ends) and b"\xef\xbb\xbf" not in stream.wire]
        wire = b"".join(stream.wire for stream in plain)
        expected = [(event.data, event.event) for stream in plain for event in stream.events]
        for size in (len(wire), *SIZES):
            with self.subTest(size=size):
                events = decode(pieces(wire, size))[0]
                self.assertEqual([(event.data, event.event) for event in events], expected)


class EncoderTest(unittest.TestCase):
    """What the table dispatches can be sent, and comes back the same."""

    def test_each_event_comes_back(self) -> None:
        for stream in STREAMS:
            for event in stream.events:
                wire = encode(event)
                for size in (len(wire), *SIZES):
                    with self.subTest(stream.name, event=event, size=size):
                        self.assertEqual(decode(pieces(wire, size))[:2], ([event], event.last_event_id))

    def test_all_events_in_a_row_come_back(self) -> None:
        events = [event for stream in STREAMS for event in stream.events]
        wire = b"".join(map(encode, events))
        for size in (len(wire), *SIZES):
            with self.subTest(size=size):
                found = decode(pieces(wire, size))[0]
                # Without their ids: an event without an id has the id of the event before it.
                self.assertEqual([(e.data, e.event) for e in found], [(e.data, e.event) for e in events])


if __name__ == "__main__":
    unittest.main()
