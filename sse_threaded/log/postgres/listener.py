"""Rings when there are new events, with one connection and one thread.

The connection waits for ``NOTIFY``, which is a hint only: events are read from the tables. When the connection is
cut off, or PostgreSQL restarts, the thread connects again and rings, so that nothing is missed. ``LISTEN`` may be
impossible, such as through a pooler that shares its connections. Then the thread rings every half second instead.

Events of an app's own transactions have no number yet. One process gives them, see :mod:`.numberer`.
"""

from __future__ import annotations

import logging
import secrets
import select
import threading
import time
from collections.abc import Callable

import psycopg

from ...errors import LogError
from ...throttled_log import ThrottledLog
from ..doorbell import Doorbell
from .client import PostgresClient
from .connector import Connector
from .driver import forget
from .errors import Unreachable
from .notifications import Impossible, Notifications
from .numberer import Numberer
from .timeouts import Timeouts
from .url import Address

_log = logging.getLogger(__name__)

# The message of a transaction of the app that has committed events without a number.
PENDING = "pending"

# Seconds between two tries to connect, doubling from the first to the last. Each is varied by a half, because all
# processes lose the same server at once.
_FIRST_RETRY, _LAST_RETRY = 0.05, 2.0

# Seconds of polling after which the log says so. A restart of PostgreSQL takes less.
_PATIENCE = 10.0


