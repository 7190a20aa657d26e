"""The event as a value and as bytes, against WHATWG HTML 9.2.5 and 9.2.6."""

import dataclasses
import unittest

from sse_threaded import InvalidEvent, ServerSentEvent, comment
from sse_threaded.protocol.decoder import EventStreamDecoder
from sse_threaded.protocol.event import START, notice

# What is made, its bytes, and what a reader dispatches: (data, event, last event ID), None for nothing.
WIRE = [
    ({"data": "hello"}, b"data: hello\n\n", ("hello", "message", "")),
    ({"data": ""}, b"data: \n\n", ("", "message", "")),
    ({"data": " leading space"}, b"data:  leading space\n\n", (" leading space", "message", "")),
    ({"data": "a\nb"}, b"data: a\ndata: b\n\n", ("a\nb", "message", "")),
    ({"data": "a\rb"}, b"data: a\ndata: b\n\n", ("a\nb", "message", "")),
    ({"data": "a\r\nb"}, b"data: a\ndata: b\n\n", ("a\nb", "message", "")),
    ({"data": "a\n\rb"}, b"data: a\ndata: \ndata: b\n\n", ("a\n\nb", "message", "")),
    ({"data": "a\n"}, b"data: a\ndata: \n\n", ("a\n", "message", "")),
    ({"data": "\n"}, b"data: \ndata: \n\n", ("\n", "message", "")),
    ({"data": "data: x\n\nid: 9"}, b"data: data: x\ndata: \ndata: id: 9\n\n", ("data: x\n\nid: 9", "message", "")),
    ({"data": ":not a comment"}, b"data: :not a comment\n\n", (":not a comment", "message", "")),
    ({"data": "\ufeffmark"}, "data: \ufeffmark\n\n".encode(), ("\ufeffmark", "message", "")),
    ({"data": "\x00\x0b\x0c\x1c\x85\u2028\u2029"}, None, ("\x00\x0b\x0c\x1c\x85\u2028\u2029", "message", "")),
    ({"data": "grüße 日本 🎉"}, "data: grüße 日本 🎉\n\n".encode(), ("grüße 日本 🎉", "message", "")),
    ({"data": "x", "event": "reset"}, b"event: reset\ndata: x\n\n", ("x", "reset", "")),
    ({"data": "x", "event": " odd : name"}, b"event:  odd : name\ndata: x\n\n", ("x", " odd : name", "")),
    ({"data": "x", "id": "kx-7"}, b"data: x\nid: kx-7\n\n", ("x", "message", "kx-7")),
    ({"data": "x", "id": ""}, b"data: x\nid: \n\n", ("x", "message", "")),
    ({"data": "x", "id": "ü 1"}, "data: x\nid: ü 1\n\n".encode(), ("x", "message", "ü 1")),
    ({"id": "kx-7"}, b"id: kx-7\n\n", None),
    ({"retry": 5000}, b"retry: 5000\n\n", None),
    ({"retry": 0}, b"retry: 0\n\n", None),
    (
        {"data": "x", "event": "e", "id": "1", "retry": 10},
        b"event: e\nretry: 10\ndata: x\nid: 1\n\n",
        ("x", "e", "1"),
    ),
    ({"data": {"a": [1, None, "ü\n"]}}, '{"a":[1,null,"ü\\n"]}', ('{"a":[1,null,"ü\\n"]}', "message", "")),
    ({"data": 0}, b"data: 0\n\n", ("0", "message", "")),
    ({"data": False}, b"data: false\n\n", ("false", "message", "")),
    ({"data": []}, b"data: []\n\n", ("[]", "message", "")),
    ({}, b"\n", None),
]

INVALID = [
    *(("event", {"data": "x", "event": value}) for value in ("a\nb", "a\rb", "a\r\ndata: y", "\n", "", 5, b"e")),
    *(("id", {"data": "x", "id": value}) for value in ("a\nb", "a\rb", "a\0b", "1\n\ndata: forged", 7, b"1")),
    *(("retry", {"retry": value}) for value in (-1, 1.5, "5000", True, "1\ndata: x", float("nan"))),
    *(("data", {"data": value}) for value in (b"bytes", {1, 2}, float("nan"), float("inf"), object(), "\ud800")),
    ("data", {"data": {"half": "\udc00"}}),
    ("event", {"event": "\ud800"}),
    ("id", {"id": "\ud800"}),
]


def decode(wire, size):
    decoder = EventStreamDecoder()
    return [
        (event.data, event.event, event.last_event_id)
        for start in range(0, len(wire), size)
        for event in decoder.feed(wire[start : start + size])
    ]


