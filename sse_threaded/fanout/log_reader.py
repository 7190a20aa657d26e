"""Reads new events from the log and gives each to its subscribers. The pump's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..errors import HistoryGone, LogError
from ..log import EventLog, Page, Record
from .control_events import CONTROL, disconnection_in, parts_of
from .delivery import deliver
from .delivery_times import DeliveryTimes
from .finished_channels import FinishedChannels
from .observers import NO_OBSERVERS, Observers
from .owners import Disconnection
from .presence_port import PresencePort
from .registry import Registry
from .sent_counts import SentCounts
from .timers import NEVER

_log = logging.getLogger(__name__)

# After events were sent, the next ones may wait for this share of the time that sending took, and for so many
# seconds at most. If events arrive faster than they are sent, more of them leave together, and publishers have the
# interpreter in between. A burst to 1000 streams then takes two thirds of the time.
_PAUSE_SHARE, _LONGEST_PAUSE = 0.5, 0.01

# Seconds between two tries to read a log that cannot be read, doubling from the first to the last.
FIRST_RETRY, LAST_RETRY = 0.1, 5.0
_DOUBLINGS = 6


# Functions by channel: each is called with the events of a channel of the package's own.
Listeners = Mapping[str, Callable[[Record], None]]
NO_LISTENERS: Listeners = MappingProxyType({})


def pause_after(seconds: float) -> float:
    """How long to pause after so many seconds of sending."""
    # In whole milliseconds, rounded down, as the selector rounds up. So with few clients no event waits.
    return min(int(seconds * _PAUSE_SHARE * 1000) / 1000, _LONGEST_PAUSE)


class LogReader:
    """Reads a log from the registry's position on.

    :param log: the log.
    :param registry: the subscribers.
    :param finished: ends the streams of channels that are finished.
    :param presence: gets the messages between the processes; default ``None``.
    :param listeners: called with each event of some channels of the package's own, after it was handed out. They
        must not wait. Default: none.
    :param first_retry: seconds until the first new try if the log cannot be read; default :data:`FIRST_RETRY`.
    :param observers: the hub's observers; default: none.
    :param sent: counts the events that are handed to the kernel; default: no count.
    :param times: measures the events that this process publishes; default: no measurement.

    :ivar due: when to read next (monotonic).
    :ivar is_current: whether all events that the doorbell has rung for were handed out.
    """

    def __init__(
        self,
        log: EventLog,
        registry: Registry,
        finished: FinishedChannels,
        *,
        presence: PresencePort | None = None,
        listeners: Listeners = NO_LISTENERS,
        first_retry: float = FIRST_RETRY,
        observers: Observers = NO_OBSERVERS,
        sent: SentCounts | None = None,
        times: DeliveryTimes | None = None,
    ) -> None:
        self._observers = observers
        self._sent = sent or SentCounts(observers)
        self._times = times or DeliveryTimes(observers)
        self._eventlog = log
        self._registry = registry
        self._finished = finished
        self._presence = presence
        self._listeners = listeners
        self._first_retry = first_retry
        self.due = 0.0
        self.is_current = False
        self._pauses_until = 0.0  # monotonic
        # Whether the doorbell has rung since the last reading for events of this process, and for others.
        self._has_own = self._has_others = False
        self._failures = 0  # failed tries since the last successful one
        self._must_skip = False  # events are gone that were not handed out

    def postpone(self, seconds: float) -> None:
        """Read next after so many seconds."""
        self.due = time.monotonic() + seconds

    def read(self, *, was_rung: bool, is_closing: bool, is_own: bool = False) -> None:
        """Hand out one page of new events, if it is time.

        :param was_rung: whether the log's doorbell has rung for a new event.
        :param is_own: whether only events of this process have rung; default ``False``.
        :param is_closing: whether the end begins. Then it is time: events that were published before must go out.
        """
        if was_rung:
            self.is_current = False
            self.due = self._pauses_until
            self._has_own = self._has_own or is_own
            self._has_others = self._has_others or not is_own
        if time.monotonic() < self.due and not is_closing:
            return
        is_own = self._has_own and not (self._has_others or is_closing)
        self._has_own = self._has_others = False
        try:
            if self._must_skip:  # and the last try to find the log's end failed
                self._eventlog.read(self._registry.position)  # since then another epoch may have begun
                raise HistoryGone("expired")
            page = self._eventlog.own_events(self._registry.position) if is_own else None
            if page is None:
                page = self._eventlog.read(self._registry.position)
            for part in parts_of(page):
                self._hand_out(part)
                if self._presence is not None:
                    self._presence.see(part)
            self._tell_listeners(page)
        except HistoryGone:
            self._skip()
            return
        except LogError as error:
            self._note_failure(error)
            return
        if self._failures:
            url = self._eventlog.url
            _log.warning("the log can be read again: %s", url, extra={"event": "log_readable", "url": url})
            self._failures = 0
        self.is_current = not page.full
        if page.full:
            self.due = 0.0  # the pump sees to timers and hang-ups before the next page
        else:
            interval = self._eventlog.poll_interval
            self.due = NEVER if interval is None else time.monotonic() + interval

    def _tell_listeners(self, page: Page) -> None:
        if not self._listeners:
            return
        for record in page:
            listener = self._listeners.get(record.channel)
            if listener is not None:
                try:
                    listener(record)
                except Exception:  # no stream may end because of this
                    fields = {"event": "message_unknown"}
                    _log.exception("message %d of a process is not understood", record.sequence, extra=fields)

    def _skip(self) -> None:
        """Continue at the log's end, as events are gone that were not handed out."""
        self._must_skip = True
        self.is_current = False
        self._finished.forget()
        try:
            last = self._eventlog.last_sequence()
            self._registry.skip_to(last, self._disconnections(last))
        except LogError as error:
            self._note_failure(error)
        else:
            self._must_skip = False
            self.due = 0.0
            if self._presence is not None:
                self._presence.note_gap()

    def _disconnections(self, upto: int) -> list[Disconnection] | None:
        """The disconnections between the position and a number; ``None`` if they cannot be known."""
        epoch, position = self._registry.place
        if epoch != self._eventlog.epoch:
            return []  # it is another log, which has had none
        try:
            page = self._eventlog.read(position, channels=(CONTROL,), upto=upto)
        except HistoryGone as gone:
            return None if gone.reason == "expired" else []
        if page.full:
            return None
        return [each for each in map(disconnection_in, page) if each is not None]

    def _note_failure(self, error: LogError) -> None:
        """Try again later, as the log cannot be read."""
        if not self._failures:
            fields = {"event": "log_unreadable", "url": self._eventlog.url, "error": type(error).__name__}
            _log.error("cannot read events, streams stay open and wait: %s", error, extra=fields)
        self._observers.read_failed()
        seconds = min(self._first_retry * (1 << min(self._failures, _DOUBLINGS)), LAST_RETRY)
        self._failures += 1
        self.is_current = False
        self.due = time.monotonic() + seconds

    def _hand_out(self, page: Page) -> None:
        """Send the events of a page, or of a part of one that ends with a control event."""
        begun = time.monotonic()
        before = self._registry.position
        deliveries = self._registry.deliveries(page)
        deliver(self._registry, deliveries, self._sent)
        self._finished.see(page)
        disconnection = disconnection_in(page[-1])
        if disconnection is not None:
            self._registry.disconnect(disconnection)
        now = time.monotonic()
        self._pauses_until = now + pause_after(now - begun)
        if self._observers.are_any:
            self._times.handed_out(before, page[-1].sequence, now)
            self._observers.handed_out(page[-1].sequence, len(page), now - begun)
