"""The worker's loop: what the thread that leads does. It accepts connections, reads requests, and keeps deadlines.

A thread answers a request when all of it has come (:mod:`.arrivals`), so a client that is slow or says nothing
holds no thread. With TLS or another protocol, a thread reads from the first byte on.

A connection stays in the selector while a thread serves it. It is taken out only if it becomes readable during
this time, and is put in again when the loop waits for it.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from gunicorn import util

from . import deadlines, versions
from .accept_policy import AcceptPolicy
from .acceptor import Acceptor
from .arrivals import Arrivals
from .connection import Connection, Place
from .partial_request import BUFFER_BYTES, is_whole

# Seconds between two looks at deadlines.
_LOOK_SECONDS = 0.25

# Seconds that the first byte of a connection may take, in addition to the setting ``keepalive``: gunicorn's.
_FIRST_BYTE_SECONDS = 5.0

# How many connections may wait for their clients to close: so many, or this part of all. And the bytes that a
# client may send during this time. A proxy gives up if it cannot send the whole body, although it has the answer.
_LEAST_CLOSING, _CLOSING_SHARE = 16, 4
_DRAIN_BYTES = 1024 * 1024

_NO_WAIT = socket.MSG_DONTWAIT


class Loop:
    """The connections of one worker. One thread at a time leads; the other public methods are for any thread.

    :param cfg: gunicorn's settings.
    :param log: gunicorn's.
    :param listeners: the sockets to accept from.
    :param limit: how many connections there may be.
    :param policy: how many to accept at a time.
    :param serve: has a thread serve a connection's request. The calling thread looks for tasks soon.
    :param serve_elsewhere: the same, where the calling thread goes on with its own request.
    :param told: called with the number of connections after some were accepted.

    :ivar connections: how many there are.
    :ivar reads: whether the loop reads requests. Else a thread reads from the first byte on: with TLS, and with a
        protocol of lengths instead of lines.
    """

    def __init__(
        self,
        cfg: Any,
        log: Any,
        *,
        listeners: Sequence[socket.socket],
        limit: int,
        policy: AcceptPolicy,
        serve: Callable[[Connection], None],
        serve_elsewhere: Callable[[Connection], None],
        told: Callable[[int], None],
    ) -> None:
        self._cfg = cfg
        self._log = log
        self._limit = limit
        self._serve = serve
        self._serve_elsewhere = serve_elsewhere
        self.reads = not cfg.is_ssl and not versions.speaks_uwsgi(cfg)
        self._selector = selectors.DefaultSelector()
        self._interrupter, self._interrupted = os.pipe()
        os.set_blocking(self._interrupter, False)
        os.set_blocking(self._interrupted, False)
        self._selector.register(self._interrupter, selectors.EVENT_READ, self._end_interruption)
        self._acceptor = Acceptor(
            listeners,
            self._selector,
            policy,
            log,
            limit=limit,
            room=self.room,
            adopt=self._adopt,
            told=told,
            empties_queue=cfg.reuse_port,
        )
        # Guards all below, and of each connection its place and whether it is watched.
        self._lock = threading.Lock()
        self.connections = 0
        # Those that wait for their client, with the earliest deadline first in each of the first three.
        self._new: dict[Connection, None] = {}
        self._kept: dict[Connection, None] = {}
        self._closing: dict[Connection, None] = {}
        self._arrivals = Arrivals(max(1, cfg.threads // 2), self._end_upload)
        self._handshaking: set[Connection] = set()
        self._latest = float("inf")  # when a worker that ends closes connections that wait (monotonic)
        self._looked = 0.0  # when deadlines were last looked at (monotonic)

    @property
    def events(self) -> int | None:
        """The descriptor that is readable while there are events, for another thread; ``None`` without epoll."""
        kind = getattr(selectors, "EpollSelector", ())  # gevent takes it away
        return self._selector.fileno() if isinstance(self._selector, kind) else None

    # The thread that leads.

    def lead(self, timeout: float | None = None) -> None:
        """Wait for events once, and handle them.

        :param timeout: seconds at most; default until the next deadline.
        """
        self._acceptor.look()
        readable: list[Connection] = []
        for key, _ in self._selector.select(self._patience() if timeout is None else timeout):
            if type(key.data) is Connection:
                readable.append(key.data)
            else:
                key.data()
        if len(readable) > 1:
            # The system may report a connection before others that have waited longer.
            readable.sort(key=_deadline)
        for conn in readable:
            self._on_readable(conn)
        now = time.monotonic()
        if now >= self._looked + _LOOK_SECONDS:
            self._looked = now
            self._expire(now)

    def _patience(self) -> float:
        pause = self._acceptor.pause_left()
        if pause is not None:
            return min(pause, _LOOK_SECONDS)
        return _LOOK_SECONDS if self._waiting() else 1.0

    def _waiting(self) -> bool:
        return bool(self._new or self._kept or self._closing or self._arrivals or self._handshaking)

    def room(self) -> int:
        """How many more connections there may be."""
        return self._limit - self.connections

    def _adopt(self, conn: Connection) -> None:
        with self._lock:
            self.connections += 1
        if self.reads:
            self._receive(conn)
        else:
            self._await_first(conn)

    def _on_readable(self, conn: Connection) -> None:
        with self._lock:
            place = conn.place
            if place in (Place.NEW, Place.KEPT, Place.ARRIVING):
                self._new.pop(conn, None)
                self._kept.pop(conn, None)
                conn.place = Place.THREAD
            if place in (Place.THREAD, Place.UPLOAD) or (conn.place is Place.THREAD and not self.reads):
                # Its thread reads it, or finds out at the end. With TLS that is by way of another socket object.
                self._unwatch(conn)
        if place is Place.PARKED:
            self._hear(conn)
        elif place is Place.CLOSING:
            self._drain(conn)
        elif conn.place is Place.THREAD and place is not Place.THREAD:
            if self.reads:
                self._receive(conn)
            else:
                self._serve(conn)

    def _hear(self, conn: Connection) -> None:
        parked = conn.parked
        if parked is None or not parked.hear():
            with self._lock:
                if conn.parked is parked:
                    self._unwatch(conn)

    def _receive(self, conn: Connection) -> None:
        """Read from a connection that no thread has."""
        try:
            piece = conn.sock.recv(BUFFER_BYTES, _NO_WAIT)
        except BlockingIOError:
            if conn.partial_request is not None:
                self._await_rest(conn)
            elif conn.requests:
                self.keep(conn)
            else:
                self._await_first(conn)
        except OSError:
            self.close(conn)
        else:
            if not piece:
                self.close(conn)
            elif conn.partial_request is None and is_whole(piece):
                conn.received, conn.missing, conn.is_whole = piece, 0, True
                self._serve(conn)
            else:
                self.add(conn, piece)

    def _await_first(self, conn: Connection) -> None:
        conn.deadline = time.monotonic() + _FIRST_BYTE_SECONDS + float(self._cfg.keepalive)
        self._await(conn, Place.NEW, self._new)

    def _await_rest(self, conn: Connection) -> None:
        if not self._await(conn, Place.ARRIVING, None):
            self._arrivals.forget(conn)

    def _await(self, conn: Connection, place: Place, queue: dict[Connection, None] | None) -> bool:
        """Wait for a connection's client; returns whether that is possible."""
        with self._lock:
            if self._watch(conn):
                conn.place = place
                conn.deadline = min(conn.deadline, self._latest)
                if queue is not None:
                    queue[conn] = None
                return True
        self.close(conn)
        return False

    def _watch(self, conn: Connection) -> bool:
        if not conn.is_watched:
            try:
                try:
                    self._selector.register(conn.sock, selectors.EVENT_READ, conn)
                except KeyError:
                    # The app has closed the socket of an earlier connection, which had the same number.
                    self._selector.unregister(conn.sock)
                    self._selector.register(conn.sock, selectors.EVENT_READ, conn)
            except (OSError, ValueError, KeyError):  # the kernel has no room for it, or the app has closed it
                return False
            conn.is_watched = True
        return True

    def _unwatch(self, conn: Connection) -> None:
        if conn.is_watched:
            conn.is_watched = False
            with suppress(OSError, ValueError, KeyError):
                self._selector.unregister(conn.sock)

    def _end_interruption(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._interrupter, 4096)

    # Deadlines.

    def _expire(self, now: float) -> None:
        with self._lock:
            late = [*_overdue(self._new, now), *_overdue(self._kept, now), *_overdue(self._closing, now)]
            refused = self._arrivals.overdue(now)
            for conn in (*late, *refused):
                conn.place = Place.THREAD
            stuck = [conn for conn in self._handshaking if conn.handshake_ends and conn.handshake_ends < now]
        for conn in late:
            self.close(conn)
        for conn in refused:
            self._refuse(conn)
        for conn in stuck:
            with suppress(OSError):  # the base class's method, as an SSLSocket's own forgets its state
                socket.socket.shutdown(conn.sock, socket.SHUT_RDWR)

    def _refuse(self, conn: Connection) -> None:
        self._log.info("A request of ip=%s did not arrive in time", conn.address)
        conn.partial_request = None
        with suppress(OSError):
            util.write_error(conn.sock, 408, "Request Timeout", "")
        self.linger(conn)

    def _drain(self, conn: Connection) -> None:
        try:
            received = len(conn.sock.recv(min(conn.drain_left, BUFFER_BYTES), _NO_WAIT))
        except BlockingIOError:
            return
        except OSError:
            received = 0
        conn.drain_left -= received
        if not received or conn.drain_left <= 0:
            self.close(conn)

    # Any thread.

    def add(self, conn: Connection, piece: bytes) -> None:
        """Add bytes that a connection has sent to its request.

        Then a thread serves the request, or the loop waits for the rest.
        """
        if not self.reads:
            conn.received = piece
            self._serve(conn)
            return
        with self._lock:
            verdict = self._arrivals.add(conn, piece)
        if verdict is Place.THREAD:
            self._serve(conn)
        elif verdict is Place.ARRIVING:
            self._await_rest(conn)
        elif verdict is Place.CLOSING:
            self._refuse(conn)

    def _end_upload(self) -> None:
        """A thread need not read an upload any more, so it may read another one."""
        with self._lock:
            conn = self._arrivals.next_upload()
        if conn is not None:
            self._serve_elsewhere(conn)

    def begin_handshake(self, conn: Connection) -> None:
        """A thread begins the TLS handshake of a connection, which has a deadline."""
        conn.handshake_ends = time.monotonic() + deadlines.HEAD_SECONDS
        with self._lock:
            self._handshaking.add(conn)

    def end_handshake(self, conn: Connection) -> None:
        """The handshake is over."""
        conn.handshake_ends = None
        with self._lock:
            self._handshaking.discard(conn)

    def keep(self, conn: Connection) -> None:
        """Wait for a connection's next request."""
        conn.deadline = time.monotonic() + float(self._cfg.keepalive)
        self._await(conn, Place.KEPT, self._kept)

    def park(self, conn: Connection) -> None:
        """Watch a parked connection for its client's end, unless its stream has ended already."""
        with self._lock:
            if conn.parked is not None:
                conn.place = Place.PARKED
                self._watch(conn)  # else its end shows in a failed send

    def unpark(self, conn: Connection) -> None:
        """The pump has given a connection back."""
        with self._lock:
            conn.parked = None
            conn.place = Place.THREAD

    @property
    def idle(self) -> int:
        """How many connections wait for their next request."""
        return len(self._kept)

    def linger(self, conn: Connection) -> None:
        """Close a connection when its client has closed it, or after a short time (RFC 9112, section 9.6)."""
        if conn.half_close():
            self.close(conn)
            return
        conn.deadline = time.monotonic() + deadlines.LINGER_SECONDS
        conn.drain_left = _DRAIN_BYTES
        oldest = None
        with self._lock:
            if len(self._closing) >= max(_LEAST_CLOSING, self._limit // _CLOSING_SHARE):
                oldest = next(iter(self._closing))
        if oldest is not None:
            self.close(oldest)
        self._await(conn, Place.CLOSING, self._closing)

    def close(self, conn: Connection) -> None:
        """Close a connection; idempotent."""
        with self._lock:
            if conn.place is Place.CLOSED:
                return
            conn.place = Place.CLOSED
            for queue in (self._new, self._kept, self._closing):
                queue.pop(conn, None)
            self._arrivals.forget(conn)
            self._unwatch(conn)
            self.connections -= 1
            makes_room = self.connections == self._limit - 1
        util.close(conn.sock)
        if makes_room:
            self.interrupt()  # the thread that leads may wait without accepting

    def interrupt(self) -> None:
        """End the wait of the thread that leads. Also from a signal handler."""
        with suppress(BlockingIOError):
            os.write(self._interrupted, b"\0")

    # The end.

    def stop_accepting(self, deadline: float) -> None:
        """Accept no more, and let nothing wait for a client longer than this (monotonic).

        The thread that leads closes the listeners.
        """
        self._acceptor.stop()
        with self._lock:
            self._latest = deadline
            for queue in (self._new, self._kept):
                for conn in queue:
                    conn.deadline = min(conn.deadline, deadline)
            self._arrivals.cap(deadline)
        self.interrupt()

    def close_kept(self) -> None:
        """Close the connections that wait for a request."""
        with self._lock:
            waiting = [*self._new, *self._kept]
            for conn in waiting:
                conn.place = Place.THREAD  # this one, so that no other serves it
        for conn in waiting:
            self.close(conn)


def _deadline(conn: Connection) -> float:
    return conn.deadline


def _overdue(queue: dict[Connection, None], now: float) -> list[Connection]:
    """Take out of a queue those whose deadline is over."""
    late = []
    for conn in queue:
        if conn.deadline > now:
            break
        late.append(conn)
    for conn in late:
        del queue[conn]
    return late
