"""Measures how much memory the kernel needs for an open connection."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack

import psutil

# How many sockets are opened for the measurement.
_SOCKETS = 8000


def kernel_kb() -> float:
    """Return the kernel's memory, in KB, for a socket without data that a poller waits for."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        poller = stack.enter_context(select.epoll())
        sockets: list[socket.socket] = []
        before = psutil.virtual_memory().slab
        for _ in range(_SOCKETS):
            sockets.append(stack.enter_context(socket.create_connection(listener.getsockname())))
            sockets.append(stack.enter_context(listener.accept()[0]))
            poller.register(sockets[-1], select.EPOLLIN)
            poller.register(sockets[-2], select.EPOLLIN)
        return float(psutil.virtual_memory().slab - before) / 1024 / len(sockets)
