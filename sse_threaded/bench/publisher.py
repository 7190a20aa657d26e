"""The process that publishes: ``python -m sse_threaded.bench.publisher``, started by :mod:`.load`.

It sends one POST after the other, each after the answer to the one before; in a burst, several at a time. It is a
process of its own, so that no event waits while another process reads streams.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

from .endpoint import CHANNEL, STAMP
from .errors import CannotBench
from .load_process import send_to_parent
from .timestamps import stamp

_ANSWER_SECONDS = 30.0
_PROGRESS_SECONDS = 0.1
_READ = 65_536

# How much of the body of an error is shown.
_SHOWN_BYTES = 300


class PostConnection:
    """A connection to the server. It is kept open, and opened again when the server has closed it.

    :param family: the address family, as in the socket module.
    :param address: the address of the server.
    """

    def __init__(self, family: int, address: list[Any]) -> None:
        self._family = family
        self._address = tuple(address)
        self._socket: socket.socket | None = None

    def post(self, request: bytes) -> None:
        """Send a request and read its answer to the end.

        :raises CannotBench: there is no answer, or its status is not 2xx.
        """
        kept = self._socket is not None
        try:
            self.send(request)
            self.read_answer()
        except (ConnectionError, EOFError) as error:
            # The server may close an idle connection at any time, but not a new one.
            self.close()
            if not kept:
                raise CannotBench(f"POST: the server closes the connection ({error})") from None
            self.post(request)
        except OSError as error:
            raise CannotBench(f"POST: no answer ({error})") from None

    def send(self, request: bytes) -> None:
        """Send a request; call :meth:`read_answer` next."""
        if self._socket is None:
            self._socket = socket.socket(self._family, socket.SOCK_STREAM)
            self._socket.settimeout(_ANSWER_SECONDS)
            self._socket.connect(self._address)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)

    def read_answer(self) -> None:
        """Read an answer to its end.

        :raises CannotBench: its status is not 2xx.
        """
        head, body = self._read_message()
        status = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")[2]
        if not status.startswith("2"):
            said = body[:_SHOWN_BYTES].decode("utf-8", "replace").strip()
            raise CannotBench(f"POST: the server answers {status}: {said}")

    def _read_message(self) -> tuple[bytes, bytes]:
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
            raise EOFError("end of stream")
        return received

    def close(self) -> None:
        """Close the connection; may be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def publish(
    heads: list[str],
    body: str,
    mark: str,
    *,
    family: int,
    address: list[Any],
    connections: int,
    first: int,
    count: int | None,
    bulk: int,
    rate: float | None,
    seconds: float | None,
) -> dict[str, Any]:
    """Publish with the heads in turn; return the number of events, and when the first began and the last ended.

    :param heads: the heads of requests without their last line, one for each channel.
    :param body: the body, with ``{stamp}`` and perhaps ``{channel}``.
    :param mark: the mark of the stamps.
    :param family: the address family, as in the socket module.
    :param address: the address of the server.
    :param connections: how many requests are sent at once, each on its own connection.
    :param first: the number of the head to begin with.
    :param count: how many POSTs; ``None``: no bound.
    :param bulk: how many events each POST contains, one on each line.
    :param rate: how many POSTs a second; ``None``: as fast as they are answered.
    :param seconds: for how long; ``None``: no bound.
    """
    used = [_connection(family, address, number, fresh=connections > 1) for number in range(connections)]
    begun = time.monotonic()
    begun_ns, processor = time.monotonic_ns(), time.process_time_ns()
    sent, said = 0, begun
    while (count is None or sent < count) and (seconds is None or time.monotonic() < begun + seconds):
        if rate is not None:
            time.sleep(max(0.0, begun + sent / rate - time.monotonic()))
        batch = used if count is None else used[: count - sent]
        requests = []
        for _ in batch:
            channel = (first + sent) % len(heads)
            line = body.replace(CHANNEL, str(channel)).replace(STAMP, stamp(mark)).encode()
            data = b"\n".join([line] * bulk)
            requests.append(f"{heads[channel]}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            sent += 1
        _post_all(batch, requests)
        if time.monotonic() - said > _PROGRESS_SECONDS:
            said = time.monotonic()
            send_to_parent(progress=sent)
    now = time.monotonic_ns()
    return {
        "sent": sent * bulk,
        "first": begun_ns,
        "last": now,
        "cpu_ns": time.process_time_ns() - processor,
        "wall_ns": now - begun_ns,
    }


def _post_all(connections: list[PostConnection], requests: list[bytes]) -> None:
    if len(connections) == 1:
        connections[0].post(requests[0])
        return
    try:
        for connection, request in zip(connections, requests, strict=True):
            connection.send(request)
        for connection in connections:
            connection.read_answer()
    except (OSError, EOFError) as error:
        raise CannotBench(f"POST, over {len(connections)} connections: no answer ({error})") from None


_kept: dict[str, PostConnection] = {}


def _connection(family: int, address: list[Any], number: int, *, fresh: bool) -> PostConnection:
    connection = _kept.setdefault(f"{number} {address}", PostConnection(family, address))
    if fresh:
        connection.close()  # the server may be about to close an idle connection
    return connection


def main() -> None:
    """Execute the orders of the parent, and send it the errors."""
    for line in sys.stdin:
        order = json.loads(line)
        order.pop("do")
        try:
            send_to_parent(**publish(**order))
        except CannotBench as error:
            send_to_parent(error=str(error))
            return
        except BrokenPipeError:
            return  # the parent has ended


if __name__ == "__main__":
    main()
