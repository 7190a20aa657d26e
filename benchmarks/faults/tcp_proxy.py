"""A TCP proxy that can be cut, for hosts that share the loopback interface."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_CHUNK = 65536


class TcpProxy:
    """A TCP proxy that can be cut. Then it still accepts connections and bytes, but forwards nothing.

    :param host: the address to listen on.
    :param to: the address and port of the server.
    :ivar port: the port that it listens on.
    """

    def __init__(self, host: str, to: tuple[str, int]) -> None:
        self._to = to
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        # Guards the two attributes below.
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Forward nothing any more."""
        with self._lock:
            self._is_cut = True

    def heal(self) -> None:
        """Forward new connections again. The old ones have lost bytes, so they are closed."""
        with self._lock:
            self._is_cut = False
            ended, self._open = self._open, set()
        for each in ended:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop the proxy and close its connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
        self._listener.close()
        self.heal()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._to, 5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        with self._lock:
            self._open |= {near, far}
        back = threading.Thread(target=self._forward, args=(far, near), daemon=True)
        back.start()
        self._forward(near, far)
        back.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if not self._is_cut:
                    sink.sendall(data)
        if not self._is_cut:
            for each in (source, sink):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
