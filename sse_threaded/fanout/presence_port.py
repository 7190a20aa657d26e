"""Where the pump and the thread of presence meet.

The pump reads the log for all, so it hands on the messages between the processes. And only the pump sends to
streams, so it sends what the thread of presence has made. Neither waits for the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ..log import Page, Record
from ..log.doorbell import Doorbell
from ..log.retention import MESSAGES
from .attendance import Attendance
from .control_events import CONTROL
from .delivery import deliver
from .presence_notices import PresenceNotices
from .registry import Registry
from .sent_counts import SentCounts

_CHANNELS = frozenset((MESSAGES, CONTROL))


class PresenceListener(Protocol):
    """The part of the thread of presence that the pump calls. It must not wait."""

    def hear(self, records: Sequence[Record]) -> None:
        """Take messages between the processes, and disconnections, in the log's order."""

    def note_gap(self) -> None:
        """Note that messages may be missing."""

    def want(self, channels: set[tuple[str, ...]]) -> None:
        """Make the lists for streams of these channels."""


class PresencePort:
    """The place where the pump and presence hand things to each other.

    :param registry: the subscribers.
    :param attendance: the people who have streams here.
    :param bell: the pump's.
    :param sent: counts the events that are handed on.

    :ivar attendance: as given.
    :ivar listener: the thread of presence; ``None`` while presence is not used.
    """

    def __init__(self, registry: Registry, attendance: Attendance, bell: Doorbell, sent: SentCounts) -> None:
        self._registry = registry
        self.attendance = attendance
        self._bell = bell
        self._sent = sent
        self.listener: PresenceListener | None = None
        self._notices: deque[PresenceNotices] = deque()  # any thread appends

    # Any thread.

    def send(self, notices: PresenceNotices) -> None:
        """Have the pump send events about presence."""
        self._notices.append(notices)
        self._bell.ring()

    def shows(self, channel: str) -> bool:
        """Whether a stream here shows the people of a channel."""
        return self._registry.shows_presence(channel)

    @property
    def is_shown(self) -> bool:
        """Whether any stream here shows people."""
        return self._registry.has_presence

    # The pump's thread.

    def see(self, page: Page) -> None:
        """Hand on the messages in a page that was handed out."""
        if self.listener is not None:
            records = [record for record in page if record.channel in _CHANNELS]
            if records:
                self.listener.hear(records)

    def note_gap(self) -> None:
        """Note that the pump has left out events."""
        if self.listener is not None:
            self.listener.note_gap()

    def run(self) -> None:
        """Send what there is, and want lists for new streams."""
        while self._notices:
            deliver(self._registry, self._registry.presence_deliveries(self._notices.popleft()), self._sent)
        if self._registry.has_unlisted and self.listener is not None:
            self.listener.want(self._registry.take_unlisted())
