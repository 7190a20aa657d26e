"""Rings when there are new events, with one connection and one thread.

The connection waits for ``NOTIFY``, which is a hint only: events are read from the tables. When the connection is
cut off, or PostgreSQL restarts, the thread connects again and rings, so that nothing is missed. ``LISTEN`` may be
impossible, such as through a pooler that shares its connections. Then the thread rings every half second instead.

Events of an app's own transactions have no number yet. One process gives them: the *numberer*. Its listening
connection holds a session lock, which PostgreSQL frees when the connection ends.
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

# Seconds after which the numberer looks for events without a number although no notification has come.
_NUMBERING = 10.0

# Seconds for which a process leaves the role of the numberer to others, after it could not give numbers.
_REST = 10.0


class Listener:
    """The thread that waits for events, for one log. Any thread may call its methods.

    :param address: where the database is; the connection goes to its ``?listen=``, if there is one.
    :param client: the client of all other threads. The listener tells it when PostgreSQL answers again.
    :param on_pending: gives numbers to events that have none. It is called on the listener's thread: by the
        numberer after each ``pending``, and now and then; and by every process where ``LISTEN`` is impossible. It
        may raise :exc:`LogError`.
    :param timeouts: default :class:`Timeouts`.
    :param newest: a statement that returns the message of the newest number. The listening connection runs it once
        in ``Timeouts.look``, as a precaution against unknown faults. Another message than the last one that came
        rings. Default: a statement without a message.
    """

    def __init__(
        self,
        address: Address,
        client: PostgresClient,
        on_pending: Callable[[], object],
        timeouts: Timeouts | None = None,
        *,
        newest: str = "SELECT NULL",
    ) -> None:
        self._newest = newest
        self._address = address
        self._client = client
        self._on_pending = on_pending
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
        self._is_numberer = False
        self._resting_until = 0.0
        self._next_numbering = 0.0
        self._newest_message: object = None  # as it came, or was looked at
        self._has_pending = False  # for the numberer: events may have no number
        self._pending_since: float | None = None  # for the others: no number has come since then
        self._has_rung = False

    def __repr__(self) -> str:
        state = self._failure or self._why_polling or ("listening" if self._notifications else "not connected")
        return f"<Listener {self._address.url} numberer={self._is_numberer} {state}>"

    @property
    def is_running(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    @property
    def is_numberer(self) -> bool:
        """Whether this process gives numbers to the events of apps' transactions."""
        return self._is_numberer

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
        self._notifications = notifications
        if self._has_said_polling:
            _log.warning("%s: notifications arrive again", self._address.url)
        self._why_polling, self._polling_since, self._has_said_polling = None, None, False
        self._client.note_answer()
        self._recover()
        self.ring()
        while not self._is_stopped:
            self._look(notifications)
            next_look = time.monotonic() + self._timeouts.look
            while not self._is_stopped and (left := next_look - time.monotonic()) > 0:
                for message in notifications.wait(left):
                    self._hear(message)
                self._answer()

    def _hear(self, message: str) -> None:
        if message == PENDING:
            self._has_pending = True
            self._pending_since = self._pending_since or time.monotonic()
        else:
            self._has_rung, self._pending_since, self._newest_message = True, None, message

    def _answer(self) -> None:
        """Act on the notifications: many of them need only one answer."""
        if self._has_rung:
            self._has_rung = False
            self.ring()
        # Also if a number came after it: the events may have been committed while others got their numbers.
        if self._has_pending and self._is_numberer and not self._failure:
            self._number()

    def _look(self, notifications: Notifications) -> None:
        """Look whether the connection is alive, and act if it is time.

        :raises psycopg.Error: it is not.
        """
        now = time.monotonic()
        if not self._is_numberer and now >= self._resting_until:
            self._is_numberer = notifications.take_role()
            self._next_numbering = now
        newest = notifications.look(self._newest)
        if newest is not None:
            self._has_rung = self._has_rung or self._newest_message not in (None, newest)
            self._newest_message = newest
        # If events have waited for this long, the numberer hangs, or its host is gone.
        is_late = self._pending_since is not None and now - self._pending_since > self._timeouts.look
        is_due = self._is_numberer and (now >= self._next_numbering or self._has_pending)
        if is_due or is_late or self._failure:
            self._number()
        self._answer()
        self._client.drop_idle()

    def _number(self) -> None:
        self._has_pending, self._pending_since = False, None
        self._next_numbering = time.monotonic() + _NUMBERING
        try:
            self._on_pending()
        except Unreachable as error:
            self._has_pending = True
            self._fail(error.reason)
        except Exception as error:
            self._throttled.warning("numbers", "events wait for their numbers: %s", error)
            if self._is_numberer and self._notifications is not None:
                self._notifications.leave_role()
                self._is_numberer, self._resting_until = False, time.monotonic() + _REST
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
            self._on_pending()
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
            _log.warning("%s: looks for events every %s: %s", self._address.url, period, why)
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
        _log.error("the listener failed", exc_info=error)
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
        self._is_numberer = False
        if notifications is not None:
            notifications.close()
