"""One client's bounded queue of ready-made frames, between the pump and the thread that writes to the client.

The pump's thread puts and ends; the client's thread takes. Neither ever waits for the other's network.
"""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Sequence

# Frames that wait are joined into one write of at most about this many bytes: one system call and one chunk
# for a burst, without a copy that grows with the queue.
WRITE_BYTES = 64 * 1024

# A client for which more than this waits is too slow, however few events they are.
WAITING_BYTES = 8 * 1024 * 1024

_END = b""  # no frame is empty, so an empty one can mark the end


class Subscriber:
    """What the hub knows of one client.

    :param channels: what it wants.
    :param size: how many frames may wait before it counts as too slow.
    :param connection: the client's socket, where the server shows it: watched for a hang-up, and cut when
        its thread is stuck in a send. ``None``, the default, for neither.
    :param beats: whether it wants heartbeats.

    :ivar after: events up to this number it has already, by replay; they are not put again.
    :ivar ended: why its stream is to end (``"lease"``, ``"slow"``, ``"gone"``, ``"shutdown"``, ``"behind"``),
        ``None`` while it goes on.
    :ivar deadline: when its lease ends (monotonic); once it has ended, when its connection is cut.
    """

    __slots__ = (
        "_put_bytes",
        "_queue",
        "_taken_bytes",
        "after",
        "beats",
        "channels",
        "closed",
        "connection",
        "deadline",
        "ended",
        "farewell",
    )

    def __init__(
        self,
        channels: Sequence[str],
        size: int,
        connection: socket.socket | None = None,
        beats: bool = True,
    ) -> None:
        self.channels = tuple(dict.fromkeys(channels))
        self.connection = connection
        self.beats = beats
        self.after = 0
        self.ended: str | None = None
        self.farewell = b""
        self.closed = False  # its thread has let go of it and of its socket
        self.deadline = float("inf")
        self._queue: queue.Queue[bytes] = queue.Queue(size)
        # Counted up by the pump's thread alone, and by the client's thread alone.
        self._put_bytes = 0
        self._taken_bytes = 0

    @property
    def waiting(self) -> int:
        """Frames in the queue."""
        return self._queue.qsize()

    def put(self, sequence: int, wire: bytes) -> None:
        """Give it an event, unless replay did; the pump's thread.

        :raises queue.Full: it is too slow.
        """
        if sequence > self.after:
            if self._put_bytes - self._taken_bytes > WAITING_BYTES:
                raise queue.Full
            self._queue.put_nowait(wire)
            self._put_bytes += len(wire)

    def put_heartbeat(self, wire: bytes) -> None:
        """Give it a heartbeat, unless something else is on its way; the pump's thread."""
        if self.beats and self._queue.empty():
            self._queue.put_nowait(wire)
            self._put_bytes += len(wire)

    def end(self, reason: str, farewell: bytes) -> None:
        """Let its stream end with these last bytes; any thread, the first one counts."""
        if self.ended is None:
            self.farewell = farewell
            self.ended = reason
            try:
                self._queue.put_nowait(_END)
            except queue.Full:
                pass  # then nobody waits for it: its thread looks at `ended` after each take

    def take(self, deadline: float | None = None) -> bytes:
        """Wait for frames and take those that are there, joined; empty at the end or at the deadline.

        :param deadline: by the monotonic clock; ``None``, the default, for none.
        """
        if self.ended == "slow":  # what waits is a part of what it missed; replay will bring it all
            return b""
        frames: list[bytes] = []
        size = 0
        try:
            if self.ended is None:
                timeout = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                frames.append(self._queue.get(timeout=timeout))
                size = len(frames[0])
            while size < WRITE_BYTES and (not frames or frames[-1] is not _END):
                frames.append(self._queue.get_nowait())
                size += len(frames[-1])
        except queue.Empty:
            pass
        self._taken_bytes += size
        return b"".join(frames)

    def sever(self) -> None:
        """Cut its connection, so that a thread stuck in a send to it comes free."""
        if self.connection is not None:
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is gone already
