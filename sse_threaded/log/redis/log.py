"""A log in Redis: many machines, one order. Redis 6.2 or newer, or Valkey; needs the extra ``redis``.

It uses streams and scripts, and not bare publish and subscribe: an event is in the log, with its number, before
any client gets it. Each append is one script (:mod:`.scripts`). The listener (:mod:`.listener`) reads new events.
Any thread may do replays and other reads; the driver pools their connections.

Redis may still lose events that it has acknowledged. This happens in a crash between two writes to its disk, or
when a replica takes over that was behind. The clients of such events get a ``reset``, so no loss goes unnoticed.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from redis.exceptions import ResponseError

from ...errors import HistoryGone, LogUnavailable, LogUnusable
from ..doorbell import Doorbell
from ..event_id import new_epoch
from ..interface import (
    EventLog,
    NestedTransaction,
    Snapshot,
    Transaction,
    needs_database,
)
from ..record import Page, Record
from ..retention import AS_OTHERS_KEEP, Retention
from ..startup import open_at_start
from ..validation import validate_event
from .client import RedisClient, SharedClient
from .listener import Listener
from .pages import bounds_of, page_from, record_from
from .scripts import (
    APPEND,
    BEGIN_TRANSACTION,
    CHECK,
    COMMIT_TRANSACTION,
    END_TRANSACTION,
    FROM_META,
    NEW_EPOCH,
    NEWEST,
    PREPARE,
    READ,
    REMEMBERED_CHANNELS,
    STATE,
    TRIM,
    TRIMMED,
    reading_script,
    writing_script,
)
from .timeouts import Timeouts
from .transaction import RedisSnapshot, RedisTransaction
from .url import parse_url

_log = logging.getLogger(__name__)

# Counts the versions of the keys. A log of a higher version is left alone.
SCHEMA = 1

_OLDEST_REDIS = (6, 2)

# How often a write is tried with the log's newest epoch.
_EPOCH_TRIES = 3


class RedisLog(EventLog):
    """``redis://[user:password@]host:port/db``, ``rediss`` over TLS, ``redis+sentinel://host,host/service/db`` or
    ``redis+cluster://host,host``.

    If Redis cannot be reached at the start, each use tries again.

    :param url: as above. ``?prefix=`` begins all keys (default ``sse_threaded``). For TLS there are
        ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_cert_reqs`` and ``ssl_check_hostname``; for a
        Sentinel that wants them, ``sentinel_username`` and ``sentinel_password``.
    :param retention: how much is kept, default :class:`Retention`.
    :param timeouts: default :class:`~.timeouts.Timeouts`.
    :param remembered_channels: for how many channels without events the log remembers the newest trimmed number;
        default 10,000.
    :raises LogUnusable: the URL is invalid, Redis is too old or denies the user, or the log's schema is newer.
    :ivar listener: the thread that waits for events; it runs from the first doorbell on.
    """

    # The listener rings for every event. This look is a precaution against unknown faults.
    poll_interval = 1.0
    rings_first = False  # the listener rings, when it has read the event

    _epoch: str | None

    def __init__(
        self,
        url: str,
        retention: Retention | None = None,
        *,
        timeouts: Timeouts | None = None,
        remembered_channels: int = REMEMBERED_CHANNELS,
    ) -> None:
        address = parse_url(url)
        self.url = address.url
        self._retention = retention or Retention()
        self._retry_for = (timeouts or Timeouts()).retry
        self._remembered_channels = remembered_channels
        self._client = SharedClient(address, "sse_threaded", timeouts)
        of_listener = RedisClient(address, "sse_threaded-listener", timeouts)
        self.listener = Listener(of_listener, self._client, self._meet_new_epoch)
        self._begin(None)
        open_at_start(self.url, lambda: self.epoch)

    def _begin(self, epoch: str | None) -> None:
        self._epoch = epoch
        # The epoch of the newest log. The reader of all events takes it on, so that no event gets an id of the
        # wrong epoch.
        self._next_epoch: str | None = None
        self._renewing = threading.Lock()
        self._has_pump = False  # a thread reads all events that come
        # One transaction at a time in a process, which holds it until it ends.
        self._lock = threading.Lock()
        self._owner = 0
        self._closed = False
        self._is_held_for_fork = False

    def __repr__(self) -> str:
        return f"<RedisLog {self.url} epoch={self._epoch} {self.listener.buffer!r}>"

    # The epoch.

    @property
    def epoch(self) -> str:
        """See :class:`EventLog`.

        :raises LogUnavailable: it is not known yet.
        """
        if self._epoch is None:
            self._epoch = self._prepare()
        return self._epoch

    def _prepare(self, retry_for: float = 0.0) -> str:
        """Make the log if it is not there; returns its epoch."""
        schema, epoch, version, policy, denied = self._run(PREPARE, [SCHEMA, new_epoch()], retry_for)
        if denied:
            command = denied.decode().upper()
            raise LogUnusable(self.url, f"the ACL denies this user {command}; see docs/deployment.md")
        if tuple(map(int, version.split(b".")[:2])) < _OLDEST_REDIS:
            raise LogUnusable(self.url, f"Redis {version.decode()} is too old; use 6.2 or newer")
        if int(schema) > SCHEMA:
            versions = f"a newer sse_threaded (schema {int(schema)}; this one knows {SCHEMA})"
            raise LogUnusable(self.url, f"written by {versions}; upgrade this program")
        if policy != b"noeviction":
            found = policy.decode()
            _log.warning(
                "%s may lose events: set maxmemory-policy to noeviction, not %s",
                self.url,
                found,
                extra={"event": "log_may_evict", "url": self.url},
            )
        return str(epoch.decode())

    def _meet_new_epoch(self) -> None:
        """Read the epoch of the new log: the old keys are gone (flushed, evicted, another server)."""
        epoch = self._prepare(self._retry_for)
        if epoch == self._epoch:
            return
        if self._next_epoch is None:
            fields = {"event": "log_new_epoch", "url": self.url}
            _log.warning("%s was created again; clients must fetch their state again", self.url, extra=fields)
        self._next_epoch = epoch
        if self._has_pump:
            self.listener.ring()
        else:
            self._take_on_new_epoch()

    def _take_on_new_epoch(self) -> bool:
        with self._renewing:
            if self._next_epoch is None:
                return False
            self._epoch, self._next_epoch = self._next_epoch, None
            self.listener.renew(self._epoch)
            return True

    # Writing.

    def append(
        self, channel: str, data: object, event: str | None = None, *, connection: object | None = None
    ) -> str:
        """See :class:`EventLog`.

        :raises LogUnavailable: Redis could not be reached for 5 s (7 s if nothing answers, at once if that is
            known), or it refuses. If only the answer did not come, the event may be in the log or not.
        """
        name, text, kind = validate_event(channel, data, event, self.json_default)
        if connection is not None:
            raise needs_database(self.url, "append(connection=...)")
        event_id: bytes = self.run(APPEND, name, text, *([] if kind is None else [kind]))
        return event_id.decode()

    def run(self, body: str, *args: str | bytes | int) -> Any:
        """Run the caller's own Lua inside Redis, in one step with the events that it appends.

        :param body: it may call ``append(channel, data, event or false)``, which returns the event's id, and
            ``last_event_id()``. It begins its keys with ``base``, and has ``args`` as text. This method returns
            what it returns. If its answer gets lost, it runs again, but it takes effect once. Redis undoes
            nothing. So a body looks first, returns ``redis.error_reply(text)`` if it must, and then makes changes
            that cannot fail.
        :param args: the body's arguments.
        :raises TypeError: an argument is not text, bytes or a whole number.
        :raises NestedTransaction: this thread has a transaction open.
        :raises LogUnavailable: as :meth:`append`.
        :raises LogUnusable: as :meth:`append`, and if the body fails.
        """
        for each in args:
            if not isinstance(each, str | bytes | int):
                found = f"not {type(each).__name__}; json.dumps() makes text"
                raise TypeError(f"run takes text, bytes and whole numbers for Lua, {found}")
        if self._owner == threading.get_ident():
            raise NestedTransaction(self.url)
        return self._write(body, args)

    def _write(
        self, body: str, args: Collection[str | bytes | int], lock: str = "", epoch: str | None = None
    ) -> Any:
        if self._epoch is None:
            self._epoch = self._prepare(self._retry_for)
        token = secrets.token_hex(8)
        kept: list[str | int] = [FROM_META, ""]
        if self._retention is not AS_OTHERS_KEEP:
            count, age = self._retention.count, self._retention.age
            kept = ["" if count is None else count, "" if age is None else int(age * 1000)]
        script = writing_script(body, self._remembered_channels)
        for _ in range(_EPOCH_TRIES):
            now = epoch or self._next_epoch or self.epoch
            try:
                return self._run(script, [now, token, lock, *kept, *args], self._retry_for)
            except ResponseError as error:
                if NEW_EPOCH not in str(error) or epoch is not None:
                    lost = "the transaction's lock was lost; nothing of it happened"
                    raise LogUnavailable(self.url, lost) from error
            self._meet_new_epoch()
        raise LogUnavailable(self.url, "the log is created again and again; find out who deletes its keys")

    def _run(self, script: str, args: Sequence[str | bytes | int], retry_for: float = 0.0) -> Any:
        if self._closed:
            raise LogUnusable(self.url, "this log was closed; open it again")
        return self._client.run(script, args, retry_for)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See :class:`EventLog`.

        It has a lock for 4 s at most. Other appends of all processes wait for it, 5 s at most.
        """
        if self._owner == threading.get_ident():
            raise NestedTransaction(self.url)
        if not self._lock.acquire(timeout=self._retry_for):
            kept = f"kept by another thread for over {self._retry_for:g} s"
            raise LogUnavailable(self.url, f"{kept}; try again")
        try:
            self._owner = threading.get_ident()
            lock = secrets.token_hex(8)
            last = int(self._write(BEGIN_TRANSACTION, [lock]))
            epoch = self._next_epoch or self.epoch
            transaction = RedisTransaction(self.url, epoch, last, self.newest)
            transaction.json_default = self.json_default
            try:
                yield transaction
            except BaseException:
                self._unlock(epoch, lock)
                raise
            finally:
                transaction.over = True
            if transaction.rows:
                self._write(COMMIT_TRANSACTION, [last, *transaction.rows], lock, epoch)
            else:
                self._unlock(epoch, lock)
        finally:
            self._owner = 0
            self._lock.release()

    def _unlock(self, epoch: str, lock: str) -> None:
        try:
            self._client.run(END_TRANSACTION, [epoch, lock])
        except (LogUnavailable, ResponseError) as error:
            fields = {"event": "lock_left", "url": self.url, "error": type(error).__name__}
            _log.warning("a lock stays until it expires: %s", error, extra=fields)

    # Reading.

    def _ask(self, script: str, *args: str | bytes | int) -> Any:
        try:
            return self._run(script, [self.epoch, *args])
        except ResponseError:
            self._meet_new_epoch()
            raise HistoryGone("epoch") from None

    def look(self, body: str, *args: str | bytes | int) -> Any:
        """Run the caller's own Lua that changes nothing, on one state of the log and of the caller's keys.

        :param body: as with :meth:`run`, but it may not append; ``last_event_id()`` is the id of the newest event.
        :param args: the body's arguments.
        :raises LogUnavailable: Redis cannot be reached, or the log was created again just now.
        """
        return self._ask_of_this_epoch(reading_script(body), *args)

    def _ask_of_this_epoch(self, script: str, *args: str | bytes | int) -> Any:
        try:
            return self._ask(script, *args)
        except HistoryGone:
            raise self._made_anew() from None

    def _made_anew(self) -> LogUnavailable:
        return LogUnavailable(self.url, "the log was created again just now; try again")

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See :class:`EventLog`."""
        yield RedisSnapshot(self.url, self.epoch, self.last_sequence())

    def last_sequence(self) -> int:
        """See :class:`EventLog`."""
        try:
            last = int(self._ask(STATE)[0])
        except HistoryGone:
            if self._next_epoch is not None:
                raise self._made_anew() from None
            last = int(self._ask(STATE)[0])
        self.listener.buffer.expect(last)
        return last

    def check(self) -> str:
        """See :class:`EventLog`."""
        with suppress(HistoryGone):  # the log was created again just now, which is no fault
            self._ask(CHECK)
        return self.last_event_id()

    def sequence_of(self, last_event_id: str, *, known: int = 0) -> int:
        """See :class:`EventLog`."""
        sequence = super().sequence_of(last_event_id, known=known)
        if self.listener.buffer.is_lost(sequence):
            raise HistoryGone("beyond")
        return sequence

    def read(self, after: int, *, channels: Collection[str] | None = None, upto: int | None = None) -> Page:
        """See :class:`EventLog`."""
        if channels is None and upto is None and self.listener.is_running:
            self._has_pump = True
            if self._take_on_new_epoch():
                raise HistoryGone("epoch")
            page = self.listener.page(after)
            if page is not None:
                return page
        names = None if channels is None else list(dict.fromkeys(channels))
        if names is not None and not names:
            return Page()
        bounds = bounds_of(1 if names is None else len(names))
        answer = self._ask(READ, after, "" if upto is None else upto, *bounds, *(names or ()))
        return page_from(answer, after, names, upto)

    def newest(self, channel: str) -> Record | None:
        """See :class:`EventLog`."""
        entries = self._ask_of_this_epoch(NEWEST, channel)
        return record_from(entries[0], channel) if entries else None

    def trimmed(self, channels: Collection[str]) -> int:
        """See :class:`EventLog`."""
        return int(self._ask_of_this_epoch(TRIMMED, *dict.fromkeys(channels)))

    # Doorbells, trimming and the end.

    def open_doorbell(self) -> Doorbell:
        """See :class:`EventLog`; the first one starts the listener."""
        return self.listener.open_doorbell(self.epoch)

    def ring(self) -> None:
        """See :class:`EventLog`; the events in the log ring without this."""
        self.listener.ring()

    def trim(self) -> int:
        """See :class:`EventLog`."""
        channel, trimmed = b"", 0
        while True:
            channel, gone, is_all = self._write(TRIM, [channel])
            trimmed += int(gone)
            if is_all:
                return trimmed

    def close(self) -> None:
        """See :class:`EventLog`."""
        self._closed = True
        self.listener.stop()
        self._client.close()

    def before_fork(self) -> None:
        """See :class:`EventLog`."""
        is_mine = self._owner == threading.get_ident()
        self._is_held_for_fork = not is_mine and self._lock.acquire(timeout=self._retry_for)

    def after_fork(self, in_child: bool) -> None:
        """See :class:`EventLog`; the child has connections and a listener of its own."""
        if in_child:
            closed = self._closed
            self._client.after_fork_in_child()
            self.listener.after_fork_in_child()
            self._begin(self._epoch)
            self._closed = closed
        elif self._is_held_for_fork:
            self._is_held_for_fork = False
            self._lock.release()
