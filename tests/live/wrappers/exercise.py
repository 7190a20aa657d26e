"""The scenarios of a wrapped stream; each raises an ``AssertionError`` where a client sees something wrong."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sse_threaded.log import EventLog
from sse_threaded.testing import StreamEnded
from sse_threaded.testing.response_reader import ResponseReader
from tests.live.wrappers.servers import Client, Running
from tests.support import wait_until

BURST = 50
_BACKLOG = "backlog"  # the channel that streams of :meth:`Exercise.let_go` have beside their own
_BACKLOG_EVENTS = 200  # a page of the log
_SMALL = 4096  # a receive buffer that is full soon


def _same(data: str) -> str:
    return data


def _without_admin(data: str) -> str | None:
    return None if "for:admin" in data else data


def _redacted(data: str) -> str:
    return data.replace("secret", "******")


@dataclass(frozen=True)
class Wrapper:
    """A wrapper of the app's.

    :ivar name: its path.
    :ivar change: gives an event's data as a client sees it, ``None`` if it does not see the event.
    :ivar passes_preface: clients get the stream's first bytes at once.
    :ivar holds_back: it gives an event when the next chunk comes, where chunks come only with bytes.
    :ivar ends: it ends the stream after ``[DONE]``; ``complete`` says whether as HTTP does.
    :ivar zipped: it encodes.
    """

    name: str
    change: Callable[[str], str | None] = _same
    passes_preface: bool = True
    holds_back: bool = False
    ends: bool = False
    complete: bool = True
    zipped: bool = False


WRAPPERS = (
    Wrapper("bare"),
    Wrapper("for_admin", _without_admin),
    Wrapper("redacting", _redacted),
    Wrapper("until_done", ends=True),
    Wrapper("yielding_from"),
    Wrapper("plain_for"),
    Wrapper("with_close"),
    Wrapper("in_a_circle"),
    Wrapper("chained"),
    Wrapper("mapped"),
    Wrapper("positive", passes_preface=False),
    Wrapper("raising", ends=True, complete=False),
    Wrapper("closing_at_end"),
    Wrapper("two_for_one"),
    Wrapper("one_for_two", holds_back=True),
    Wrapper("looking_ahead", holds_back=True),
    Wrapper("padding"),
    Wrapper("slow"),
    Wrapper("peeking"),
    Wrapper("closing"),
    Wrapper("prefetching"),
    Wrapper("middleware", _redacted),
    Wrapper("encoding", zipped=True),
    Wrapper("flask_after_request", _without_admin),
    Wrapper("flask_with_context", _redacted),
    Wrapper("flask_positive", passes_preface=False),
    Wrapper("flask_bare"),
    Wrapper("flask_proxied"),
    Wrapper("bottle"),
    Wrapper("django_bare"),
    Wrapper("django_replacing", _redacted),
)


class _UnzippingReader(ResponseReader):
    def __init__(self) -> None:
        super().__init__()
        self._coder = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> bytes:
        return self._coder.decompress(super().feed(data))


def publish_backlog(log: EventLog) -> str:
    """Publish what :meth:`Exercise.let_go` replays, once for all wrappers; returns the id before it.

    A server of the wrappers has many hubs, and each of them reads every event.
    """
    before = log.last_event_id()
    with log.transaction() as transaction:
        for number in range(_BACKLOG_EVENTS):
            transaction.append(_BACKLOG, f"for:{'all' if number % 5 else 'admin'} {number} secret")
    return before


class Exercise:
    """One wrapper on one server.

    :param running: the server.
    :param log: its log, opened here too.
    :param wrapper: which.
    :param before: the id before the backlog, which :meth:`let_go` needs.
    """

    def __init__(self, running: Running, log: EventLog, wrapper: Wrapper, before: str = "") -> None:
        self.running = running
        self.log = log
        self.wrapper = wrapper
        self.before = before
        self.count = 0

    def connect(
        self, kind: str, scenario: str, *, also: str = "", last_event_id: str | None = None, **options: Any
    ) -> Client:
        target = f"/{self.wrapper.name}?hub={kind}&channel={self.channel(scenario)}"
        if also:
            target += f"&channel={also}"
        client = self.running.client(target, last_event_id=last_event_id, **options)
        if self.wrapper.zipped:
            client.interpret(_UnzippingReader())
        return client

    def channel(self, scenario: str) -> str:
        return f"{scenario}-{self.wrapper.name}"

    def publish(self, scenario: str, number: int = 1, *, last: str = "") -> list[tuple[str, str]]:
        """Publish some in one transaction; returns the ids and data that a client must see."""
        expected = []
        with self.log.transaction() as transaction:
            for index in range(number):
                self.count += 1
                whom = "admin" if self.count % 5 == 0 else "all"
                data = f"for:{whom} {self.count} secret{last if index == number - 1 else ''}"
                event_id = transaction.append(self.channel(scenario), data)
                changed = self.wrapper.change(data)
                if changed is not None:
                    expected.append((event_id, changed))
        return expected

    def streams(self, kind: str) -> int:
        return self.running.streams().get(f"{kind} {self.wrapper.name}", 0)

    def events(self, client: Client, count: int) -> list[tuple[str, str]]:
        return [(event.last_event_id, event.data) for event in client.events(count)]

    # The scenarios.

    def obeyed(self) -> None:
        """Every event that the wrapper lets through comes once and in order, at once; and again by replay."""
        wrapper = self.wrapper
        # Where a wrapper holds an event back until another chunk comes, heartbeats bring it.
        kind = "beating" if wrapper.holds_back else "quiet"
        start = self.log.last_event_id()
        expected: list[tuple[str, str]] = []
        with (
            self.connect(kind, "obeyed", last_event_id=start)
            if wrapper.passes_preface
            else self._silent(kind, start, expected) as client
        ):
            if wrapper.passes_preface:
                client.wait_for(lambda: b"5000" in client.raw, what="the preface")
            seen = []
            for number in (BURST, 1, 1, BURST):
                new = self.publish("obeyed", number)
                if number == 1 and not new:
                    new = self.publish("obeyed", 1)
                expected += new
                seen += self.events(client, len(expected) - len(seen))
            _compare(expected, seen)
            if wrapper.ends:
                expected += self.publish("obeyed", 3, last="[DONE]")
                self.publish("obeyed", 2)
                client.wait_for_end()
                seen += [(event.last_event_id, event.data) for event in client.pending()]
                _compare(expected, seen)
                _equal(client.complete, wrapper.complete, "complete")
        middle, rest = expected[9][0], expected[10:]
        with self.connect(kind, "obeyed", last_event_id=middle) as client:
            seen = self.events(client, len(rest))
            if not wrapper.ends:
                more = self.publish("obeyed", 1) or self.publish("obeyed", 1)
                seen += self.events(client, len(more))
                rest += more
            _compare(rest, seen)

    def _silent(self, kind: str, start: str, expected: list[tuple[str, str]]) -> Client:
        # Not even the head comes before the first event.
        expected += self.publish("obeyed", 1)
        return self.connect(kind, "obeyed", last_event_id=start)

    def let_go(self) -> None:
        """Whenever its client leaves, its stream is not counted any more, and others find room."""
        for moment in ("at once", "after the first", "with a reset", "in a replay", "after some", "at once"):
            if moment == "at once":
                client = self.connect("few", "gone", also=_BACKLOG)
                client.timeout = 0.001
                with contextlib.suppress(AssertionError, OSError):
                    client.open()
            elif moment == "in a replay":
                client = self._admitted(self.before, receive_buffer=_SMALL)
            elif moment == "after some":
                client = self._admitted(self.before)
                client.events(7)
            elif self.wrapper.passes_preface:
                client = self._admitted(None)
            else:
                continue
            if moment == "with a reset":
                client.abort()
            client.close()
            wait_until(self._is_free, timeout=20, message=f"the end of one that left {moment}")
        wait_until(self._is_free, timeout=20, message="the end of all")

    def _admitted(self, last_event_id: str | None, **options: Any) -> Client:
        """A client with a stream; one that left may have a place until the server notices."""
        admitted: list[Client] = []

        def comes() -> bool:
            client = self.connect("few", "gone", also=_BACKLOG, last_event_id=last_event_id, **options)
            client.timeout = 60  # waitress's main thread polls without a pause while a client that left has a task
            client.open()
            with contextlib.suppress(StreamEnded):
                client.wait_for(lambda: b"retry: " in client.raw or b"id: " in client.raw, what="the first bytes")
                if b"unavailable" not in client.raw:
                    admitted.append(client)
                    return True
            client.close()
            self._is_free()
            return False

        wait_until(comes, timeout=60, message="a stream")
        return admitted[0]

    def _is_free(self) -> bool:
        if not self.wrapper.passes_preface:
            self.publish(
                "gone"
            )  # a server that does not see a hang-up finds out with a write, and no heartbeat comes
        return self.streams("few") == 0

    def ended(self) -> None:
        """At its lease's end, and where the wrapper ends it, the response ends, and the stream is closed."""
        start = self.log.last_event_id()
        self.publish("ended", 20, last="[DONE]" if self.wrapper.ends else "")
        with self.connect("short", "ended", last_event_id=start) as client:
            client.wait_for_end()
            _equal(client.complete, self.wrapper.complete, "complete")
        wait_until(lambda: self.streams("short") == 0, timeout=20, message="no stream")


def _compare(expected: list[tuple[str, str]], seen: list[tuple[str, str]]) -> None:
    if expected != seen:
        lost = [data for data in expected if data not in seen]
        raise AssertionError(
            f"lost {lost}, doubled or more {[data for data in seen if seen.count(data) > 1]}, {seen}"
        )


def _equal(seen: object, expected: object, what: str) -> None:
    if seen != expected:
        raise AssertionError(f"{what}: {seen!r}, not {expected!r}")
