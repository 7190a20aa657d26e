"""A process that holds streams and counts what they receive: ``python -m sse_threaded.bench.reader``.

:mod:`.load` starts it and sends it orders (:mod:`.load_process`). It has one thread with one poll loop. A delivery
costs one read, one comparison and one subtraction: bytes equal to those of the stream before are not searched
again.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

from ..protocol.event import NOTICE_PREFIX
from .errors import CannotBench
from .file_limit import raise_file_limit
from .latencies import Latencies
from .load_process import send_to_parent
from .stream_opener import StreamOpener
from .timestamps import LENGTH, pattern

_READ = 1 << 16

# The end of an event, alone and at the end of a chunk. Only bytes without this end may end inside a stamp.
_ENDS = (b"\n\n", b"\n\n\r\n")

# The end of a body. The server may leave the connection open after it.
_LAST_CHUNK = b"\r\n0\r\n\r\n"

# Where there are no stamps, lines of data are counted. Not counted are the lines of events that a stream of this
# package sends about itself.
_DATA_LINE = b"data:"
_NOTICE_LINE = b"event: " + NOTICE_PREFIX.encode()

_PROGRESS_SECONDS = 0.1

# SO_TIMESTAMPNS of Linux, which the socket module does not define, and the size of its message, a timespec.
_TIMESTAMPS = 35
_TIMESTAMP_ROOM = socket.CMSG_SPACE(16)


class Reader:
    """The streams of one process, and the figures since the last order to count from zero.

    :ivar deliveries: how many deliveries.
    :ivar last_ns: the time of the last delivery (monotonic nanoseconds).
    """

    def __init__(self) -> None:
        self._is_epoll = hasattr(select, "epoll")
        self.poller: Any = select.epoll() if self._is_epoll else select.poll()
        self.streams: dict[int, Any] = {}  # streams that are read, by descriptor
        self.stalled: list[Any] = []  # sockets that are never read
        self.ended = 0
        self._tails: dict[int, bytes] = {}
        self._counted = _DATA_LINE
        self._find: Callable[[bytes], list[bytes]] | None = None  # only where latencies are measured
        self._pause = 0.0
        self._arrivals: int | None = None
        # The bytes that the stream before received, with their deliveries and stamps. The next stream mostly
        # receives the same bytes.
        self._known, self._each, self._stamps = b"", 0, list[int]()
        self._tail = len(_DATA_LINE) - 1  # the longest incomplete piece of a counted mark
        self._opener: StreamOpener | None = None
        self._until: dict[str, Any] | None = None
        self._rest = b""
        self._progress_sent = 0.0
        self._mark()

    def _mark(self) -> None:
        self.deliveries = 0
        self.bytes = 0
        self.last_ns = 0
        self._late: array[int] = array("q")
        self._marked = (time.monotonic_ns(), time.process_time_ns())

    def set_mark(self, mark: str, *, timed: bool, pause: float = 0.0) -> None:
        """Count from zero.

        :param mark: the beginning of all stamps; empty: count lines of data.
        :param timed: whether to measure latencies.
        :param pause: seconds between two rounds of reading; default 0. With a pause, the time of a delivery is the
            time at which the kernel received it, where the kernel reports it (Linux).
        """
        self._mark()
        self._arrivals = self._ask_for_arrivals() if pause else None
        self._counted = mark.encode() or _DATA_LINE
        self._find = pattern(mark).findall if mark and timed else None
        self._tail = (LENGTH if self._find else len(self._counted)) - 1
        self._pause = pause
        self._known, self._each, self._stamps = b"", 0, []
        self._tails.clear()

    def _ready(self) -> list[tuple[int, int]]:
        if self._is_epoll:  # by default it returns few events at a time
            found: list[tuple[int, int]] = self.poller.poll(_PROGRESS_SECONDS, len(self.streams) + 1000)
        else:
            found = self.poller.poll(_PROGRESS_SECONDS * 1000)
        return found

    def _ask_for_arrivals(self) -> int | None:
        """Return the offset of the kernel's clock; ``None`` if the kernel reports no times."""
        if sys.platform != "linux":
            return None
        try:
            for stream in self.streams.values():
                stream.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
            has_times = _has_arrival_times()
        except OSError:
            has_times = False
        return time.time_ns() - time.monotonic_ns() if has_times else None

    def run(self) -> None:
        """Run until standard input ends."""
        stdin = sys.stdin.fileno()
        self.poller.register(stdin, select.POLLIN)
        while True:
            if self._pause:
                time.sleep(self._pause)
            for descriptor, _ in self._ready():
                if descriptor in self.streams:
                    self.receive(descriptor)
                elif descriptor == stdin:
                    received = os.read(stdin, _READ)
                    if not received:
                        return
                    *lines, self._rest = (self._rest + received).split(b"\n")
                    for line in lines:
                        self.obey(json.loads(line))
                elif self._opener is not None:
                    self._opener.ready(descriptor)
            self._continue()

    def receive(self, descriptor: int) -> None:
        """Read from a stream."""
        arrived = None
        try:
            if self._arrivals is None:
                received = os.read(descriptor, _READ)
            else:
                received, messages, _, _ = self.streams[descriptor].recvmsg(_READ, _TIMESTAMP_ROOM)
                arrived = next((_nanoseconds(data) - self._arrivals for _, _, data in messages), None)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if received:
            self.take(descriptor, received, arrived)
        else:
            self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        self.poller.unregister(descriptor)
        self.streams.pop(descriptor).close()
        self._tails.pop(descriptor, None)
        self.ended += 1

    def take(self, descriptor: int, received: bytes, arrived: int | None = None) -> None:
        """Count what a stream has received.

        :param arrived: the time (monotonic nanoseconds); ``None``, the default: now.
        """
        now = arrived or time.monotonic_ns()
        self.bytes += len(received)
        if self._tails:
            received = self._tails.pop(descriptor, b"") + received
        if received != self._known:
            self._known = received
            self._each = received.count(self._counted)
            if self._counted is _DATA_LINE:
                self._each -= received.count(_NOTICE_LINE)
            if self._find:
                self._stamps = [int(digits, 16) for digits in self._find(received)]
                self._each = len(self._stamps)
        if self._each:
            self.deliveries += self._each
            self.last_ns = max(self.last_ns, now)
            if self._find:
                self._late.extend([now - stamp for stamp in self._stamps])
        if not received.endswith(_ENDS):
            if received.endswith(_LAST_CHUNK) or received == _LAST_CHUNK[2:]:
                self._end(descriptor)
                return
            self._tails[descriptor] = received[-self._tail :]

    def obey(self, order: dict[str, Any]) -> None:
        """Begin to execute an order of the parent."""
        match order.pop("do"):
            case "open":
                raise_file_limit(order["count"] + len(self.streams) + len(self.stalled) + 64)
                self._mark()
                self._pause, self._arrivals = 0.0, None
                self._opener = StreamOpener(self, **order)
            case "mark":
                self.set_mark(order["mark"], timed=order["timed"], pause=order["pause"])
                send_to_parent(open=len(self.streams))
            case "until":
                now = time.monotonic()
                self._until = {**order, "since": now, "seen": self.deliveries, "moved": now}
            case "close":
                for stream in (*self.streams.values(), *self.stalled):
                    stream.close()
                self.streams, self.stalled, self._tails = {}, [], {}
                send_to_parent()

    def _continue(self) -> None:
        """Continue with the order, and answer when it is done."""
        now = time.monotonic()
        opening, until = self._opener, self._until
        if opening is not None:
            opening.go_on(now)
            if opening.done:
                self._opener = None
                send_to_parent(first=opening.first_ns, last=opening.last_ns, **self._figures())
        if until is not None:
            if self.deliveries != until["seen"]:
                until["seen"], until["moved"] = self.deliveries, now
            enough = until["total"] is not None and self.deliveries >= until["total"]
            quiet = until["quiet"] is not None and now - until["moved"] > until["quiet"]
            late = until["seconds"] is not None and now - until["since"] > until["seconds"]
            if enough or quiet or late:
                self._until = None
                send_to_parent(last=self.last_ns, **self._figures())
        if now - self._progress_sent > _PROGRESS_SECONDS and (self._opener or self._until):
            self._progress_sent = now
            send_to_parent(progress=self._opener.opened if self._opener else self.deliveries)

    def _figures(self) -> dict[str, Any]:
        wall, processor = self._marked
        return {
            "open": len(self.streams) + len(self.stalled),
            "ended": self.ended,
            "deliveries": self.deliveries,
            "bytes": self.bytes,
            "wall_ns": time.monotonic_ns() - wall,
            "cpu_ns": time.process_time_ns() - processor,
            "latencies": Latencies.of(self._late).counts,
        }


def _has_arrival_times() -> bool:
    """Wait until the kernel records when packets come. It begins a moment after the request."""
    deadline = time.monotonic() + 2.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        probe.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
        probe.settimeout(1.0)
        while time.monotonic() < deadline:
            probe.sendto(b"x", probe.getsockname())
            time.sleep(0.01)
            read = time.time_ns()  # if the kernel has recorded no time, it returns the time of reading
            if any(_nanoseconds(data) < read for _, _, data in probe.recvmsg(1, _TIMESTAMP_ROOM)[1]):
                return True
    return False


def _nanoseconds(timestamp: bytes) -> int:
    seconds, nanoseconds = struct.unpack("qq", timestamp)
    return int(seconds * 1_000_000_000 + nanoseconds)


def main() -> None:
    """Execute the orders of the parent, and send it the errors."""
    try:
        Reader().run()
    except CannotBench as error:
        send_to_parent(error=str(error))
    except BrokenPipeError:
        pass  # the parent has ended


if __name__ == "__main__":
    main()
