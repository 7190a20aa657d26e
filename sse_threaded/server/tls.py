"""TLS sockets: the handshake, and a class of sockets that the pump can write to."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from gunicorn import sock as gunicorn_sockets


class ParkableTLSSocket(ssl.SSLSocket):
    """A TLS socket that says as a plain one does that it would block."""

    def send(self, data: Any, flags: int = 0) -> int:
        """See :meth:`socket.socket.send`."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise BlockingIOError from None

    def recv(self, size: int = 1024, flags: int = 0) -> bytes:
        """See :meth:`socket.socket.recv`."""
        try:
            return super().recv(size, flags)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise BlockingIOError from None


def wrap(sock: socket.socket, cfg: Any) -> ssl.SSLSocket:
    """Wrap a client's socket, before its handshake.

    An app's hook ``ssl_context`` may choose a class of its own. Such sockets are not parked.
    """
    context = gunicorn_sockets.ssl_context(cfg)
    if context.sslsocket_class is ssl.SSLSocket:
        context.sslsocket_class = ParkableTLSSocket
    wrapped: ssl.SSLSocket = context.wrap_socket(
        sock, server_side=True, suppress_ragged_eofs=cfg.suppress_ragged_eofs, do_handshake_on_connect=False
    )
    return wrapped
