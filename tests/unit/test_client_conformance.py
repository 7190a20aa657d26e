"""``sse_threaded.client`` keeps the rules of WHATWG HTML 9.2: a table of streams, and the events that they give.

Each stream comes over a socket, whole and byte by byte. The rows follow the clauses of the standard.
"""

from __future__ import annotations

import unittest
from typing import NamedTuple

from sse_threaded.client import DecodedEvent, EventSource, StreamRefused
from tests.harness.scripted_server import ScriptedServer, chunk, head, pieces, stream
from tests.support import enter

FAST = {"retry": 1, "max_backoff": 0.0}


def event(data: str, last_event_id: str = "", name: str = "message") -> DecodedEvent:
    return DecodedEvent(data, name, last_event_id)


class Row(NamedTuple):
    """A stream of the table.

    :ivar rule: what it is about, with the clause.
    :ivar body: its bytes.
    :ivar events: the events that it gives.
    :ivar resumed: the ``Last-Event-ID`` of the next request; ``None``: none.
    """

    rule: str
    body: bytes
    events: list[DecodedEvent]
    resumed: str | None = None


TABLE = [
    # 9.2.5, the grammar
    Row("LF ends lines", b"data: a\n\ndata: b\n\n", [event("a"), event("b")]),
    Row("CR ends lines", b"data: a\r\rdata: b\r\r", [event("a"), event("b")]),
    Row("CRLF ends lines", b"data: a\r\n\r\ndata: b\r\n\r\n", [event("a"), event("b")]),
    Row("the three mixed", b"data: a\rdata: b\r\ndata: c\n\r\n", [event("a\nb\nc")]),
    Row("CR, then LF of another line end", b"data: a\r\n\ndata: b\n\n", [event("a"), event("b")]),
    Row(
        "no other character ends a line",
        "data: a\x0b\x0c\x1c\x85\u2028b\n\n".encode(),
        [event("a\x0b\x0c\x1c\x85\u2028b")],
    ),
    Row("one BOM at the beginning is skipped", b"\xef\xbb\xbfdata: a\n\n", [event("a")]),
    Row("a second BOM belongs to the name", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [event("b")]),
    Row("a BOM later belongs to the name", b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [event("a")]),
    Row(
        "invalid UTF-8 becomes U+FFFD",
        b"data: a\xff\xc3b\n\ndata: \xe2\x82\n\n",
        [event("a\ufffd\ufffdb"), event("\ufffd")],
    ),
    Row("characters of two to four bytes", "data: äß€\U0001f600\n\n".encode(), [event("äß€\U0001f600")]),
    # 9.2.6, the fields
    Row("comments", b": one\n:\n:data: no\ndata: a\n: two\n\n", [event("a")]),
    Row("only a comment", b": heartbeat\n\n: heartbeat\n", []),
    Row(
        "one space after the colon is not data",
        b"data:a\ndata: b\ndata:  c\ndata:\td\n\n",
        [event("a\nb\n c\n\td")],
    ),
    Row("a line without a colon is a name", b"data\n\ndata\ndata\n\n", [event(""), event("\n")]),
    Row("empty data is an event", b"data:\n\ndata: \n\n", [event(""), event("")]),
    Row("colons after the first are data", b"data: a:b: c\n\n", [event("a:b: c")]),
    Row("names are case-sensitive", b"Data: a\nDATA: b\ndata: c\n\n", [event("c")]),
    Row("spaces around a name are part of it", b" data: a\ndata : b\ndata: c\n\n", [event("c")]),
    Row("unknown fields are skipped", b"datum: a\nfoo: bar\nevents: x\ndata: b\n\n", [event("b")]),
    Row("a type", b"event: news\ndata: a\n\ndata: b\n\n", [event("a", name="news"), event("b")]),
    Row("the last type counts", b"event: x\nevent: news\ndata: a\n\n", [event("a", name="news")]),
    Row(
        "an empty type is message",
        b"event: x\nevent:\ndata: a\n\nevent: message\ndata: b\n\n",
        [event("a"), event("b")],
    ),
    Row("a type without data is no event, and is forgotten", b"event: x\n\ndata: a\n\n", [event("a")]),
    Row("many blank lines", b"\n\n\n\ndata: a\n\n\n\n\n", [event("a")]),
    # ids
    Row("an id", b"id: 1\ndata: a\n\n", [event("a", "1")], "1"),
    Row("an id stays", b"id: 1\ndata: a\n\ndata: b\n\n", [event("a", "1"), event("b", "1")], "1"),
    Row("an id after the data", b"data: a\nid: 2\n\n", [event("a", "2")], "2"),
    Row("the last id of an event counts", b"id: 1\nid: 2\ndata: a\n\n", [event("a", "2")], "2"),
    Row("an id without data is no event, and counts", b"id: 3\n\n", [], "3"),
    Row("an empty id unsets it", b"id: 1\ndata: a\n\nid:\ndata: b\n\n", [event("a", "1"), event("b")]),
    Row("an id without a colon unsets it", b"id: 1\ndata: a\n\nid\ndata: b\n\n", [event("a", "1"), event("b")]),
    Row(
        "an id with NUL is ignored",
        b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n",
        [event("a", "1"), event("b", "1")],
        "1",
    ),
    Row("NUL in data is data", b"data: a\x00b\n\n", [event("a\x00b")]),
    Row(
        "ids are sent as UTF-8",
        "id: ä€\ndata: a\n\n".encode(),
        [event("a", "ä€")],
        "ä€".encode().decode("latin-1"),
    ),
    Row("an id of spaces", b"id:   x \ndata: a\n\n", [event("a", "  x ")], "x"),
    # the end of the stream
    Row("an event without its blank line is dropped", b"data: a\n\ndata: b\n", [event("a")]),
    Row("an event without its line end is dropped", b"data: a\n\ndata: b", [event("a")]),
    Row("its id is dropped too", b"id: 1\ndata: a\n\nid: 2\ndata: b\n", [event("a", "1")], "1"),
    Row("its type is dropped too", b"data: a\n\nevent: x\n", [event("a")]),
]

