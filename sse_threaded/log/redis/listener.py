"""Brings the newest events of a Redis log into this process, with one connection and one thread.

The thread waits in ``XREAD`` and rings when an event has come. When its connection is cut off, or Redis restarts,
it connects again and goes on at the same place. Until then :meth:`Listener.page` raises.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable

from redis import exceptions

from ...errors import LogError, LogUnavailable
from ..doorbell import Doorbell
from ..record import Page
from .client import RedisClient, SharedClient
from .event_buffer import EventBuffer
from .gaps import Gaps
from .pages import record_of
from .scripts import NEW_EPOCH, STATE

_log = logging.getLogger(__name__)

# Milliseconds that one XREAD waits. If its answer does not come, the connection is cut. After each of them the
# thread looks whether Redis is still the same.
_BLOCK_MS = 1000
_NO_WAIT = None

# Entries of one answer: an entry may have a megabyte.
_ENTRIES = 16

# The greatest second part of an entry's id.
_LAST_ENTRY = 2**64 - 1

# Seconds between two tries to connect, doubling from the first to the last. Each is varied by a half, because all
# processes lose the same server at once.
_FIRST_RETRY, _LAST_RETRY = 0.05, 2.0

# Seconds until the Sentinels are asked again for the master. It is longer after they did not answer: asking may
# take seconds then, in which no event comes.
_MASTER_LOOK, _NO_SENTINEL = 1.0, 30.0


class Listener:
    """The thread that waits for events, for one log. Any thread may call its methods.

    :param client: only the listener uses its connections.
    :param shared: the client of all other threads. The listener calls it when Redis answers again, and when the
        master changes.
    :param on_new_epoch: called when Redis has a new log; :meth:`renew` is to follow.
    :ivar buffer: the events that have come.
    """

    def __init__(self, client: RedisClient, shared: SharedClient, on_new_epoch: Callable[[], None]) -> None:
        self._client = client
        self._shared = shared
        self._on_new_epoch = on_new_epoch
        self._begin()

    def _begin(self) -> None:
        self.buffer = EventBuffer()
        self._stop = threading.Event()
        # Guards the thread and the doorbells while a doorbell is opened.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._next_look = 0.0  # for the master (monotonic)
        self._doorbells: list[Doorbell] = []
        self._failure: str | None = None  # written by the thread only

    def renew(self, epoch: str | None) -> None:
        """Go on with another epoch: the events so far belong to a log that is gone."""
        self.buffer.renew(epoch)

    @property
    def is_running(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    @property
    def failure(self) -> str | None:
        """Why no event comes now, one sentence; ``None`` if there is no failure."""
        return self._failure

    def open_doorbell(self, epoch: str) -> Doorbell:
        """Return a new doorbell; the first one starts the thread.

        :param epoch: the log's.
        """
        doorbell = Doorbell()
        if self._thread is None:
            self.renew(epoch)
        with self._lock:
            self._doorbells = [bell for bell in self._doorbells if not bell.closed] + [doorbell]
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="sse_threaded listener", daemon=True)
                thread.start()
                self._thread = thread
        return doorbell

    def page(self, after: int) -> Page | None:
        """Return one page of the events after ``after``; ``None`` if only the log itself has them.

        :raises HistoryGone: ``after`` is not in the log any more: another server took over, without it.
        :raises LogUnavailable: no more events are here, and Redis cannot be reached.
        """
        page = self.buffer.page(after)
        failure = self._failure
        if page is not None and not page and failure is not None:
            raise LogUnavailable(self._client.url, failure)
        return page

    def ring(self) -> None:
        """Wake the threads that wait on the doorbells."""
        for doorbell in self._doorbells:
            doorbell.ring()

    def stop(self) -> None:
        """End the thread, which may take a second; idempotent."""
        self._stop.set()

    def after_fork_in_child(self) -> None:
        """Begin without a thread: it stayed with the parent."""
        self._client.after_fork_in_child()
        self._begin()

    # The thread.

    def _run(self) -> None:
        wait = _FIRST_RETRY
        while not self._stop.is_set():
            try:
                self._look()
                self._listen(_NO_WAIT)
                self._recover()
                wait = _FIRST_RETRY
                while not self._stop.is_set():
                    self._listen(_BLOCK_MS)
                    self._look_for_master()
            except Exception as error:
                # Streams wait for events whatever the error is, so the thread goes on.
                self._client.close()
                self._fail(error)
                self._stop.wait(wait * (0.5 + secrets.randbelow(1000) / 1000))
                wait = min(wait * 2, _LAST_RETRY)
        self._client.close()

    def _recover(self) -> None:
        has_failed, self._failure = self._failure is not None, None
        if has_failed:
            self._shared.note_answer()
            self.ring()

    def _look_for_master(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        try:
            changed = self._client.find_new_master()
        except (exceptions.RedisError, OSError):
            self._next_look = now + _NO_SENTINEL
            return
        self._next_look = now + _MASTER_LOOK
        if changed:
            self._shared.reconnect()
            self._look()

    def _fail(self, error: Exception) -> None:
        error = error if isinstance(error, LogError) else self._client.errors.translate(error)
        if not isinstance(error, LogError):
            _log.error("the listener failed", exc_info=error, extra={"event": "listener_failed"})
        self._failure = error.reason if isinstance(error, LogError) else "the listener failed"
        self.ring()

    def _look(self, *, idle: bool = False) -> None:
        """Look whether the log is still the same, and has the events that came from it."""
        epoch, _ = self.buffer.place
        try:
            last, gaps = self._client.run(STATE, [epoch])
        except exceptions.ResponseError as error:
            if NEW_EPOCH not in str(error):
                raise
            self._on_new_epoch()
            self.ring()
            self._stop.wait(_FIRST_RETRY)  # until readers have taken on the new epoch
            return
        if self.buffer.update(epoch, int(last), Gaps(gaps), idle=idle) and not idle:
            self.ring()

    def _listen(self, wait: int | None) -> None:
        epoch, end = self.buffer.place
        if end is None:
            self._look()
            return
        feed = f"{self._client.base}{epoch}:feed"
        entries = self._client.entries_after(feed, f"{end}-{_LAST_ENTRY}", _ENTRIES, wait)
        if not entries:
            if wait is not None:
                self._look(idle=True)
            return
        records = [record_of(entry, fields) for entry, fields in entries]
        if not self.buffer.add(epoch, records):
            self._look()  # numbers may have been left out on purpose
            if not self.buffer.add(epoch, records):
                self.buffer.restart(records[-1].sequence)
        self.ring()
