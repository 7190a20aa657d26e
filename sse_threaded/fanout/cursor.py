"""Reads the log for one client, page by page, after its last event.

One thread at a time uses a cursor.
"""

from __future__ import annotations

from ..errors import HistoryGone, InvalidEvent, LogUnavailable, LogUnusable
from ..log import EventLog, Page, Record
from ..protocol.event import FINISHED, RESET, ServerSentEvent, encode_event, json_line
from .extras import NO_EXTRAS, Extras
from .owner import Owner


class Cursor:
    """A client's position in the log.

    :param log: the log.
    :param channels: the channels that the client subscribes to.
    :param last_event_id: the id of the last event that the client has; ``None`` to begin at the log's end.
    :param known: see :meth:`EventLog.sequence_of`; default 0.
    :param end: the epoch and the number at the log's end, if they are known; default ``None``.
    :raises LogError: the log cannot be read.

    :ivar channels: as given.
    :ivar epoch: the epoch of the log that the position belongs to.
    :ivar after: the number up to which the client has all events.
    :ivar finishes: whether one of the channels was finished by an event that the client has got.
    :ivar is_over: whether all channels are finished, and the client has all their events.
    :ivar allowed_at: see :class:`.subscriber.Subscriber`.
    :ivar address: the client's address; ``None``, the default, if it is not known.
    :ivar extras: the client's extras; default :data:`.extras.NO_EXTRAS`.
    :ivar owner: whose stream it is; ``None``, the default, if that does not matter.
    :ivar replayed: how many events :meth:`read_wires` has returned.
    :ivar reset: why the client must refetch (see :class:`HistoryGone`); ``None`` while nothing is missing.
    :ivar told: the reason of the reset that the last :meth:`read_wires` has returned; ``None`` for no reset.
    """

    __slots__ = (
        "_log", "address", "after", "allowed_at", "channels", "epoch", "extras", "finishes", "is_over", "owner",
        "replayed", "reset", "told",
    )  # fmt: skip

    def __init__(
        self,
        log: EventLog,
        channels: tuple[str, ...],
        last_event_id: str | None,
        known: int = 0,
        end: tuple[str | None, int] | None = None,
    ) -> None:
        self._log = log
        self.channels = channels
        self.reset: str | None = None
        self.told: str | None = None
        self.replayed = 0
        self.finishes = self.is_over = False
        self.allowed_at = 0.0
        self.extras: Extras = NO_EXTRAS
        self.address: str | None = None
        self.owner: Owner | None = None
        if last_event_id is None:
            if end is not None and end[0] is not None:
                self.epoch, self.after = end
            else:
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
        return f"{self.epoch}-{self.after}"

    def id_of(self, sequence: int) -> str:
        """The id of an event that this cursor has read."""
        return f"{self.epoch}-{sequence}"

    @property
    def is_stale(self) -> bool:
        """Whether the log was recreated since the cursor got its position."""
        return self._log.epoch != self.epoch

    def read(self, upto: int | None = None) -> Page:
        """The next page. It is empty if there are no more events up to ``upto``, or if :attr:`reset` was set.

        :raises LogError: the log cannot be read.
        """
        try:
            if self.is_stale:
                self._follow()
            page = self._log.read(self.after, channels=self.channels, upto=upto)
            if self.is_stale:  # these events may be of another log
                raise HistoryGone("epoch")
        except HistoryGone as gone:
            self._begin_anew(gone, upto)
            return Page()
        if page:
            self.after = page[-1].sequence
            self.finishes = self.finishes or any(record.event == FINISHED for record in page)
        return page

    def _follow(self) -> None:
        """Take on the log's newest epoch. Some logs begin one and keep their events.

        :raises HistoryGone: events may be gone.
        """
        epoch = self._log.epoch
        self.after = self._log.sequence_of(self.event_id)
        self.epoch = epoch

    def _begin_anew(self, gone: HistoryGone, upto: int | None) -> None:
        if upto is None:
            self._go_to_end()
        elif gone.reason == "epoch":
            # upto was a number of the old log.
            raise LogUnavailable(self._log.url, "the log was recreated just now; try again")
        else:
            self.after = upto
        self.reset = gone.reason

    def _go_to_end(self) -> None:
        self.epoch, _, last = self._log.last_event_id().partition("-")
        self.after = int(last)

    def read_wires(self, upto: int | None = None) -> list[bytes]:
        """The bytes of each event of the next page, or of a ``reset``; empty if there are no more events."""
        page = [] if self.reset else self.read(upto)
        wires = [encode(self._log, each, self.epoch, names_channel=self.extras.channel) for each in page]
        self.replayed += len(wires)
        self.told = self.reset
        if self.reset:
            wires = [ServerSentEvent(id=self.event_id, event=RESET, data={"reason": self.reset}).encode()]
            self.reset = None
        return wires

    def read_wire(self, upto: int | None = None) -> bytes:
        """The bytes of :meth:`read_wires`, joined."""
        return b"".join(self.read_wires(upto))


def encode(log: EventLog, record: Record, epoch: str | None = None, *, names_channel: bool = False) -> bytes:
    """The bytes of an event, the same for every kind of client.

    :param epoch: the log's epoch when the record was read; ``None``, the default, if it has not changed since.
    :param names_channel: whether the event has a field ``channel``, with the name as JSON; default ``False``.
        Readers that do not know the field ignore it (WHATWG HTML 9.2.6).
    :raises LogUnusable: the row is an invalid event; another program has written it into the log.
    """
    event_id = f"{epoch or log.epoch}-{record.sequence}"
    try:
        channel = json_line(record.channel) if names_channel else None
        return encode_event(record.data, record.event, event_id, channel=channel)
    except InvalidEvent as error:
        raise LogUnusable(log.url, f"event {event_id} is invalid ({error}); delete or mend that row") from error
