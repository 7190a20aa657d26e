"""A client with a thread: its bounded queue of ready-made frames, between the pump and that thread.

The pump's thread puts and ends; the client's thread takes. Neither ever waits for the other's network.
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterable

from ..protocol.batch import Batch
from .budget import Budget
from .serial_wakeup import Link
from .subscriber import WRITE_BYTES, Subscriber

_END = Batch(b"", 0)  # no other frame is empty


class ThreadSubscriber(Subscriber):
    """A subscriber whose frames a thread takes and writes.

    :param channels: what it wants.
    :param size: how many events may wait before it counts as too slow.
    :param connection: see :class:`Subscriber`; default ``None``.
    :param beats: whether it wants heartbeats; default ``True``.

    :ivar budget: where its place comes from; set when it is admitted.
    :ivar farewell: its last bytes, once it has ended.
    :ivar link: where its thread waits; set when it is admitted.
    :ivar thread_budget: where the place of its thread comes from, if that is another one; default ``None``.
    """

    __slots__ = ("_beats", "_looked", "_looks", "_queue", "budget", "farewell", "link", "thread_budget")

    budget: Budget
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
        self.thread_budget: Budget | None = None
        # Each frame holds an event at least, so there are never more frames than events. One more place for
        # the end and for a heartbeat.
        self._queue: queue.Queue[Batch] = queue.Queue(size + 2)
        # Bytes taken, when the pump last looked whether its thread comes; and how often it has looked in vain.
        self._looked, self._looks = -1, 0

    def give_back(self) -> None:
        """Give its places back. Once, by who lets it go."""
        self.budget.give_back()
        if self.thread_budget is not None:
            self.thread_budget.give_back()

    def put(self, frame: Batch) -> bool:
        """See :class:`Subscriber`."""
        self._count(frame)
        self._queue.put_nowait(frame)
        self._call()
        return False

    def put_heartbeat(self, frame: Batch) -> bool:
        """See :class:`Subscriber`."""
        return self._beats and self._queue.empty() and self.put(frame)

    def end(self, reason: str, farewell: bytes) -> None:
        """See :class:`Subscriber`."""
        if self.ended is None:
            self.farewell = farewell
            self.ended = reason
            try:
                self._queue.put_nowait(_END)
            except queue.Full:
                pass  # then nobody waits for it: its thread looks at `ended` before it waits
            self._call()

    @property
    def is_left(self) -> bool:
        """Whether its server has closed the socket, and so will not come for more. Its stream may be in a circle
        of references, such as that of an exception with its traceback.
        """
        return self.connection is not None and self.connection.fileno() < 0

    def idle_looks(self) -> int:
        """Look whether its thread has come since the last look, for what waits or for its end.

        Returns how often in a row it has not.

        Its thread may be stuck, or nobody may iterate its stream any more. Where the server shows its socket that
        says more, so this is always 0 there.
        """
        if self.connection is not None or self._taken_bytes != self._looked:
            self._looks = 0
        elif self._queue.qsize() or self.ended:
            self._looks += 1
        self._looked = self._taken_bytes
        return self._looks

    def _call(self) -> None:
        """Have its thread look into the queue. The pump's thread."""
        self.link.call()

    def take(self, deadline: float | None = None) -> list[Batch]:
        """Wait for frames and take those that are there; none at the end or at the deadline.

        :param deadline: by the monotonic clock; ``None``, the default, for none.
        """
        if self.ended is None:  # else nothing more may come
            self.link.rest(self._queue.queue, deadline)
        return self.take_now()

    def take_now(self) -> list[Batch]:
        """Take the frames that are there, without waiting."""
        frames: list[Batch] = []
        if self.ended == "slow":  # what waits is a part of what it missed; replay will bring it all
            return frames
        size = count = 0
        # Nobody else takes. Asked once, as get_nowait() on an empty queue costs as much as all else here.
        for _ in range(self._queue.qsize()):
            if size >= WRITE_BYTES:
                break
            frame = self._queue.get_nowait()
            if frame is _END:
                break
            frames.append(frame)
            size += len(frame.wire)
            count += frame.count
        self._taken += count
        self._taken_bytes += size
        return frames

    def lose_connection(self) -> None:
        """See :class:`Subscriber`; its thread will find out by itself."""
        self.connection = None
