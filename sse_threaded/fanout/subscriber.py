"""One client, as the pump knows it. There is a class for each way in which bytes reach the client.

There are three classes. The thread of a :class:`.thread_subscriber.ThreadSubscriber` takes batches from a queue
and writes them. The thread of a :class:`.wrapped_subscriber.WrappedSubscriber` does the same and leaves in
between. The pump itself writes to the socket of a :class:`.socket_subscriber.SocketSubscriber`.
"""

from __future__ import annotations

import queue
import socket
from _socket import socket as SystemSocket
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

from ..observer import Kind
from ..protocol.batch import Batch
from .budget import Budget
from .cursor import Cursor
from .extras import NO_EXTRAS, Extras
from .owner import Owner
from .stream_state import EndReason, State, Step, state_after

# Batches that wait are joined into one write of about this many bytes at most. So a burst needs one system call
# and one chunk, and the copy does not grow with the queue.
WRITE_BYTES = 64 * 1024

# A client is too slow if more bytes than this wait for it, however few events they are.
WAITING_BYTES = 8 * 1024 * 1024


class AnyBroadcast(Protocol):
    """The part of a :class:`.broadcast.Broadcast` that a subscriber in it needs."""

    def drop(self, subscriber: Subscriber) -> None:
        """Send to ``subscriber`` separately from now on, as bytes wait for it."""

    @property
    def sent(self) -> int:
        """See the class."""


