"""Opens many streams at once: connects, checks the head of each response, waits for its first bytes."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import Any, Protocol

from .errors import CannotBench

# How many connections may wait for their first bytes at once. More would overflow the listen queue of servers
# (node and nginx: 511). The kernel repeats a dropped SYN after a second, so its timer would be measured.
WINDOW = 256

# Bytes. It is so small that a server soon has to buffer the bytes that a stalled client does not read.
_STALLED_BUFFER = 4096

# A longer head is invalid.
_LONGEST_HEAD = 65_536

# Some servers send nothing after the head until there is an event.
_SILENT_SECONDS = 1.0

_NO_ANSWER_SECONDS = 15.0


class StreamHolder(Protocol):
    """The object that gets the streams once they are open."""

    poller: Any
    streams: dict[int, Any]
    stalled: list[Any]
    ended: int

    def take(self, descriptor: int, received: bytes) -> None:
        """Count the bytes that a stream has received."""


class StreamOpener:
    """Executes one order to open streams.

    :param holder: gets the streams.
    :param count: how many streams.
    :param stalled: how many of them are never read; they are spread evenly among the others.
    :param family: the address family, as in the socket module.
    :param address: the address of the server.
    :param heads: the heads of requests, used in turn.
    :param first: the number of the head to begin with.
    :param step: the distance to the next head.
    :param rate: how many connections a second; ``None``: as fast as possible.
    :param window: how many connections may wait for an answer at once.
    """

    def __init__(
        self,
        holder: StreamHolder,
        *,
        count: int,
        stalled: int,
        family: int,
        address: list[Any],
        heads: list[str],
        first: int,
        step: int,
        rate: float | None,
        window: int,
    ) -> None:
        self._holder = holder
        self._count = count
        self._stalled = stalled
        self._family = family
        self._address = tuple(address)
        self._heads = [head.encode("ascii") for head in heads]
        self._first = first
        self._step = step
        self._rate = rate
        self._window = window
        self._begun = 0
        # no answer yet: connection, request, is it stalled
        self._sent: dict[int, tuple[socket.socket, bytes, bool]] = {}
        self._connecting: set[int] = set()
        self._answers: dict[int, bytes] = {}
        self._silent: dict[int, socket.socket] = {}  # a head came, but no body yet
        self.first_ns = time.monotonic_ns()
        self.last_ns = self.first_ns
        self.opened = 0

    @property
    def done(self) -> bool:
        """Whether every stream is open, or was open and has ended."""
        return self.opened >= self._count

    def go_on(self, now: float) -> None:
        """Open as many connections as the window and the rate allow."""
        while self._begun < self._count and len(self._sent) < self._window:
            due = self.first_ns + self._begun * 1e9 / self._rate if self._rate else 0
            if time.monotonic_ns() < due:
                break
            self._begin()
        waited = now - self.last_ns / 1e9
        if not self._sent and self._silent and self.opened + len(self._silent) == self._count:
            if waited > _SILENT_SECONDS:
                for descriptor, connection in self._silent.items():
                    self._holder.streams[descriptor] = connection
                self.opened = self._count
        elif waited > _NO_ANSWER_SECONDS and self._sent:
            raise CannotBench(
                f"{self.opened} of {self._count} streams are open, the others get no answer; check the server's "
                "limits: threads, connections (gunicorn: --threads, --worker-connections), open files (ulimit -n)"
            )

    def _begin(self) -> None:
        number = self._begun
        stalled = (number + 1) * self._stalled // self._count > number * self._stalled // self._count
        request = self._heads[(self._first + number * self._step) % len(self._heads)]
        if number == 0:
            self.first_ns = self.last_ns = time.monotonic_ns()
        try:
            connection = socket.socket(self._family, socket.SOCK_STREAM)
            connection.setblocking(False)
            if stalled:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STALLED_BUFFER)
            status = connection.connect_ex(self._address)
        except OSError as error:
            raise self._failed(f"cannot connect ({error})") from None
        if status not in (0, errno.EINPROGRESS):
            connection.close()
            if status == errno.EADDRNOTAVAIL:
                raise self._failed("no free port is left on this side; widen net.ipv4.ip_local_port_range")
            raise self._failed(f"cannot connect ({os.strerror(status)})")
        self._begun += 1
        self._sent[connection.fileno()] = (connection, request, stalled)
        # On the loopback interface the connection is mostly established by now.
        self._send(connection, request)
        waits = connection.fileno() in self._connecting
        self._holder.poller.register(connection.fileno(), select.POLLOUT if waits else select.POLLIN)

    def _send(self, connection: socket.socket, request: bytes) -> None:
        try:
            connection.send(request)
            self._connecting.discard(connection.fileno())
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOTCONN):
                raise self._failed(f"cannot connect ({os.strerror(error.errno or 0)})") from None
            self._connecting.add(connection.fileno())

    def ready(self, descriptor: int) -> None:
        """A connection is established, or has received bytes."""
        if descriptor in self._silent:
            self._read(descriptor, self._silent[descriptor])
            return
        connection, request, stalled = self._sent[descriptor]
        if descriptor in self._connecting:
            self._send(connection, request)
            if descriptor not in self._connecting:
                self._holder.poller.modify(descriptor, select.POLLIN)
        elif stalled:
            del self._sent[descriptor]
            self._holder.poller.unregister(descriptor)
            self._holder.stalled.append(connection)
            self._opened()
        else:
            self._read(descriptor, connection)

    def _read(self, descriptor: int, connection: socket.socket) -> None:
        try:
            received = connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if descriptor in self._sent:
            answer = self._answers.pop(descriptor, b"") + received
            head, end, body = answer.partition(b"\r\n\r\n")
            if not end:
                if not received:
                    raise self._failed("the server closed the connection without an answer")
                if len(answer) > _LONGEST_HEAD:
                    raise self._failed("the head of the answer does not end")
                self._answers[descriptor] = answer
                return
            self._check(head)
            del self._sent[descriptor]
            self._silent[descriptor] = connection
            self.last_ns = time.monotonic_ns()
            if not body:
                return
            received = body
        del self._silent[descriptor]
        if received:
            self._holder.streams[descriptor] = connection
            self._holder.take(descriptor, received)
        else:
            self._holder.poller.unregister(descriptor)
            connection.close()
            self._holder.ended += 1
        self._opened()

    def _opened(self) -> None:
        self.opened += 1
        self.last_ns = time.monotonic_ns()

    def _check(self, head: bytes) -> None:
        status, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
        words = status.split(" ", 2)
        if not status.startswith("HTTP/1.") or len(words) < 2:
            raise self._failed("the server does not speak HTTP/1.1")
        if words[1] != "200":
            where = f" to {fields['location']}" if "location" in fields else ""
            raise self._failed(f"the server answers {' '.join(words[1:])}{where}")
        kind = fields.get("content-type", "nothing")
        if not kind.lower().startswith("text/event-stream"):
            raise self._failed(f"the server answers {kind}, which is not an event stream (text/event-stream)")

    def _failed(self, why: str) -> CannotBench:
        return CannotBench(f"stream {self.opened + 1} of {self._count}: {why}")