# Values of retry, and the reconnection time after them, if it was 77 before: digits only (9.2.6).
RETRIES = [
    (b"5", 5), (b"0", 0), (b"0012", 12), (b"", 77), (b"5s", 77), (b"-5", 77), (b"+5", 77), (b"1.5", 77),
    (b"1e3", 77), (b"0x10", 77), (b" 5", 77), (b"5 ", 77), ("٣".encode(), 77), ("²".encode(), 77), (b"1_0", 77),
]  # fmt: skip

# Content types, and whether each is an event stream (9.2.3).
CONTENT_TYPES = [
    ("text/event-stream", True),
    ("text/event-stream;charset=utf-8", True),
    ("text/event-stream; charset=UTF-8", True),
    ("Text/Event-STREAM", True),
    ("text/event-stream; foo=bar", True),
    ("text/event-stream ;charset=utf-8", True),
    ("text/event-stream;charset=windows-1252", True),
    ("text/html", False),
    ("text/event-streams", False),
    ("text/plain; text/event-stream", False),
    ("application/event-stream", False),
    ("x text/event-stream", False),
]


class TableTest(unittest.TestCase):
    def read(self, body: tuple[bytes, ...], row: Row) -> None:
        with ScriptedServer(pieces(*body)) as server, EventSource(server.url, **FAST) as source:  # type: ignore[arg-type]
            self.assertEqual(list(source), row.events)
            self.assertEqual(server.requests[1].fields.get("last-event-id"), row.resumed)

    def test_whole(self) -> None:
        for row in TABLE:
            with self.subTest(row.rule):
                self.read((head(), row.body), row)

    def test_byte_by_byte_in_chunks(self) -> None:
        for row in TABLE:
            with self.subTest(row.rule):
                chunks = (chunk(bytes([byte])) for byte in row.body)
                self.read(
                    (head("200 OK", "text/event-stream", "Transfer-Encoding: chunked"), *chunks, chunk(b"")), row
                )


class ReconnectionTimeTest(unittest.TestCase):
    def test_digits_only(self) -> None:
        for value, expected in RETRIES:
            with self.subTest(value=value):
                waits: list[float] = []
                body = b"retry: 77\nretry: " + value + b"\n\n"
                server = enter(self, ScriptedServer(stream(body)))
                list(EventSource(server.url, on_retry=lambda _, seconds: waits.append(seconds)))  # noqa: B023
                self.assertEqual(waits, [expected / 1000])

    def test_it_outlives_the_connection(self) -> None:
        waits: list[float] = []
        server = enter(self, ScriptedServer(stream(b"retry: 2\ndata: a\n\n"), stream(b"data: b\n\n")))
        source = EventSource(server.url, on_retry=lambda _, seconds: waits.append(seconds))
        self.assertEqual([each.data for each in source], ["a", "b"])
        self.assertEqual(waits, [0.002, 0.002])

    def test_it_counts_at_its_line_and_needs_no_blank_line(self) -> None:
        waits: list[float] = []
        server = enter(self, ScriptedServer(stream(b"retry: 3\n")))
        self.assertEqual(list(EventSource(server.url, on_retry=lambda _, seconds: waits.append(seconds))), [])
        self.assertEqual(waits, [0.003])


class LastEventIDTest(unittest.TestCase):
    def test_the_first_request_has_none(self) -> None:
        server = enter(self, ScriptedServer())
        self.assertEqual(list(EventSource(server.url)), [])
        self.assertNotIn("last-event-id", server.requests[0].fields)
        fields = {name: server.requests[0].fields[name] for name in ("accept", "cache-control")}
        self.assertEqual(fields, {"accept": "text/event-stream", "cache-control": "no-cache"})

    def test_events_without_an_id_have_that_of_the_last_connection(self) -> None:
        bodies = (
            stream(b"id: 7\ndata: a\n\n"),
            stream(b"data: b\n\n"),
            stream(b"id\ndata: c\n\n"),
            stream(b"data: d\n\n"),
        )
        server = enter(self, ScriptedServer(*bodies))
        events = [(each.data, each.last_event_id) for each in EventSource(server.url, **FAST)]  # type: ignore[arg-type]
        self.assertEqual(events, [("a", "7"), ("b", "7"), ("c", ""), ("d", "")])
        sent = [request.fields.get("last-event-id") for request in server.requests]
        self.assertEqual(sent, [None, "7", "7", None, None])


class ContentTypeTest(unittest.TestCase):
    def test_essence_without_case_and_parameters(self) -> None:
        for content_type, is_stream in CONTENT_TYPES:
            with self.subTest(content_type):
                server = enter(self, ScriptedServer(pieces(head("200 OK", content_type), "data: ä\n\n".encode())))
                source = EventSource(server.url, **FAST)  # type: ignore[arg-type]
                if is_stream:
                    self.assertEqual([each.data for each in source], ["ä"])  # always UTF-8 (9.2.5)
                else:
                    with self.assertRaises(StreamRefused) as caught:
                        next(source)
                    self.assertEqual((caught.exception.status, caught.exception.content_type), (200, content_type))


if __name__ == "__main__":
    unittest.main()