@dataclass(eq=False, repr=False, slots=True)
class Subscriber(ABC):
    """One client.

    :param channels: the channels that it subscribes to, sorted, each once.
    :param size: how many events may wait before it counts as too slow.
    :param connection: the client's socket, if the server shows it. The pump watches it for a hang-up, and shuts it
        down if it does not take the bytes that are sent. ``None`` for neither.

    :ivar address: its client's address; ``None`` if it is not known.
    :ivar after: the number up to which it has all events by replay; these are not delivered again.
    :ivar budget: the budget that its place comes from; set when it is admitted.
    :ivar cursor: the position of the pump's replay to it; ``None`` if it has all events, or replays by itself.
    :ivar deadline: when its lease ends (monotonic); after its end, when its connection is cut.
    :ivar extras: its extras.
    :ivar end_reason: why its stream ends, ``None`` while it goes on; set with the registry's lock held.
    :ivar broadcast: the broadcast that it is in, ``None`` for none; ``broadcast_index`` is its index there.
    :ivar allowed_at: the earliest time at which a view may have allowed its stream (monotonic).
    :ivar owner: whose stream it is; ``None`` if the view has not said, and addresses have no limit.
    :ivar sent: bytes of the body that were sent to it, less those that its broadcast has counted. A thread counts
        those that its server has taken.
    :ivar sent_events: how many events these were, counted in the same way.
    :ivar state: the state of its stream; see :mod:`.stream_state` for the threads that change it.
    :ivar watched_events: the readiness of its socket that the pump waits for, as bits of :mod:`selectors`; guarded
        by the registry's lock.
    """

    channels: tuple[str, ...]
    size: int
    connection: socket.socket | None
    after: int = 0
    deadline: float = float("inf")
    end_reason: EndReason | None = None
    state: State = State.OPEN
    watched_events: int = 0
    cursor: Cursor | None = None
    broadcast: AnyBroadcast | None = None
    broadcast_index: int = 0
    sent: int = 0
    sent_events: int = 0
    allowed_at: float = 0.0
    owner: Owner | None = None
    address: str | None = None
    extras: Extras = NO_EXTRAS
    budget: Budget = field(init=False)
    # Events and bytes, for a parked stream only those that its socket did not take at once. Only the pump's thread
    # counts those that were delivered. Only the thread that writes them counts those that were taken.
    _delivered: int = 0
    _delivered_bytes: int = 0
    _taken: int = 0
    _taken_bytes: int = 0

    @property
    def waiting(self) -> int:
        """Events that wait to be written."""
        return self._delivered - self._taken

    @property
    def sent_bytes(self) -> int:
        """Bytes of its body that were sent, also while it is in a broadcast."""
        broadcast = self.broadcast
        return self.sent + (0 if broadcast is None else broadcast.sent)

    def _count(self, batch: Batch) -> None:
        # If nothing waits for a client, it is not too slow, however many these are. A heartbeat is never too much.
        waiting = self._delivered - self._taken
        if batch.count:
            if waiting and waiting + batch.count > self.size:
                raise queue.Full
            if self._delivered_bytes - self._taken_bytes > WAITING_BYTES:
                raise queue.Full
        self._delivered += batch.count
        self._delivered_bytes += len(batch.body)

    def belongs_to(self, cursor: Cursor) -> None:
        """Take its owner, its address and its extras from the cursor with which its stream was opened."""
        self.owner, self.allowed_at, self.extras = cursor.owner, cursor.allowed_at, cursor.extras
        self.address = cursor.address

    def step(self, step: Step) -> None:
        """Go on to the state that follows ``step``."""
        self.state = state_after(self.state, step)

    def give_back(self) -> None:
        """Give its place back. Called once, after its last step."""
        self.budget.give_back()

    @abstractmethod
    def deliver(self, batch: Batch) -> bool:
        """Give it some events; returns whether the pump has to check it. The pump's thread.

        :raises queue.Full: it is too slow.
        """

    @abstractmethod
    def deliver_heartbeat(self, batch: Batch) -> bool:
        """Give it a heartbeat as :meth:`deliver` does, unless other bytes wait for it."""

    @abstractmethod
    def end(self, reason: EndReason, farewell: bytes) -> None:
        """Let its stream end with these last bytes. The first reason counts. With the registry's lock held."""

    @abstractmethod
    def lose_connection(self) -> None:
        """Go on without its socket, which cannot be watched. With the registry's lock held."""

    def cut(self) -> None:
        """Shut its connection down for good, as it does not take its last bytes. With the registry's lock held."""
        self.step(Step.CUT)
        self.shut_down()

    # The pump asks these of each subscriber. Only some classes answer in their own way.

    kind = Kind.THREAD
    """How its bytes reach its client, for observers."""

    pump_writes = False
    """Whether :meth:`deliver` hands the events to the kernel, unless it returns ``True``."""

    outlives_stream = False
    """Whether its response may go on after its stream, so that the stream's end does not close it."""

    can_be_abandoned = False
    """Whether a thread of the server must take its events. That thread may fail to come."""

    server_hears_hang_ups = False
    """Whether its server tells the pump when its socket is readable, so that the pump does not watch that."""

    can_broadcast = False
    """Whether it may be in a :class:`.broadcast.Broadcast` while nothing waits for it."""

    @property
    def can_broadcast_now(self) -> bool:
        """Whether the next batch may go to it in a broadcast: nothing waits for it. The pump's thread."""
        return False

    def keep_rest(self, batch: Batch, taken: int) -> None:  # noqa: B027  # most are in no broadcast
        """Keep the rest of a batch, of which its socket took ``taken`` bytes. The pump's thread."""

    @property
    def is_blocked(self) -> bool:
        """Whether its socket must become writable before it goes on."""
        return False

    @property
    def is_over(self) -> bool:
        """Whether the pump has nothing left to send to it, and may give its socket back."""
        return False

    def continue_writing(self) -> tuple[int, int]:
        """Write the bytes that wait, as its socket is writable again. The pump's thread.

        Returns how many events the socket has taken to their ends, and their bytes.
        """
        return 0, 0  # most do not write on the pump's thread

    def finish(self) -> None:  # noqa: B027  # most have a thread that finds out
        """Tell its server that the pump does not use its socket any more. The pump's thread."""

    def count_idle_looks(self) -> float:
        """Look whether its thread has come since the last look; returns how often in a row it has not.

        ``inf`` if the thread will never come. Asked only if :attr:`can_be_abandoned` is true. The pump's thread.
        """
        return 0

    def has_hung_up(self) -> bool | None:
        """Whether the client has closed its connection; ``None`` if its socket is not readable. It does not wait.

        With the registry's lock held.
        """
        if self.connection is None:
            return None
        try:
            # This leaves the byte in the socket. It is the base class's method, as an SSLSocket refuses flags.
            return SystemSocket.recv(self.connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return None
        except OSError:
            return True

    # Any thread.

    def free_thread(self) -> None:  # noqa: B027  # some have none
        """Wake its thread, if that waits for events, as its stream is closed."""

    def shut_down_reading(self) -> None:
        """Let its server find that the client has closed, once the response is sent.

        The end of the response can still be sent: a wrapper may close the stream before the server has sent it.
        """
        if self.connection is not None:
            try:
                # The base class's method, as that of an SSLSocket forgets the encryption.
                SystemSocket.shutdown(self.connection, socket.SHUT_RD)
            except OSError:
                pass  # the connection is gone already

    def shut_down(self) -> None:
        """Shut its connection down. This frees a thread that is stuck in a send to it."""
        if self.connection is not None:
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the connection is gone already
