"""The epochs that a process knows of a log in PostgreSQL, and the newest number that it has seen committed.

Every answer of the log names its epoch. If it is another one than before, the process reads the epochs again. The
reader of all events, if there is one, must take them on between two reads. Otherwise an event would get an id of
the wrong epoch.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ...errors import HistoryGone, LogUnavailable
from .epochs import Epochs

_log = logging.getLogger(__name__)


class KnownEpochs:
    """The epochs of one log, as one process knows them. Any thread may call the methods.

    :param url: the log's, for messages.
    :param read: reads the epochs, and makes the log if it is not there. It gets for how many seconds it may try.
    :param ring: wakes the reader of all events.
    :param known: those that are known at the start; default: none.
    """

    def __init__(
        self,
        url: str,
        read: Callable[[float], Epochs],
        ring: Callable[[], object],
        known: Epochs | None = None,
    ) -> None:
        self._url = url
        self._read = read
        self._ring = ring
        # Guards all below.
        self._lock = threading.Lock()
        self._known = known
        self._next: Epochs | None = None  # of the newest log; the reader of all events takes them on
        self._newest = ("", 0)
        self._has_reader = False

    @property
    def newest(self) -> tuple[str, int]:
        """An epoch, and its newest number that was seen committed; ``("", 0)`` at the start."""
        return self._newest

    @property
    def known(self) -> Epochs | None:
        """The epochs; ``None`` before they were read for the first time."""
        return self._known

    @property
    def is_changing(self) -> bool:
        """Whether there is a new epoch that the reader of all events has not taken on."""
        return self._next is not None

    def get(self, retry_for: float = 0.0) -> Epochs:
        """Return the epochs, and read them if they are not known.

        :param retry_for: seconds for which a read tries again; default 0.
        :raises LogError: they cannot be read.
        """
        known = self._known
        if known is None:
            found = self._read(retry_for)
            with self._lock:
                known = self._known = self._known or found
        return known

    def note(self, epoch: str, last: int) -> bool:
        """Note the epoch and the newest number in an answer; returns whether the epoch is as before.

        :raises LogError: it is another one, and cannot be read.
        """
        with self._lock:
            known = self._known
            if known is None or known.current == epoch:
                self._newest = (epoch, max(last, self._newest[1]) if self._newest[0] == epoch else last)
                if known is not None:
                    return True
        if known is None:
            return self.get().current == epoch
        self._meet(epoch)
        return False

    def has_had(self, epoch: str | None) -> bool:
        """Whether the log has this epoch, or had it.

        :raises LogError: the epochs cannot be read.
        """
        for epochs in (self._known, self._next):
            if epochs is not None and (epoch == epochs.current or epoch in epochs.ended):
                return True
        epochs = self._read(0.0)
        if epochs.current != self.get().current:
            self._meet(epochs.current)
        return epoch == epochs.current or epoch in epochs.ended

    def begin_reading(self) -> None:
        """Note that this thread reads all events, and is about to read.

        :raises HistoryGone: there is a new epoch; it was taken on.
        """
        self._has_reader = True
        if self.take_on():
            raise HistoryGone("epoch")

    def take_on(self) -> bool:
        """Go on with the new epoch, if there is one; returns whether there was."""
        with self._lock:
            if self._next is None:
                return False
            self._known, self._next = self._next, None
            return True

    def made_anew(self) -> LogUnavailable:
        """Return an error: a new epoch begins just now."""
        return LogUnavailable(self._url, "a new epoch of the log began just now; try again")

    def _meet(self, epoch: str) -> None:
        """Read the epochs of a log that is another one than before."""
        following = self._next
        if following is None or following.current != epoch:
            epochs = self._read(0.0)
            with self._lock:
                if self._known is None or epochs.current == self._known.current:
                    return
                if self._next is None:
                    _log.warning(
                        "%s has a new epoch; clients that have seen lost events get a reset",
                        self._url,
                        extra={"event": "log_new_epoch", "url": self._url},
                    )
                self._next = epochs
        if self._has_reader:
            self._ring()
        else:
            self.take_on()
