"""A process that publishes: ``python -m sse_threaded.bench.publisher``, run by :mod:`.load`.

One connection, one POST after the other, each answered before the next. A process of its own, so that no event
waits for the streams to be read.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

from .faults import CannotBench
from .pipes import say
from .stamps import stamp
from .target import CHANNEL, STAMP

_ANSWER_SECONDS = 30.0
_PROGRESS_SECONDS = 0.1
_READ = 65_536

# Of an error's body.
_SHOWN_BYTES = 300


class Connection:
    """A connection that is kept, and made anew when the server has closed it.

    :param family: the address's kind, as in the socket module.
    :param address: the server's.
    """

    def __init__(self, family: int, address: list[Any]) -> None:
        self._family = family
        self._address = tuple(address)
        self._socket: socket.socket | None = None

    def post(self, request: bytes) -> None:
        """Send a request and read its answer to the end.

        :raises CannotBench: there is none, or its status is not 2xx.
        """
        for is_new in (self._socket is None, True):
            try:
                head, body = self._exchange(request)
                break
            except (ConnectionError, EOFError) as error:
                # An idle connection may be closed by the server at any time.
                self.close()
                if is_new:
                    raise CannotBench(f"POST: the server closes the connection ({error})") from None
            except OSError as error:
                raise CannotBench(f"POST: no answer ({error})") from None
        status = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")[2]
        if not status.startswith("2"):
            said = body[:_SHOWN_BYTES].decode("utf-8", "replace").strip()
            raise CannotBench(f"POST: the server answers {status}: {said}")

    def _exchange(self, request: bytes) -> tuple[bytes, bytes]:
        if self._socket is None:
            self._socket = socket.socket(self._family, socket.SOCK_STREAM)
            self._socket.settimeout(_ANSWER_SECONDS)
            self._socket.connect(self._address)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._read()
        head, _, body = received.partition(b"\r\n\r\n")
        fields = head.lower()
        length = fields.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        close = b"\r\nconnection: close" in fields or head.startswith(b"HTTP/1.0")
        if length:
            while len(body) < int(length):
                body += self._read()
        elif b"\r\ntransfer-encoding: chunked" in fields:
            while body != b"0\r\n\r\n" and not body.endswith(b"\r\n0\r\n\r\n"):
                body += self._read()
        elif close:
            try:
                while True:
                    body += self._read()
            except EOFError:
                pass
        if close:
            self.close()
        return head, body

    def _read(self) -> bytes:
        assert self._socket is not None
        received = self._socket.recv(_READ)
        if not received:
            raise EOFError("it ends")
        return received

    def close(self) -> None:
        """Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def publish(
    connection: Connection,
    heads: list[str],
    body: str,
    mark: str,
    *,
    first: int,
    count: int | None,
    rate: float | None,
    seconds: float | None,
) -> dict[str, Any]:
    """Publish to the heads in turn; returns how many, and when the first was sent and the last answered.

    :param heads: requests' heads without their last line, one for each channel.
    :param body: with ``{stamp}`` and perhaps ``{channel}``.
    :param first: which head is the first.
    :param count: how many, ``None`` for no bound.
    :param rate: how many a second, ``None`` for as fast as they are answered.
    :param seconds: for how long, ``None`` for no bound.
    """
    begun = time.monotonic()
    begun_ns, processor = time.monotonic_ns(), time.process_time_ns()
    sent, said = 0, begun
    while (count is None or sent < count) and (seconds is None or time.monotonic() < begun + seconds):
        if rate is not None:
            time.sleep(max(0.0, begun + sent / rate - time.monotonic()))
        channel = (first + sent) % len(heads)
        data = body.replace(CHANNEL, str(channel)).replace(STAMP, stamp(mark)).encode()
        connection.post(f"{heads[channel]}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        sent += 1
        if time.monotonic() - said > _PROGRESS_SECONDS:
            said = time.monotonic()
            say(progress=sent)
    now, used = time.monotonic_ns(), time.process_time_ns() - processor
    return {"sent": sent, "first": begun_ns, "last": now, "cpu_ns": used, "wall_ns": now - begun_ns}


def main() -> None:
    """Serve the parent; what cannot be done is told to it."""
    connections: dict[str, Connection] = {}
    for line in sys.stdin:
        order = json.loads(line)
        order.pop("do")
        family, address = order.pop("family"), order.pop("address")
        connection = connections.setdefault(str(address), Connection(family, address))
        try:
            say(**publish(connection, **order))
        except CannotBench as error:
            say(error=str(error))
            return


if __name__ == "__main__":
    main()
