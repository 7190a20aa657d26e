"""The worker's listeners: when they are watched, and how many connections are accepted from them at a time."""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from .accept_policy import AcceptPolicy
from .connection import Connection

# accept() fails with these errors when the process or the machine has no room for another connection.
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Seconds in which the worker accepts nothing, when accept() has failed. The connection stays in the kernel's
# queue.
_FAULT_PAUSE = 1.0


class Acceptor:
    """Accepts connections for the loop. The thread that leads calls all but :meth:`stop`.

    :param listeners: the sockets to accept from.
    :param selector: watches them; the data of each is a function to call when it is readable.
    :param policy: how many to accept at a time.
    :param log: gunicorn's.
    :param limit: how many connections there may be.
    :param room: how many more there may be now.
    :param adopt: called with each new connection.
    :param told: called with the number of connections after some were accepted.
    :param empties_queue: whether to accept, at the end, all that wait: no other worker has this queue.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        selector: selectors.BaseSelector,
        policy: AcceptPolicy,
        log: Any,
        *,
        limit: int,
        room: Callable[[], int],
        adopt: Callable[[Connection], None],
        told: Callable[[int], None],
        empties_queue: bool,
    ) -> None:
        self._listeners = listeners
        self._selector = selector
        self._policy = policy
        self._log = log
        self._limit = limit
        self._room = room
        self._adopt = adopt
        self._told = told
        self._empties_queue = empties_queue
        self._is_watching = False
        self._has_ended = False

    def stop(self) -> None:
        """Accept no more, from the next :meth:`look` on. Any thread."""
        self._has_ended = True

    def pause_left(self) -> float | None:
        """Seconds in which nothing is accepted yet; ``None`` if there is no pause."""
        return max(0.0, self._policy.pause_left()) if self._policy.paused_until else None

    def look(self) -> None:
        """Watch the listeners while there is room for more connections; close them after the end."""
        if self._has_ended:
            self._close()
            return
        is_paused = self._policy.paused_until and self._policy.pause_left() > 0.0
        wanted = self._room() > 0 and not is_paused
        if wanted == self._is_watching:
            return
        for listener in self._listeners:
            if wanted:
                listener.setblocking(False)
                with suppress(KeyError):  # it is registered, and the kernel had no room for the one after it
                    self._selector.register(listener, selectors.EVENT_READ, partial(self.accept, listener))
            else:
                self._selector.unregister(listener)
        self._is_watching = wanted

    def accept(self, listener: socket.socket) -> None:
        """Accept the connections that wait, if there may be more."""
        room = self._room()
        share = self._policy.share(self._limit - room)  # 0 begins a pause
        self._accept(listener, min(share, room))

    def _close(self) -> None:
        # If the listener stayed open, the kernel would go on to take connections, and reset them in the end.
        listeners, self._listeners = self._listeners, ()
        for listener in listeners:
            if self._is_watching:
                self._selector.unregister(listener)
            if self._empties_queue:
                listener.setblocking(False)
                self._accept(listener, self._room())
            listener.close()
        self._is_watching = False

    def _accept(self, listener: socket.socket, most: int) -> None:
        server = listener.getsockname()
        accepted = 0
        for _ in range(most):
            try:
                sock, client = listener.accept()
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                    # An error that stays must not keep the loop from the connections that there are.
                    advice = "; raise the limit (ulimit -n)" if error.errno in _NO_ROOM else ""
                    self._log.warning("Cannot accept connections: %s%s", error, advice)
                    self._policy.pause(_FAULT_PAUSE)
                break
            accepted += 1
            if sock.gettimeout() is not None:  # the app has called socket.setdefaulttimeout()
                sock.setblocking(True)
            self._adopt(Connection(sock, client, server))
        if accepted:
            self._told(self._limit - self._room())
