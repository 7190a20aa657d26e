"""A log in Redis: many machines, one order. Redis 6.2 or newer, or Valkey; needs the extra ``redis``.

Streams and scripts, not bare publish and subscribe: an event is in the log, with its number, before anybody hears
of it. Appends are one script each, and take what they need of :mod:`.scripts`; reading what comes is the
work of :mod:`.listener`; of replays and of other reads, any thread's, with connections that the driver pools.

What Redis acknowledged it may still lose (a crash between two writes to its disk, a replica that was behind and
took over). Then its clients are told ``reset``; nothing passes in silence.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from heapq import merge
from typing import Any

from redis.exceptions import ResponseError

from ...errors import HistoryGone, LogUnavailable, LogUnusable
from ..doorbell import Doorbell
from ..event_id import new_epoch
from ..interface import EventLog, NestedTransaction, Snapshot, Transaction, TransactionOver, needs_sqlite
from ..record import PAGE_CHARACTERS, PAGE_EVENTS, Page, Record, page_of
from ..retention import AS_OTHERS_KEEP, Retention
from ..startup import open_at_start
from ..validation import validate_event
from .client import PATIENCE, RedisServer, SharedServer
from .listener import Feed, Gaps, record_of
from .scripts import (
    APPEND,
    BEGIN_TRANSACTION,
    CHECK,
    COMMIT_TRANSACTION,
    END_TRANSACTION,
    FROM_META,
    NEW_EPOCH,
    PREPARE,
    READ,
    STATE,
    TRIM,
    reading_script,
    writing_script,
)
from .url import parse_url

_log = logging.getLogger(__name__)

SCHEMA = 1

# Of each channel, in a page of many: events, and bytes.
_LEAST_EVENTS, _LEAST_SIZE = 8, 16 * 1024

_OLDEST = (6, 2)


class RedisLog(EventLog):
    """``redis://[user:password@]host:port/db``, with ``rediss`` over TLS,
    ``redis+sentinel://host,host/service/db`` or ``redis+cluster://host,host``.

    :param url: as above; ``?prefix=`` begins all keys (default ``sse_threaded``), for TLS there are
        ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_cert_reqs`` and ``ssl_check_hostname``, for a
        Sentinel that wants them ``sentinel_username`` and ``sentinel_password``.
    :param retention: how much is kept, default :class:`Retention`.
    :raises LogUnusable: the URL is no such thing, Redis is too old or denies the user, the log is of a newer
        schema.

    A Redis that cannot be reached at the start is tried again at each use.
    """

    # The listener rings; this is for what nobody would think of.
    poll_interval = 1.0

    _epoch: str | None

    def __init__(self, url: str, retention: Retention | None = None) -> None:
        address = parse_url(url)
        self.url = address.url
        self._retention = retention or Retention()
        self._server = SharedServer(address, "sse_threaded")
        listener = RedisServer(address, "sse_threaded-listener")
        self._feed = Feed(listener, self._server, self._meet_new_epoch)
        self._begin(None)
        open_at_start(self.url, lambda: self.epoch)

    def _begin(self, epoch: str | None) -> None:
        self._epoch = epoch
        # What the log has become; taken on by who reads all of it, so that no event gets the wrong epoch's id.
        self._next_epoch: str | None = None
        self._renewing = threading.Lock()
        self._has_pump = False  # somebody reads all that comes
        # One transaction at a time in a process; held as long as it lasts.
        self._lock = threading.Lock()
        self._owner = 0
        self._closed = False
        self._rests = False  # for a fork

    def _prepare(self, patience: float = 0.0) -> str:
        schema, epoch, version, evicts, denied = self._run(PREPARE, [SCHEMA, new_epoch()], patience)
        if denied:
            command = denied.decode().upper()
            raise LogUnusable(self.url, f"the ACL denies this user {command}; see docs/deployment.md")
        if tuple(map(int, version.split(b".")[:2])) < _OLDEST:
            raise LogUnusable(self.url, f"Redis {version.decode()} is too old; 6.2 is the first that will do")
        if int(schema) > SCHEMA:
            versions = f"a newer sse_threaded (schema {int(schema)}; this one knows {SCHEMA})"
            raise LogUnusable(self.url, f"written by {versions}; upgrade this program")
        if evicts != b"noeviction":
            policy = evicts.decode()
            _log.warning("%s may lose events: set maxmemory-policy to noeviction, not %s", self.url, policy)
        return str(epoch.decode())

    @property
    def epoch(self) -> str:
        """See :class:`EventLog`.

        :raises LogUnavailable: it is not known yet.
        """
        if self._epoch is None:
            self._epoch = self._prepare()
        return self._epoch

    def _meet_new_epoch(self) -> None:
        """The keys are gone (flushed, evicted, another server): find out what the log is now."""
        epoch = self._prepare(PATIENCE)
        if epoch == self._epoch:
            return
        if self._next_epoch is None:
            _log.warning("%s was made anew; clients are told to fetch their state again", self.url)
        self._next_epoch = epoch
        if self._has_pump:
            self._feed.ring()
        else:
            self._take_on_new_epoch()

    # Writing.

    def append(
        self, channel: str, data: object, event: str | None = None, *, connection: object | None = None
    ) -> str:
        """See :class:`EventLog`.

        :raises LogUnavailable: Redis could not be reached for 5 s (7 where nothing answers, at once where that is
            known), or refuses. Where it is the answer that did not come, the event may be in the log all the same:
            then nobody can know.
        """
        name, text, kind = validate_event(channel, data, event)
        if connection is not None:
            raise needs_sqlite(self.url, "append(connection=...)")
        event_id: bytes = self.run(APPEND, name, text, *([] if kind is None else [kind]))
        return event_id.decode()

    def run(self, body: str, *args: str | bytes | int) -> Any:
        """Run Lua of the caller's own inside Redis, in one step with the events that it appends.

        :param body: may call ``append(channel, data, event or false)``, which returns the event's id, and
            ``last_event_id()``; begins its keys with ``base``; has ``args``, as text; this returns what it does.
            It may be run again where its answer got lost, but takes effect once. Redis undoes nothing: a body
            looks first, returns ``redis.error_reply(text)`` if it must, and then changes what cannot fail.
        :raises TypeError: an argument is neither text, bytes nor a whole number.
        :raises NestedTransaction: this thread has a transaction open.
        :raises LogUnavailable: as :meth:`append`.
        :raises LogUnusable: as :meth:`append`, and where the body fails.
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
            self._epoch = self._prepare(PATIENCE)
        token = secrets.token_hex(8)
        kept: list[str | int] = [FROM_META, ""]
        if self._retention is not AS_OTHERS_KEEP:
            count, age = self._retention.count, self._retention.age
            kept = ["" if count is None else count, "" if age is None else int(age * 1000)]
        for _ in range(3):
            now = epoch or self._next_epoch or self.epoch
            try:
                return self._run(writing_script(body), [now, token, lock, *kept, *args], PATIENCE)
            except ResponseError as error:
                if NEW_EPOCH not in str(error) or epoch is not None:
                    lost = "the transaction's lock was lost; nothing of it happened"
                    raise LogUnavailable(self.url, lost) from error
            self._meet_new_epoch()
        raise LogUnavailable(self.url, "the log is made anew again and again; look at who deletes its keys")

    def _run(self, script: str, args: Sequence[str | bytes | int], patience: float = 0.0) -> Any:
        if self._closed:
            raise LogUnusable(self.url, "this log was closed; open it again")
        return self._server.run(script, args, patience)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See :class:`EventLog`; while one is open, in whichever process, other appends wait, for 5 s at most."""
        if self._owner == threading.get_ident():
            raise NestedTransaction(self.url)
        if not self._lock.acquire(timeout=PATIENCE):
            raise LogUnavailable(self.url, f"kept by another thread for over {PATIENCE:g} s; try again")
        try:
            self._owner = threading.get_ident()
            lock = secrets.token_hex(8)
            last = int(self._write(BEGIN_TRANSACTION, [lock]))
            epoch = self._next_epoch or self.epoch
            transaction = _RedisTransaction(self.url, epoch, last)
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
            self._server.run(END_TRANSACTION, [epoch, lock])
        except (LogUnavailable, ResponseError) as error:
            _log.warning("a lock stays until it expires: %s", error)

    # Reading.

    def _ask(self, script: str, *args: str | bytes | int) -> Any:
        try:
            return self._run(script, [self.epoch, *args])
        except ResponseError:
            self._meet_new_epoch()
            raise HistoryGone("epoch") from None

    def look(self, body: str, *args: str | bytes | int) -> Any:
        """Run Lua of the caller's own that changes nothing, over one state of the log and of the caller's keys.

        :param body: as with :meth:`run`, but it may not append; ``last_event_id()`` is the id of the newest event.
        :raises LogUnavailable: Redis cannot be reached, or was made anew just now.
        """
        try:
            return self._ask(reading_script(body), *args)
        except HistoryGone:
            raise self._anew() from None

    def _anew(self) -> LogUnavailable:
        return LogUnavailable(self.url, "the log was made anew just now; try again")

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See :class:`EventLog`."""
        yield _RedisSnapshot(self.url, self.epoch, self.last_sequence())

    def last_sequence(self) -> int:
        """See :class:`EventLog`."""
        try:
            last = int(self._ask(STATE)[0])
        except HistoryGone:
            if self._next_epoch is not None:
                raise self._anew() from None
            last = int(self._ask(STATE)[0])
        self._feed.is_to_have(last)
        return last

    def last_event_id(self) -> str:
        """See :class:`EventLog`."""
        while True:
            epoch = self.epoch
            last = self.last_sequence()
            if epoch == self.epoch:  # else they do not belong together
                return f"{epoch}-{last}"

    def check(self) -> str:
        """See :class:`EventLog`."""
        with suppress(HistoryGone):  # it was made anew just now, which is no fault
            self._ask(CHECK)
        return self.last_event_id()

    def sequence_of(self, last_event_id: str, *, known: int = 0) -> int:
        """See :class:`EventLog`."""
        sequence = super().sequence_of(last_event_id, known=known)
        if self._feed.gaps.hold(sequence):
            raise HistoryGone("beyond")
        return sequence

    def read(self, after: int, *, channels: Collection[str] | None = None, upto: int | None = None) -> Page:
        """See :class:`EventLog`."""
        if channels is None and upto is None and self._feed.is_running:
            self._has_pump = True
            if self._take_on_new_epoch():
                raise HistoryGone("epoch")
            page = self._feed.page(after)
            if page is not None:
                return page
        names = [None] if channels is None else list(dict.fromkeys(channels))
        if not names:
            return Page()
        # A page of many channels has a part of each; of one that is cut short the next page has more.
        share = max(len(names), 1)
        events, size = max(PAGE_EVENTS // share, _LEAST_EVENTS), max(PAGE_CHARACTERS // share, _LEAST_SIZE)
        bounds = ("" if upto is None else upto, events + 1, size + 1)
        asked = [name for name in names if name is not None]
        last, gaps, gone, streams = self._ask(READ, after, *bounds, *asked)
        known = Gaps(gaps)
        if gone:
            raise HistoryGone("expired")
        if known.hold(after) or (channels is not None and after > int(last)):
            raise HistoryGone("beyond")
        found = [
            [record_of(entry, dict(zip(flat[::2], flat[1::2], strict=True)), name) for entry, flat in entries]
            for (_, entries), name in zip(streams, names, strict=True)
        ]
        if channels is None:
            _require_whole(found[0], after, int(last) if upto is None else min(int(last), upto), known)
        # Of a channel that was cut short there may be more, so nothing that comes later may be given yet.
        cut = [records[-1].sequence for (is_cut, _), records in zip(streams, found, strict=True) if is_cut]
        limit = min(cut, default=None)
        page = page_of((each for each in merge(*found) if limit is None or each.sequence <= limit), upto)
        page.full = page.full or bool(cut)
        return page

    def _take_on_new_epoch(self) -> bool:
        with self._renewing:
            if self._next_epoch is None:
                return False
            self._epoch, self._next_epoch = self._next_epoch, None
            self._feed.renew(self._epoch)
            return True

    def trim(self) -> int:
        """Trim all channels now, as appends do by and by; returns how many events went.

        :raises LogError: Redis cannot be reached.
        """
        channel, trimmed = b"", 0
        while True:
            channel, gone, is_all = self._write(TRIM, [channel])
            trimmed += int(gone)
            if is_all:
                return trimmed

    def open_doorbell(self) -> Doorbell:
        """See :class:`EventLog`; the first starts the listener."""
        return self._feed.start(self.epoch)

    def ring(self) -> None:
        """See :class:`EventLog`; events that are in the log ring by themselves."""
        self._feed.ring()

    def close(self) -> None:
        """See :class:`EventLog`."""
        self._closed = True
        self._feed.stop()
        self._server.close()

    def before_fork(self) -> None:
        """See :class:`EventLog`."""
        self._rests = self._owner != threading.get_ident() and self._lock.acquire(timeout=PATIENCE)

    def after_fork(self, in_child: bool) -> None:
        """See :class:`EventLog`; the child has connections and a listener of its own."""
        if in_child:
            closed = self._closed
            self._server.after_fork_in_child()
            self._feed.after_fork_in_child()
            self._begin(self._epoch)
            self._closed = closed
        elif self._rests:
            self._rests = False
            self._lock.release()


def _require_whole(records: list[Record], after: int, last: int, gaps: Gaps) -> None:
    """Refuse a part of the feed before which something is missing."""
    if not gaps.follows(records[0].sequence if records else last + 1, after) and (records or last > after):
        raise HistoryGone("expired")


class _RedisSnapshot(Snapshot):
    def __init__(self, url: str, epoch: str, last: int) -> None:
        super().__init__(url)
        self._epoch = epoch
        self._last = last

    def last_event_id(self) -> str:
        return f"{self._epoch}-{self._last}"


class _RedisTransaction(_RedisSnapshot, Transaction):
    def __init__(self, url: str, epoch: str, last: int) -> None:
        super().__init__(url, epoch, last)
        self.rows: list[str | int] = []

    def append(self, channel: str, data: object, event: str | None = None) -> str:
        name, text, kind = validate_event(channel, data, event)
        if self.over:
            raise TransactionOver(self._url)
        self.rows += [name, text, int(kind is not None), kind or ""]
        self._last += 1
        return self.last_event_id()