class WireTest(unittest.TestCase):
    def test_it_is_encoded_as_the_standard_says(self):
        for fields, wire, _ in WIRE:
            with self.subTest(fields=fields):
                if isinstance(wire, bytes):
                    self.assertEqual(ServerSentEvent(**fields).encode(), wire)
                elif wire is not None:
                    self.assertEqual(ServerSentEvent(**fields).encode(), f"data: {wire}\n\n".encode())

    def test_a_reader_gets_what_was_put_in_whole_and_byte_by_byte(self):
        for fields, _, dispatched in WIRE:
            wire = ServerSentEvent(**fields).encode()
            for size in (len(wire), 1, 2, 3):
                with self.subTest(fields=fields, size=size):
                    self.assertEqual(decode(wire, size), [dispatched] if dispatched else [])

    def test_events_in_a_row_stay_apart(self):
        wire = b"".join(ServerSentEvent(**fields).encode() for fields, _, _ in WIRE)
        expected = [data for _, _, dispatched in WIRE if dispatched for data in [dispatched[:2]]]
        for size in (len(wire), 1, 7):
            with self.subTest(size=size):
                self.assertEqual([event[:2] for event in decode(wire, size)], expected)

    def test_retry_and_id_reach_the_reader_without_data(self):
        decoder = EventStreamDecoder()
        self.assertEqual(decoder.feed(ServerSentEvent(retry=1234, id="kx-3").encode()), [])
        self.assertEqual((decoder.retry, decoder.last_event_id), (1234, "kx-3"))

    def test_the_id_comes_last_for_clients_that_take_it_at_its_line(self):
        wire = ServerSentEvent(id="kx-3", event="e", retry=1, data="two\nlines").encode()
        self.assertTrue(wire.endswith(b"data: two\ndata: lines\nid: kx-3\n\n"), wire)

    def test_a_notice_is_one_block_with_data_and_begins_with_the_reconnection_time(self):
        for event_id, line in (("kx-3", b"id: kx-3\n"), (None, b"")):
            wire = notice(START, 1234, event_id)
            self.assertEqual(wire, b"retry: 1234\nevent: stream-start\n" + line + b"data: {}\n\n")

    def test_a_comment_ends_no_block(self):
        # A blank line would be an empty event for readers that take each block for one.
        for text in ("", "heartbeat", "two\nlines"):
            self.assertEqual(EventStreamDecoder().feed(comment(text) + b"data: x\n\n")[0].data, "x")
            self.assertNotIn(b"\n\n", comment(text))

    def test_a_comment_is_skipped_whatever_it_says(self):
        for text in ("", "heartbeat", "data: forged\n\ndata: event", "a\r\nid: 7\rretry: 1"):
            with self.subTest(text=text):
                decoder = EventStreamDecoder()
                self.assertEqual(decoder.feed(comment(text)), [])
                self.assertEqual((decoder.last_event_id, decoder.retry), ("", None))
                self.assertGreaterEqual(decoder.comments, 1)


class ValueTest(unittest.TestCase):
    def test_what_would_break_the_framing_is_refused_and_the_field_is_named(self):
        for field, fields in INVALID:
            with self.subTest(fields=fields):
                with self.assertRaises(InvalidEvent) as caught:
                    ServerSentEvent(**fields)
                self.assertEqual(caught.exception.field, field)
                self.assertIn(field, str(caught.exception))

    def test_a_refusal_says_what_was_found(self):
        for event, words in (
            (7, "must be text, not int"),
            ("a\nb", r"'\\n' in 'a\\nb' would start another field"),
        ):
            with self.subTest(event=event), self.assertRaisesRegex(InvalidEvent, words):
                ServerSentEvent(data="x", event=event)

    def test_a_comment_with_half_a_character_is_refused(self):
        self.assertRaises(InvalidEvent, comment, "\ud800")

    def test_it_is_frozen_and_keyword_only(self):
        event = ServerSentEvent(data="x")
        with self.assertRaises(dataclasses.FrozenInstanceError):
            event.data = "y"
        self.assertRaises(TypeError, ServerSentEvent, "x")

    def test_data_reads_back_as_text(self):
        self.assertEqual(ServerSentEvent(data={"type": "x"}).data, '{"type":"x"}')

    def test_the_argument_is_not_mutated(self):
        data = {"a": [1]}
        ServerSentEvent(data=data).encode()
        self.assertEqual(data, {"a": [1]})

    def test_deep_nesting_is_refused_and_not_a_crash(self):
        nested = []
        for _ in range(100_000):
            nested = [nested]
        self.assertRaises(InvalidEvent, ServerSentEvent, data=nested)