class Listener:
    """The thread that waits for events, for one log. Any thread may call its methods.

    :param address: where the database is; the connection goes to its ``?listen=``, if there is one.
    :param client: the client of all other threads. The listener tells it when PostgreSQL answers again.
    :param give: gives numbers to events that have none, and returns how many they were. It is called on the
        listener's thread. It may raise :exc:`LogError`.
    :param timeouts: default :class:`Timeouts`.
    :param newest: a statement that returns the message of the newest number. The listening connection runs it once
        in ``Timeouts.look``, as a precaution against unknown faults. Another message than the last one that came
        rings. Default: a statement without a message.
    """

    def __init__(
        self,
        address: Address,
        client: PostgresClient,
        give: Callable[[], int],
        timeouts: Timeouts | None = None,
        *,
        newest: str = "SELECT NULL",
    ) -> None:
        self._newest = newest
        self._address = address
        self._client = client
        self._give = give
        self._timeouts = timeouts or Timeouts()
        try:
            self._connector = Connector(address.listen, "sse_threaded listener", self._timeouts)
        except psycopg.Error as error:
            raise client.errors.translate(error) from None
        self._begin()

    def _begin(self) -> None:
        self._stop = Doorbell()
        self._is_stopped = False
        # Guards the thread and the doorbells while a doorbell is opened.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._doorbells: list[Doorbell] = []
        self._throttled = ThrottledLog(_log)
        # Those below are written by the thread only.
        self._failure: str | None = None
        self._why_polling: str | None = None
        self._polling_since: float | None = None  # monotonic, as all times here
        self._has_said_polling = False
        self._notifications: Notifications | None = None  # while it listens
        self._numberer: Numberer | None = None  # while it listens
        self._newest_message: object = None  # as it came, or was looked at
        self._has_rung = False

    def __repr__(self) -> str:
        state = self._failure or self._why_polling or ("listening" if self._notifications else "not connected")
        return f"<Listener {self._address.url} numberer={self.is_numberer} {state}>"

    @property
    def is_running(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    @property
    def is_numberer(self) -> bool:
        """Whether this process gives numbers to the events of apps' transactions."""
        numberer = self._numberer
        return numberer is not None and numberer.has_role

    @property
    def failure(self) -> str | None:
        """Why no event comes now, one sentence; ``None`` if there is no failure.

        During a failure a thread that must not wait does not ask PostgreSQL: the listener tries, and rings.
        """
        return self._failure

    @property
    def why_polling(self) -> str | None:
        """Why events come by polling, one sentence; ``None`` if they come by ``NOTIFY``, or not at all."""
        return None if self._failure else self._why_polling

    def open_doorbell(self) -> Doorbell:
        """Return a new doorbell; the first one starts the thread."""
        doorbell = Doorbell()
        with self._lock:
            self._doorbells = [bell for bell in self._doorbells if not bell.closed] + [doorbell]
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="sse_threaded listener", daemon=True)
                thread.start()
                self._thread = thread
        return doorbell

    def ring(self) -> None:
        """Wake the threads that wait on the doorbells."""
        for doorbell in self._doorbells:
            doorbell.ring()

    def stop(self) -> None:
        """End the thread, and its connection; idempotent."""
        self._is_stopped = True
        self._stop.ring()

    def after_fork_in_child(self) -> None:
        """Begin without a thread: it stayed with the parent."""
        forget(self._notifications)
        self._begin()

    # The thread.

    def _run(self) -> None:
        wait = _FIRST_RETRY
        while not self._is_stopped:
            is_certain = False
            try:
                self._serve()
            except Impossible as error:
                why, is_certain = str(error), True
            except Exception as error:
                # Streams wait for events whatever the error is, so the thread goes on.
                why = self._reason(error)
            else:
                why = ""
            if self._notifications is not None:
                wait = _FIRST_RETRY
            self._disconnect()
            pause = self._timeouts.listen if is_certain else wait * (0.5 + secrets.randbelow(1000) / 1000)
            wait = min(wait * 2, _LAST_RETRY)
            self._poll_for(pause, why, is_certain=is_certain)

    def _serve(self) -> None:
        """Listen until :meth:`stop`.

        :raises Exception: any error of the connection.
        """
        notifications = Notifications(self._connector, self._address, self._client, self._stop)
        numberer = Numberer(notifications.connection, self._address, self._give, self._timeouts)
        self._notifications, self._numberer = notifications, numberer
        if self._has_said_polling:
            url = self._address.url
            fields = {"event": "notifications_again", "url": url}
            _log.warning("%s: notifications arrive again", url, extra=fields)
        self._why_polling, self._polling_since, self._has_said_polling = None, None, False
        self._client.note_answer()
        self._recover()
        self.ring()
        while not self._is_stopped:
            self._look(notifications, numberer)
            next_look = time.monotonic() + self._timeouts.look
            while not self._is_stopped and (now := time.monotonic()) < next_look:
                end = next_look if self._failure else min(next_look, numberer.next)
                for message in notifications.wait(max(end - now, 0.0)):
                    self._hear(message, numberer)
                self._answer(numberer)

    def _hear(self, message: str, numberer: Numberer) -> None:
        if message == PENDING:
            numberer.hear_call()
        else:
            numberer.hear_number()
            self._has_rung, self._newest_message = True, message

    def _answer(self, numberer: Numberer) -> None:
        """Act on the notifications: many of them need only one answer."""
        if self._has_rung:
            self._has_rung = False
            self.ring()
        # Also if a number came after it: the events may have been committed while others got their numbers.
        if numberer.is_due and not self._failure:
            self._number(numberer)

    def _look(self, notifications: Notifications, numberer: Numberer) -> None:
        """Look whether the connection is alive, and act if it is time.

        :raises psycopg.Error: it is not.
        """
        numberer.look()
        newest = notifications.look(self._newest)
        if newest is not None:
            self._has_rung = self._has_rung or self._newest_message not in (None, newest)
            self._newest_message = newest
        if self._failure:
            self._number(numberer)
        self._answer(numberer)
        self._client.drop_idle()

    def _number(self, numberer: Numberer) -> None:
        try:
            numberer.number()
        except Unreachable as error:
            self._fail(error.reason)
        except Exception as error:
            fields = {"event": "numbers_late", "url": self._address.url, "error": type(error).__name__}
            self._throttled.warning("numbers", "events wait for their numbers: %s", error, extra=fields)
            numberer.leave_role()
        else:
            self._recover()

    def _poll_for(self, seconds: float, why: str, *, is_certain: bool) -> None:
        """Look for events without notifications, for so long.

        :param why: the reason, one sentence.
        :param is_certain: whether it will stay like this.
        """
        end = time.monotonic() + seconds
        while not self._is_stopped:
            self._poll(why, is_certain)
            left = end - time.monotonic()
            if left <= 0:
                return
            self._sleep(min(left, self._timeouts.poll))

    def _poll(self, why: str, is_certain: bool) -> None:
        try:
            self._give()
        except Exception as error:
            self._polling_since = None
            self._fail(self._reason(error))
            return
        self._recover()
        self._why_polling = why
        now = time.monotonic()
        self._polling_since = self._polling_since or now
        if not self._has_said_polling and (is_certain or now - self._polling_since > _PATIENCE):
            self._has_said_polling = True
            period = f"{self._timeouts.poll:g} s"
            url = self._address.url
            fields = {"event": "notifications_missing", "url": url, "reason": why}
            _log.warning("%s: looks for events every %s: %s", url, period, why, extra=fields)
        self.ring()

    def _sleep(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._stop.fileno(), select.POLLIN)
        poll.poll(int(seconds * 1000) + 1)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, psycopg.Error):
            error = self._client.errors.translate(error, had_effect=False)
        if isinstance(error, LogError):
            return error.reason
        _log.error("the listener failed", exc_info=error, extra={"event": "listener_failed"})
        return "the listener failed"

    def _fail(self, reason: str) -> None:
        is_new, self._failure = self._failure is None, reason
        if is_new:
            self.ring()

    def _recover(self) -> None:
        has_failed, self._failure = self._failure is not None, None
        if has_failed:
            self.ring()

    def _disconnect(self) -> None:
        notifications, self._notifications = self._notifications, None
        self._numberer = None
        if notifications is not None:
            notifications.close()
