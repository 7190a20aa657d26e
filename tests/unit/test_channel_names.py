"""The field "channel", for clients that ask for it by ``?withChannel=1``."""

from __future__ import annotations

import json
import threading
import unittest
from typing import Any

from werkzeug.test import EnvironBuilder

from sse_threaded import Hub
from sse_threaded.fanout.cursor import Cursor
from sse_threaded.fanout.extras import NO_EXTRAS, Extras
from sse_threaded.fanout.recent_events import RecentEvents
from sse_threaded.log.memory import MemoryLog
from sse_threaded.protocol.decoder import EventStreamDecoder

NAMES = ("a", "two words", 'with "quotes" and é', "a line\nand another", ":colon", "\u2028")


def environ(query: str, accept: str = "text/event-stream") -> dict[str, Any]:
    made = EnvironBuilder("/", query_string=query, headers={"Accept": accept}, multithread=True).get_environ()
    return {**made, "werkzeug.socket": None}


def channels_in(text: str) -> list[str | None]:
    """The value of each field "channel", or ``None`` for an event without one; notices are left out."""
    found: list[str | None] = []
    for block in text.split("\n\n")[:-1]:
        lines = block.split("\n")
        if any(line.startswith("event: stream-") for line in lines):
            continue
        values = [json.loads(line.removeprefix("channel: ")) for line in lines if line.startswith("channel: ")]
        found.append(values[0] if values else None)
    return found


class ChannelNamesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.hub = Hub(heartbeat=None)
        self.addCleanup(self.hub.close)

    def read(self, query: str, count: int) -> str:
        """The text of a stream, up to the block after which ``count`` blocks have come."""
        response = self.hub.stream(environ(query), NAMES, from_start=True)
        text = ""
        try:
            for chunk in response.response:
                assert isinstance(chunk, bytes)
                text += chunk.decode()
                if text.count("\n\n") >= count:
                    break
        finally:
            response.close()
        return text

    def publish(self) -> None:
        for name in NAMES:
            self.hub.publish(name, {"in": name}, "kind")

    def test_a_replayed_event_names_its_channel(self) -> None:
        self.publish()
        self.assertEqual(channels_in(self.read("withChannel=1", len(NAMES) + 1)), list(NAMES))

    def test_an_event_that_is_published_later_names_its_channel(self) -> None:
        publisher = threading.Timer(0.05, self.publish)
        publisher.start()
        self.addCleanup(publisher.join)
        self.assertEqual(channels_in(self.read("withChannel=1", len(NAMES) + 1)), list(NAMES))

    def test_others_get_the_same_bytes_as_ever(self) -> None:
        self.publish()
        for query in ("", "withChannel=0", "withChannel", "withChannel=", "other=withChannel"):
            with self.subTest(query=query):
                self.assertEqual(channels_in(self.read(query, len(NAMES) + 1)), [None] * len(NAMES))

    def test_readers_that_do_not_know_the_field_read_the_same_events(self) -> None:
        self.publish()
        texts = (self.read(query, len(NAMES) + 1) for query in ("", "withChannel=1"))
        plain, named = ([*EventStreamDecoder().feed(text.encode())] for text in texts)
        self.assertEqual(plain, named)

    def test_two_kinds_of_clients_of_the_same_channels_each_get_their_own(self) -> None:
        streams = {query: self.hub.stream(environ(query), NAMES) for query in ("", "withChannel=1")}
        found: dict[str, list[bytes]] = {query: [] for query in streams}
        for response in streams.values():
            self.addCleanup(response.close)
            next(iter(response.response))  # its first bytes: now it is subscribed, or is about to be

        def read(query: str) -> None:
            for chunk in streams[query].response:
                assert isinstance(chunk, bytes)
                found[query].append(chunk)
                if b"".join(found[query]).count(b"\n\n") >= len(NAMES):
                    return

        readers = [threading.Thread(target=read, args=[query], daemon=True) for query in streams]
        for reader in readers:
            reader.start()
        self.publish()
        for reader in readers:
            reader.join(10)
            self.assertFalse(reader.is_alive())
        self.assertEqual(channels_in(b"".join(found[""]).decode()), [None] * len(NAMES))
        self.assertEqual(channels_in(b"".join(found["withChannel=1"]).decode()), list(NAMES))

    def test_finished_channels_end_both_kinds(self) -> None:
        for query in ("", "withChannel=1"):
            with self.subTest(query=query):
                channel = f"job {query}"
                response = self.hub.stream(environ(query), channel)
                chunks = iter(response.response)
                next(chunks)
                finisher = threading.Timer(0.05, self.hub.finish, [channel])
                finisher.start()
                self.addCleanup(finisher.join)
                self.assertIn(b"stream-finished", b"".join(chunk for chunk in chunks if isinstance(chunk, bytes)))

    def test_a_long_poll_names_the_channels_as_asked(self) -> None:
        self.publish()
        for query, names in (("wait=0", [None] * len(NAMES)), ("wait=0&withChannel=1", list(NAMES))):
            with self.subTest(query=query):
                response = self.hub.stream(environ(query, "application/json"), NAMES, from_start=True)
                events = json.loads(response.get_data())["events"]
                self.assertEqual([event.get("channel") for event in events], names)


class ReplayFromMemoryTest(unittest.TestCase):
    def test_batches_of_both_kinds_are_kept_apart(self) -> None:
        log = MemoryLog()
        log.append("a", "1")
        recent = RecentEvents(log, 0)
        recent.fill(1)
        for _ in range(2):
            for extras in (NO_EXTRAS, Extras(channel=True), Extras(presence=True)):
                with self.subTest(extras=extras):
                    cursor = Cursor(log, ("a",), log.event_id(0))
                    cursor.extras = extras
                    wire = cursor.read_wire()
                    self.assertEqual(recent.batch_after(("a",), 0, extras)[0].body, wire)
                    self.assertEqual(b'channel: "a"\n' in wire, extras.channel)
