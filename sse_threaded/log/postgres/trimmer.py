"""Trims a log in PostgreSQL to its retention, on a thread of its own and a little at a time.

One process trims at a time: the step in PostgreSQL has a lock, and another process does nothing then. A process
that found nothing to trim waits longer before its next round. So with many processes one of them does most of the
work, and the others only look now and then.
"""

from __future__ import annotations

import logging
import random
import threading
from contextlib import suppress

from ...errors import LogError
from ...throttled_log import ThrottledLog
from ..retention import AS_OTHERS_KEEP, MESSAGES, MESSAGES_SECONDS, Retention
from .client import PostgresClient
from .statements import Statements

_log = logging.getLogger(__name__)

# Events that one step deletes, and channels that it looks at: some milliseconds. No writer waits for it.
_EVENTS, _CHANNELS = 500, 200

# A channel is trimmed if it has so much more than it keeps: this share of its bounds, and at least so many events.
_SLACK_SHARE, _LEAST_SLACK = 16, 16

# Steps of one round. The next round goes on from there.
_STEPS = 50

# Seconds between two rounds, while there is something to trim, and the longest time without.
_SHORTEST, _LONGEST = 5.0, 60.0

# Channels without events for which the log remembers the newest trimmed number. Of further ones it forgets the
# oldest. One number stands for all of these, and a client that resumes from before it gets a reset.
REMEMBERED_CHANNELS = 10_000


class Trimmer:
    """The trimming of one process. Its thread starts with the first doorbell.

    :param client: the log's.
    :param statements: the log's.
    :param retention: how much is kept.
    :param remembered_channels: for how many channels without events the log remembers the newest trimmed number.
    """

    def __init__(
        self, client: PostgresClient, statements: Statements, retention: Retention, remembered_channels: int
    ) -> None:
        self._client = client
        self._statements = statements
        self._retention = retention
        self._remembered_channels = remembered_channels
        self._slack = max(_LEAST_SLACK, (retention.count or 0) // _SLACK_SHARE)
        self._slack_seconds = (retention.age or 0.0) / _SLACK_SHARE
        self._keeps_all = retention.count is None and retention.age is None
        self._throttled = ThrottledLog(_log)
        self._begin()

    def _begin(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards the thread
        self._thread: threading.Thread | None = None
        # Only the thread uses these two: the next round goes on after the channel, and after the number.
        self._channel = ""
        self._last_dropped = 0

    def start(self) -> None:
        """Start the thread unless it runs, or this process must not decide; any thread."""
        with self._lock:
            if self._thread is None and self._retention is not AS_OTHERS_KEEP and not self._stop.is_set():
                thread = threading.Thread(target=self._run, name="sse_threaded trimmer", daemon=True)
                with suppress(RuntimeError):  # the system has no more threads; another process trims
                    thread.start()
                    self._thread = thread

    def stop(self) -> None:
        """End the thread after its step; any thread."""
        self._stop.set()

    def after_fork_in_child(self) -> None:
        """Begin without a thread: it stayed with the parent."""
        self._begin()

    def trim_all(self) -> int:
        """Trim every channel now; any thread. Returns how many events were deleted.

        :raises LogError: PostgreSQL cannot be reached, or refuses.
        """
        channel, trimmed, is_end = "", 0, None
        while not is_end:
            channel, deleted, is_end = self._step(channel, 0, 0.0)
            trimmed += deleted
            if is_end is None:  # another process is at it; its step ends soon
                self._stop.wait(0.01)
        while self._fold():
            pass
        return trimmed

    def _run(self) -> None:
        wait = _SHORTEST
        while not self._stop.wait(wait * random.uniform(0.5, 1.5)):
            try:
                has_trimmed = self._round()
            except LogError as error:
                # The events stay for now; the next round tries again.
                fields = {"event": "trim_failed", "url": error.url, "error": type(error).__name__}
                self._throttled.warning(str(error), "could not trim: %s", error, extra=fields)
                has_trimmed = False
            wait = _SHORTEST if has_trimmed or self._channel else min(wait * 2, _LONGEST)

    def _round(self) -> bool:
        """Trim some channels; returns whether events were deleted."""
        self.drop_data_of_messages()
        if self._keeps_all:
            return False
        trimmed = 0
        for _ in range(_STEPS):
            self._channel, deleted, is_end = self._step(self._channel, self._slack, self._slack_seconds)
            trimmed += deleted
            if is_end in (True, None) or self._stop.is_set():
                break
        return trimmed > 0 or self._fold() > 0

    def drop_data_of_messages(self) -> None:
        """Drop the data of old messages between the processes; the thread calls it.

        :raises LogError: PostgreSQL cannot be reached, or refuses.
        """
        values = (MESSAGES, self._last_dropped, MESSAGES_SECONDS)
        ((last,),) = self._client.run(self._statements.drop_data, values)
        self._last_dropped = last or self._last_dropped

    def _step(self, channel: str, slack: int, slack_seconds: float) -> tuple[str, int, bool | None]:
        kept = self._retention.count, self._retention.age
        values = (channel, _CHANNELS, _EVENTS, *kept, slack, slack_seconds)
        ((after, deleted, is_end),) = self._client.run(self._statements.trim, values)
        return after, int(deleted), is_end

    def _fold(self) -> int:
        ((folded,),) = self._client.run(self._statements.fold, (self._remembered_channels, _EVENTS))
        return int(folded)
