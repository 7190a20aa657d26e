"""A client with a thread: a bounded queue of batches between the pump and that thread.

The pump's thread puts batches into the queue and ends the stream. The client's thread takes the batches. Neither
waits for the other's network.
"""

from __future__ import annotations

import queue
import socket

from ..observer import Kind
from ..protocol.batch import Batch
from .budget import Budget
from .serial_wakeup import Sleeper
from .stream_state import EndReason, Step
from .subscriber import WRITE_BYTES, Subscriber

_END = Batch(b"", 0)  # no other batch in a queue is empty


class ThreadSubscriber(Subscriber):
    """A subscriber whose batches a thread takes and writes.

    :param channels: see :class:`.subscriber.Subscriber`.
    :param size: how many events may wait before it counts as too slow.
    :param connection: see :class:`Subscriber`; default ``None``.
    :param has_heartbeats: whether it gets heartbeats; default ``True``.

    :ivar farewell: its last bytes, once it has ended.
    :ivar sleeper: the object in which its thread waits; set when it is admitted.
    :ivar thread_budget: the budget that its thread comes from, if that is another one; default ``None``.
    """

    __slots__ = (
        "_has_heartbeats",
        "_idle_looks",
        "_queue",
        "_taken_at_last_look",
        "farewell",
        "sleeper",
        "thread_budget",
    )

    sleeper: Sleeper

    can_be_abandoned = True

    def __init__(
        self,
        channels: tuple[str, ...],
        size: int,
        connection: socket.socket | None = None,
        *,
        has_heartbeats: bool = True,
    ) -> None:
        super().__init__(channels, size, connection)
        self._has_heartbeats = has_heartbeats
        self.farewell = b""
        self.thread_budget: Budget | None = None
        # Each batch holds at least one event, so there are never more batches than events. One more place is for
        # the end, and one is for a heartbeat.
        self._queue: queue.Queue[Batch] = queue.Queue(size + 2)
        # Bytes that were taken at the pump's last look, and how often in a row its thread had not come.
        self._taken_at_last_look, self._idle_looks = -1, 0

    def give_back(self) -> None:
        """See :class:`Subscriber`."""
        self.budget.give_back()
        if self.thread_budget is not None:
            self.thread_budget.give_back()

    # The pump's thread.

    def deliver(self, batch: Batch) -> bool:
        """See :class:`Subscriber`."""
        self._count(batch)
        self._queue.put_nowait(batch)
        self._call_thread()
        return False

    def deliver_heartbeat(self, batch: Batch) -> bool:
        """See :class:`Subscriber`."""
        return self._has_heartbeats and self._queue.empty() and self.deliver(batch)

    def end(self, reason: EndReason, farewell: bytes) -> None:
        """See :class:`Subscriber`."""
        if self.end_reason is not None:
            return
        self.farewell = farewell
        self.step(Step.LOSE if reason is EndReason.GONE else Step.END)
        self.end_reason = reason  # set after the farewell, which its thread sends when it sees this
        try:
            self._queue.put_nowait(_END)
        except queue.Full:
            pass  # then its thread does not wait: it looks at `end_reason` before it does
        self._call_thread()

    def lose_connection(self) -> None:
        """See :class:`Subscriber`. Its thread will find out by itself."""
        self.connection = None

    def count_idle_looks(self) -> float:
        """See :class:`Subscriber`.

        Its thread may be stuck, or no thread may iterate its stream any more. If the server shows its socket, that
        says more: after the server has closed it, no thread will come. A circle of references may still hold the
        stream, such as that of an exception and its traceback.
        """
        if self.connection is not None:
            return float("inf") if self.connection.fileno() < 0 else 0
        if self._taken_bytes != self._taken_at_last_look:
            self._idle_looks = 0
        elif self._queue.qsize() or self.end_reason is not None:
            self._idle_looks += 1
        self._taken_at_last_look = self._taken_bytes
        return self._idle_looks

    def _call_thread(self) -> None:
        """Have its thread look into the queue."""
        self.sleeper.call()

    # Any thread.

    def free_thread(self) -> None:
        """See :class:`Subscriber`."""
        if self.sleeper.stop():
            self.sleeper.wake()

    # Its own thread.

    def take(self, deadline: float | None = None) -> list[Batch]:
        """Wait for batches and take them.

        The list is empty at the end and at the deadline. It is also empty if its thread is to leave for now.

        :param deadline: until when to wait (monotonic); ``None``, the default, for no limit.
        """
        if self.end_reason is None:  # after its end nothing more may come
            self.sleeper.sleep(self._queue.queue, deadline)
        return self.take_now()

    def take_now(self) -> list[Batch]:
        """Take the batches in the queue, without waiting."""
        batches: list[Batch] = []
        if self.end_reason is EndReason.SLOW:  # the replay includes these events
            return batches
        size = count = 0
        # No other thread takes batches. The size is asked once, as get_nowait() on an empty queue costs as much as
        # the rest of this method.
        for _ in range(self._queue.qsize()):
            if size >= WRITE_BYTES:
                break
            batch = self._queue.get_nowait()
            if batch is _END:
                break
            batches.append(batch)
            size += len(batch.body)
            count += batch.count
        self._taken += count
        self._taken_bytes += size
        return batches


class PollSubscriber(ThreadSubscriber):
    """The subscriber of a long poll: its thread waits for one event only."""

    __slots__ = ()

    kind = Kind.POLL
