"""A relay between clients and the server that cuts streams off in the middle of an event.

What a killed server, a proxy or a network leaves of a stream ends anywhere. A connection is cut in the second
event that it brings, each time at the next place.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

# The whole blocks that a connection brings before it is cut: the first one of a stream, and one event.
_WHOLE = 2

_SECONDS = 60
_PAUSE = 0.05


class Scissors:
    """A relay on a free port, until it is closed; its URL takes the server's place.

    :param port: the server's.
    :param places: where an event may be cut: a function of the client's name and the event's bytes.
    :param times: how often each client is cut off.
    :ivar cuts: how often it has been so far, by the client's name.
    """

    def __init__(self, port: int, places: Callable[[str, bytes], list[int]], times: int) -> None:
        self.cuts: Counter[str] = Counter()
        self._places = places
        self._times = times
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name="scissors", daemon=True).start()

    def close(self) -> None:
        """Accept no more; open connections end with their server or client."""
        # Closing alone would not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # Requests have no bodies. One connection has one answer, so that each stream has a connection of its own.
        with contextlib.suppress(OSError), client, socket.create_connection(self._server, _SECONDS) as server:
            client.settimeout(_SECONDS)
            head = _read_head(client)
            server.sendall(re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head)[:-2] + b"Connection: close\r\n\r\n")
            # A client that leaves ends the answer.
            threading.Thread(target=_end_with, args=(client, server), daemon=True).start()
            name = re.match(rb"GET /events/([^/]+)/", head)
            if name is None:
                while data := server.recv(65536):
                    client.sendall(data)
            else:
                self._relay(server, client, name[1].decode())
            # Closing alone would not end it, as the other thread still reads.
            client.shutdown(socket.SHUT_RDWR)

    def _relay(self, server: socket.socket, client: socket.socket, name: str) -> None:
        sent = whole = 0
        received = _read_head(server)
        blocks = len(received)
        while data := server.recv(65536):
            received += data
            while (end := received.find(b"\n\n", blocks) + 2) > 1:
                if whole == _WHOLE and self.cuts[name] < self._times:
                    places = self._places(name, received[blocks:end])
                    client.sendall(received[sent : blocks + places[self.cuts[name] % len(places)]])
                    self.cuts[name] += 1
                    # A network delivers the last bytes before the end, and no client may count on both at once.
                    time.sleep(_PAUSE)
                    return
                whole, blocks = whole + 1, end
            if whole < _WHOLE or self.cuts[name] == self._times:
                client.sendall(received[sent:])
                sent = len(received)
            else:  # what has come of the next block waits for the rest
                client.sendall(received[sent:blocks])
                sent = max(sent, blocks)


def lines_and_middles(event: bytes) -> list[int]:
    """The places of an event that make a difference: the end of each line, and the middle of each."""
    ends = [0, *(match.end() for match in re.finditer(b"\n", event))]
    return sorted({*ends, *((a + b) // 2 for a, b in pairwise(ends))})


def _read_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise ConnectionResetError
        head += byte
    return head


def _end_with(client: socket.socket, server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while client.recv(65536):
            pass
        server.shutdown(socket.SHUT_RDWR)
