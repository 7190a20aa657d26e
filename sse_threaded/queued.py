"""A client with a thread: its bounded queue of ready-made frames, between the pump and that thread.

The pump's thread puts and ends; the client's thread takes. Neither ever waits for the other's network.
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterable

from .chain import Link
from .frame import Frame
from .subscriber import WRITE_BYTES, Subscriber

_END = Frame(b"", 0)  # no other frame is empty


class Frames(queue.Queue[Frame]):
    """A bounded queue in which nobody waits, as a link is where a thread does: so nobody need be told of anything,
    which would be half of the cost. Any thread puts; one takes.
    """

    def put_nowait(self, item: Frame) -> None:
        """See :class:`queue.Queue`."""
        with self.mutex:
            if len(self.queue) >= self.maxsize:
                raise queue.Full
            self.queue.append(item)

    def get_nowait(self) -> Frame:
        """See :class:`queue.Queue`."""
        try:
            frame: Frame = self.queue.popleft()  # one step, so it needs no lock
        except IndexError:
            raise queue.Empty from None
        return frame

    def __len__(self) -> int:
        return len(self.queue)


class Queued(Subscriber):
    """A subscriber whose frames a thread takes and writes.

    :param channels: what it wants.
    :param size: how many events may wait before it counts as too slow.
    :param connection: see :class:`Subscriber`; default ``None``.
    :param beats: whether it wants heartbeats; default ``True``.

    :ivar farewell: its last bytes, once it has ended.
    :ivar link: where its thread waits; set when it is admitted.
    """

    __slots__ = ("_beats", "_queue", "farewell", "link")

    link: Link

    def __init__(
        self,
        channels: Iterable[str],
        size: int,
        connection: socket.socket | None = None,
        *,
        beats: bool = True,
    ) -> None:
        super().__init__(channels, size, connection)
        self._beats = beats
        self.farewell = b""
        # Each frame holds an event at least, so there are never more frames than events. One more place for
        # the end and for a heartbeat.
        self._queue = Frames(size + 2)

    def put(self, frame: Frame) -> bool:
        """See :class:`Subscriber`."""
        self._count(frame)
        self._queue.put_nowait(frame)
        self.link.call()
        return False

    def put_heartbeat(self, frame: Frame) -> bool:
        """See :class:`Subscriber`."""
        return self._beats and not self._queue and self.put(frame)

    def end(self, reason: str, farewell: bytes) -> None:
        """See :class:`Subscriber`."""
        if self.ended is None:
            self.farewell = farewell
            self.ended = reason
            try:
                self._queue.put_nowait(_END)
            except queue.Full:
                pass  # then nobody waits for it: its thread looks at `ended` before it waits
            self.link.call()

    def take(self, deadline: float | None = None) -> bytes:
        """Wait for frames and take those that are there, joined; empty at the end or at the deadline.

        :param deadline: by the monotonic clock; ``None``, the default, for none.
        """
        frames = self._queue
        if self.ended is None:  # else nothing more may come
            self.link.rest(frames, deadline)
        if self.ended == "slow":  # what waits is a part of what it missed; replay will bring it all
            return b""
        wires: list[bytes] = []
        size = count = 0
        while frames and size < WRITE_BYTES:  # nobody else takes
            frame = frames.get_nowait()
            if frame is _END:
                break
            wires.append(frame.wire)
            size += len(frame.wire)
            count += frame.count
        self._taken += count
        self._taken_bytes += size
        return b"".join(wires)

    def lose_connection(self) -> None:
        """See :class:`Subscriber`; its thread will find out by itself."""
        self.connection = None
