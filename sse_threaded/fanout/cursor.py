"""Reading the log for one client, page by page, from its last event on.

One thread at a time uses a cursor.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import HistoryGone, InvalidEvent, LogUnavailable, LogUnusable
from ..log import EventLog, Page, Record
from ..protocol.event import RESET, ServerSentEvent


class Cursor:
    """A client's position in the log.

    :param log: the log.
    :param channels: what the client subscribes to.
    :param last_event_id: of the last event that the client has; ``None`` to begin at the log's end.
    :param known: see :meth:`EventLog.sequence_of`; default 0.
    :raises LogError: the log cannot be read.

    :ivar epoch: the log's epoch when this began.
    :ivar after: the number up to which the client has everything.
    :ivar reset: why the client must refetch (see :class:`HistoryGone`), ``None`` as long as nothing is missing.
    """

    def __init__(self, log: EventLog, channels: Sequence[str], last_event_id: str | None, known: int = 0) -> None:
        self._log = log
        self._channels = channels
        self.reset: str | None = None
        if last_event_id is None:
            self._go_to_end()
            return
        self.epoch = log.epoch
        try:
            self.after = log.sequence_of(last_event_id, known=known)
        except HistoryGone as gone:
            self._begin_anew(gone, None)

    @property
    def event_id(self) -> str:
        """The id of this position."""
        return self.id_of(self.after)

    def id_of(self, sequence: int) -> str:
        """The id of an event that was read here."""
        return f"{self.epoch}-{sequence}"

    @property
    def is_stale(self) -> bool:
        """Whether the log was made anew since then."""
        return self._log.epoch != self.epoch

    def read(self, upto: int | None = None) -> Page:
        """The next page, empty when there are no more up to ``upto``, or when :attr:`reset` was set.

        :raises LogError: the log cannot be read.
        """
        try:
            page = self._log.read(self.after, channels=self._channels, upto=upto)
            if self.is_stale:  # these events may be another log's
                raise HistoryGone("epoch")
        except HistoryGone as gone:
            self._begin_anew(gone, upto)
            return Page()
        if page:
            self.after = page[-1].sequence
        return page

    def _begin_anew(self, gone: HistoryGone, upto: int | None) -> None:
        if upto is None:
            self._go_to_end()
        elif gone.reason == "epoch":
            # upto was a number of the old one.
            raise LogUnavailable(self._log.url, "the log was made anew just now; try again")
        else:
            self.after = upto
        self.reset = gone.reason

    def _go_to_end(self) -> None:
        self.epoch, _, last = self._log.last_event_id().partition("-")
        self.after = int(last)

    def read_wires(self, upto: int | None = None) -> list[bytes]:
        """The next page's events as they go to the client, a ``reset`` included; empty when there are no more."""
        wires = [] if self.reset else [encode(self._log, each, self.epoch) for each in self.read(upto)]
        if self.reset:
            wires = [ServerSentEvent(id=self.event_id, event=RESET, data={"reason": self.reset}).encode()]
            self.reset = None
        return wires

    def read_wire(self, upto: int | None = None) -> bytes:
        """The same, joined."""
        return b"".join(self.read_wires(upto))


def encode(log: EventLog, record: Record, epoch: str | None = None) -> bytes:
    """The event's bytes, the same on every path.

    :param epoch: the log's epoch when the record was read; ``None``, the default, where it has not changed since.
    :raises LogUnusable: the row is no valid event; some other program has written it into the log.
    """
    event_id = f"{epoch or log.epoch}-{record.sequence}"
    try:
        return ServerSentEvent(id=event_id, event=record.event, data=record.data).encode()
    except InvalidEvent as error:
        raise LogUnusable(log.url, f"event {event_id} is invalid ({error}); delete or mend that row") from error
