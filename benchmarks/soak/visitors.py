"""Visitors of every kind: fast ones, slow ones, rude ones. Each is a function that visits the server once."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

BIG = b"0123456789abcdef" * 65536  # a megabyte

# An answer that comes so many seconds later than it could is a stall.
STALL_SECONDS = 1.0

# Seconds until a visitor gives up.
_PATIENCE = 30.0

_HOST = "127.0.0.1"


class Broken(Exception):
    """The answer is wrong, or none came."""


@dataclass
class Tally:
    """The visits of one thread.

    :ivar visits: how many there were, by kind.
    :ivar broken: how many had a wrong answer or none, by kind, with the first few reasons.
    :ivar stalls: the answers that came late, with their seconds.
    :ivar slowest: the longest time beyond the time that the answer needs, in seconds.
    """

    visits: dict[str, int] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=dict)
    stalls: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def note(self, kind: str, seconds: float, needed: float) -> None:
        """Note the time of an answer."""
        extra = seconds - needed
        self.slowest = max(self.slowest, extra)
        if extra > STALL_SECONDS:
            self.stalls.append(f"{kind}: {extra:.2f} s at {time.strftime('%H:%M:%S')}")


class Visit:
    """One visit: a connection, and the helpers that the kinds share."""

    def __init__(self, port: int, kind: str, chance: random.Random, tally: Tally) -> None:
        self.port = port
        self.kind = kind
        self.chance = chance
        self.tally = tally

    def connect(self, buffer: int | None = None) -> socket.socket:
        """Connect; a refused connection is a broken visit."""
        sock = socket.socket()
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.settimeout(_PATIENCE)
        sock.connect((_HOST, self.port))
        return sock

    def ask(self, sock: socket.socket, request: bytes, expected: bytes, needed: float = 0.0) -> bool:
        """Send a request, read its answer, and compare the body; returns whether the connection will close."""
        begun = time.monotonic()
        sock.sendall(request)
        answer = read_answer(sock)
        self.tally.note(self.kind, time.monotonic() - begun, needed)
        if answer.status != 200 or answer.body != expected:
            raise Broken(f"{answer.status} {answer.body[:60]!r}")
        return answer.closes


def get(path: str, *fields: str) -> bytes:
    """The bytes of a GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


class Answer(NamedTuple):
    """An answer.

    :ivar closes: whether it says that the connection will close.
    :ivar rest: the bytes after it.
    """

    status: int
    body: bytes
    closes: bool
    rest: bytes


def read_answer(sock: socket.socket, received: bytes = b"") -> Answer:
    """Read one answer with a Content-Length."""
    while b"\r\n\r\n" not in received:
        received += _more(sock)
    head, _, body = received.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(fields.get(b"content-length", b"0"))
    while len(body) < length:
        body += _more(sock)
    return Answer(int(head[9:12]), body[:length], fields.get(b"connection") == b"close", body[length:])


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 16)
    if not data:
        raise ConnectionResetError("closed before the answer")
    return data


def _kept(visit: Visit) -> None:
    with visit.connect() as sock:
        for _ in range(visit.chance.randint(1, 40)):
            if visit.ask(sock, get("/soak/ok"), b"ok"):
                return
            time.sleep(visit.chance.random() * 0.05)


def _fresh(visit: Visit) -> None:
    with visit.connect() as sock:
        visit.ask(sock, get("/soak/ok", "Connection: close"), b"ok")
        if sock.recv(10):
            raise Broken("bytes after the answer")


def _sleeping(visit: Visit) -> None:
    wait = visit.chance.randint(20, 500)
    with visit.connect() as sock:
        visit.ask(sock, get(f"/soak/sleep/{wait}"), b"slept", wait / 1000)


def _computing(visit: Visit) -> None:
    wait = visit.chance.randint(5, 60)
    with visit.connect() as sock:
        # Several compute at the same time, on two cores and under one interpreter lock.
        visit.ask(sock, get(f"/soak/compute/{wait}"), b"computed", wait / 1000 * 8)


def _dripping(visit: Visit) -> None:
    request = get("/soak/ok")
    with visit.connect() as sock:
        for byte in request[:-1]:
            sock.send(bytes([byte]))
            time.sleep(visit.chance.random() * 0.04)
        visit.ask(sock, request[-1:], b"ok")


def _half(visit: Visit) -> None:
    request = get("/soak/ok", "X-Long: " + "y" * visit.chance.randint(1, 5000))
    with visit.connect() as sock:
        sock.sendall(request[: visit.chance.randrange(len(request))])
        time.sleep(visit.chance.random())
        if visit.chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset


def _silent(visit: Visit) -> None:
    with visit.connect():
        time.sleep(visit.chance.random() * 2)


def _uploading(visit: Visit) -> None:
    body = BIG[: visit.chance.randint(1, 300_000)]
    with visit.connect() as sock:
        sock.sendall(
            f"POST /soak/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        left = body
        while len(left) > 20_000:
            sock.sendall(left[:20_000])
            left = left[20_000:]
            time.sleep(visit.chance.random() * 0.05)
        visit.ask(sock, left, body)


def _pipelining(visit: Visit) -> None:
    count = visit.chance.randint(2, 10)
    with visit.connect() as sock:
        sock.sendall(get("/soak/ok") * count)
        rest = b""
        for _ in range(count):
            answer = read_answer(sock, rest)
            rest = answer.rest
            if (answer.status, answer.body) != (200, b"ok"):
                raise Broken(f"{answer.status} {answer.body[:60]!r}")
            if answer.closes:
                return


def _malformed(visit: Visit) -> None:
    with visit.connect() as sock:
        sock.sendall(b"POST /soak/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n")
        if read_answer(sock).status != 400:
            raise Broken("not refused")


def _reading_slowly(visit: Visit) -> None:
    count = visit.chance.randint(1, 3)
    with visit.connect(buffer=4096) as sock:
        sock.sendall(get(f"/soak/big/{count}"))
        time.sleep(visit.chance.random() * 2)
        if visit.chance.random() < 0.3:
            return  # and the server has sent only a part
        answer = read_answer(sock)
        if answer.status != 200 or answer.body != BIG * count:
            raise Broken(f"{answer.status}, {len(answer.body)} bytes")


def _streaming(visit: Visit) -> None:
    path = visit.chance.choice(["/boards/board-1/events", "/wrapped/boards/board-1/events"])
    with visit.connect() as sock:
        begun = time.monotonic()
        sock.sendall(get(path, "Accept: text/event-stream"))
        received = b""
        while b"data: " not in received:
            received += _more(sock)
        visit.tally.note(visit.kind, time.monotonic() - begun, 0.0)
        until = time.monotonic() + visit.chance.random() * 3
        sock.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < until and sock.recv(1 << 16):
                pass


def _storming(visit: Visit) -> None:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(visit.connect()) for _ in range(visit.chance.randint(10, 80))]
        for sock in socks:
            sock.sendall(get("/boards/board-1/events", "Accept: text/event-stream"))
        for sock in socks:
            if not _more(sock).startswith(b"HTTP/1.1 200 "):
                raise Broken("no stream")


KINDS: dict[str, Callable[[Visit], None]] = {
    "kept connections": _kept,
    "connections for one request": _fresh,
    "views that wait": _sleeping,
    "views that compute": _computing,
    "requests byte by byte": _dripping,
    "half a request, then a close or a reset": _half,
    "connections without a request": _silent,
    "slow uploads": _uploading,
    "pipelined requests": _pipelining,
    "malformed bodies": _malformed,
    "responses read slowly": _reading_slowly,
    "streams, bare and wrapped": _streaming,
    "many streams at once": _storming,
}
