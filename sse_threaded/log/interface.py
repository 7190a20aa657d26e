"""What a log is: events in one order, each with an id, kept for a while, and a doorbell.

``publish`` returns once the event is in the log, and fan-out reads the log and nothing else; so all
processes and all clients see one order. Every method may be called from any thread.
"""

from __future__ import annotations

import re
import secrets
import string
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import HistoryGone, InvalidEvent, LogError, LogUnusable
from ..protocol.event import NOTICE_PREFIX, RESET, check_name, data_text

if TYPE_CHECKING:
    import sqlite3

    from .doorbell import Doorbell

# What one read returns at most, so that a replay's memory does not grow with how far behind a client is.
PAGE_EVENTS = 200
PAGE_CHARACTERS = 256 * 1024  # a page holds one event at least, however long it is

# An event is a notice, not a file: past this, publish where the thing is to be had.
MAX_DATA_CHARACTERS = 1024 * 1024
MAX_CHANNEL_CHARACTERS = 255
MAX_EVENT_CHARACTERS = 255

# Seconds in a hundred years: what none of the engines stumbles over.
_MAX_AGE = 3_155_760_000

_LUA = "Lua needs a log in Redis (redis://host:6379/0); a log in SQLite has transaction() and snapshot()"

# <epoch>-<sequence>; 18 digits fit every engine's 64-bit integers.
_ID = re.compile(r"([a-z]{6})-(0|[1-9][0-9]{0,17})", re.ASCII)


# What without_secret() may show.
_REDIS = re.compile(r"rediss?(?:\+[a-z]+)?", re.ASCII)
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(?::[0-9]{1,5})?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[0-9]{{0,4}}/?)?", re.ASCII)
_SENTINELS = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[A-Za-z0-9._%-]+(?:/[0-9]{{0,4}})?/?)?", re.ASCII)
_USER = re.compile(r"/[^/]*:[^/]*@")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_./-]*", re.ASCII)


class Record(NamedTuple):
    """One event as the log keeps it."""

    sequence: int
    channel: str
    event: str | None
    data: str


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How much history a log keeps; a client that was away for longer gets a ``reset``.

    :param count: events per channel, default 10,000: some megabytes of file for a busy channel, and a
        replay of a second. ``None``: no bound.
    :param age: seconds, default 86,400: a laptop closed for the night resumes in the morning.
        ``None``: no bound.

    Both are lower bounds: trimming runs in the background, so a little more may be there for a while. Every
    process that streams, or in Redis publishes, trims to its own, so give all of them the same.

    :raises ValueError: no number, below 1, more than 100 years, or no whole number of events.
    """

    count: int | None = 10_000
    age: float | None = 86_400.0

    def __post_init__(self) -> None:
        if self.count is not None and not (_is_number(self.count, int) and self.count >= 1):
            raise ValueError(f"retention count must be a whole number of 1 or more, or None, not {self.count!r}")
        if self.age is not None and not (_is_number(self.age, int, float) and 1 <= self.age <= _MAX_AGE):
            raise ValueError(f"retention age must be 1 to {_MAX_AGE:,} seconds, or None, not {self.age!r}")


# For a process that has no say in how much is kept, such as a command: in SQLite it trims nothing, in Redis it
# does as the log was told last.
AS_OTHERS_KEEP = Retention(count=None, age=None)


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def new_epoch() -> str:
    """Six random letters, made once with a log, so that a log made anew is never taken for the old one."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(6))


def without_secret(url: str) -> str:
    """The URL as it may be shown: no user, no password, and no option, never reach a message or a log.

    Also of a URL that is wrong: where a host or a number cannot be told from a part of a password, an ellipsis
    stands for all that may be one.
    """
    scheme, mark, rest = url.partition("://")
    if _REDIS.fullmatch(scheme) and mark:
        # A raw / ? or # before the last @: the password was not escaped, or the @ is an option's.
        before, at, hosts = rest.rpartition("@")
        shown = re.split("[?#]", hosts)[0]
        is_clear = not (at and set("/?#") & set(before))
        form = _SENTINELS if "sentinel" in scheme else _HOSTS
        return scheme + mark + (shown if is_clear and form.fullmatch(shown) else "...")
    if url.startswith("sqlite:///"):
        path, _, query = rest.partition("?")
        option = f"?{query}" if query in ("synchronous=full", "synchronous=normal") else ""
        path = _CONTROL.sub(lambda found: f"%{ord(found[0]):02X}", path)  # no line of its own in a log
        return scheme + mark + ("/..." if _USER.match(path) else path + option)
    known = url == "memory://" or _PLAIN.fullmatch(url)
    return url if known else (f"{scheme}://..." if mark and _SCHEME.fullmatch(scheme) else "...")


def check_channel(channel: object) -> None:
    """Refuse what cannot name a channel.

    :raises InvalidEvent: not text, empty, over 255 characters, or not Unicode.
    """
    if not isinstance(channel, str) or not 0 < len(channel) <= MAX_CHANNEL_CHARACTERS:
        found = f"{str(channel)[:50]!r}" if isinstance(channel, str) else type(channel).__name__
        raise InvalidEvent("channel", f"must be text of 1 to {MAX_CHANNEL_CHARACTERS} characters, not {found}")
    try:
        channel.encode()
    except UnicodeEncodeError:
        raise InvalidEvent("channel", f"{channel!r} holds a lone surrogate; it has no UTF-8 form") from None


def checked(channel: object, data: object, event: object) -> tuple[str, str, str | None]:
    """What is to be appended, once it is known to be an event: channel, text, name.

    :raises InvalidEvent: it is not.
    """
    check_channel(channel)
    if event is not None:
        check_name(event)
        if len(str(event)) > MAX_EVENT_CHARACTERS:
            raise InvalidEvent("event", f"must have {MAX_EVENT_CHARACTERS} characters at most")
        if event == RESET:
            raise InvalidEvent("event", f"{RESET!r} tells clients to fetch their state anew; choose another name")
        if event.startswith(NOTICE_PREFIX):  # type: ignore[attr-defined]  # checked above
            raise InvalidEvent(
                "event", f"names that begin with {NOTICE_PREFIX!r} are for the library; choose another name"
            )
    text = data_text(data)
    if len(text) > MAX_DATA_CHARACTERS:
        limit = f"over {MAX_DATA_CHARACTERS:,} characters ({len(text):,})"
        raise InvalidEvent("data", f"{limit}; publish where it can be fetched instead")
    return channel, text, event  # type: ignore[return-value]  # checked above


class Page(list[Record]):
    """Some events, in their order.

    :ivar full: whether more may have followed when it was read.
    """

    full = False


def page_of(records: Iterable[Record], upto: int | None = None) -> Page:
    """The first page of ``records``, bounded in events and characters, up to number ``upto``."""
    page = Page()
    size = 0
    for record in records:
        size += len(record.data)
        if upto is not None and record.sequence > upto:
            break
        page.full = len(page) == PAGE_EVENTS or (len(page) > 0 and size > PAGE_CHARACTERS)
        if page.full:
            break
        page.append(record)
    return page


class NestedTransaction(LogError):
    """Using the log beside one's own open transaction or snapshot would wait for itself."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "this thread has a transaction or snapshot open; use that, or end it first")


class TransactionOver(LogError):
    """Its block was left, or the caller has ended it: what is appended now would be no part of it."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "this transaction is over; append inside its block, or begin another one")


def needs_sqlite(url: str, what: str) -> LogUnusable:
    """The error for a feature that other engines do not have."""
    others = "write hub.log.run() for a log in Redis" if url.startswith("redis") else "this log has no database"
    return LogUnusable(url, f"{what} needs a log in SQLite (sqlite:///file.db); {others}")


class Snapshot(ABC):
    """The log at one moment; made by the log, used by one thread.

    :param url: the log's, without a password.
    :ivar has_connection: whether :attr:`connection` can be used: ``True`` for a log in SQLite, else ``False``.
    """

    has_connection = False

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def connection(self) -> sqlite3.Connection:
        """SQLite's connection, inside the open transaction, for the caller's own rows.

        :raises LogUnusable: the log is not in SQLite.
        """
        raise needs_sqlite(self._url, "the connection of a transaction or snapshot")

    @abstractmethod
    def last_event_id(self) -> str:
        """The id of the newest event it sees."""


class Transaction(Snapshot):
    """Several steps on the log that take effect together.

    :ivar over: its block was left.
    """

    over = False

    @abstractmethod
    def append(self, channel: str, data: object, event: str | None = None) -> str:
        """Append an event when, and only when, the transaction commits; returns its id.

        :raises InvalidEvent: it cannot be an event.
        :raises TransactionOver: the block was left, or the caller has committed.
        :raises LogError: it could not be written; leave the block by this error.
        """


class EventLog(ABC):
    """The interface of all engines; :func:`sse_threaded.open_log` makes one from a URL.

    :ivar url: where it is, without a password.
    :ivar poll_interval: seconds after which a reader looks without having been rung for, ``None`` for never.
    """

    url: str
    poll_interval: float | None = None

    @property
    @abstractmethod
    def epoch(self) -> str:
        """The random letters that all ids of this log begin with."""

    @abstractmethod
    def append(
        self, channel: str, data: object, event: str | None = None, *, connection: object | None = None
    ) -> str:
        """Append one event and ring; returns its id once the event is in the log.

        :param channel: its channel, 1 to 255 characters.
        :param data: text, or anything JSON can write.
        :param event: its type; ``None``, the default, for ``message``.
        :param connection: for a log in SQLite, the app's own :class:`sqlite3.Connection` to the log's file. The
            event is then a part of the transaction that is open there, and does not ring: call :meth:`ring`
            after the commit. ``None``, the default: a transaction of its own.
        :raises InvalidEvent: it cannot be an event.
        :raises NestedTransaction: this thread has a transaction open.
        :raises LogUnusable: the log is not in SQLite, or the connection is not to the log's file.
        :raises LogError: it is not in the log.
        """

    def run(self, body: str, *args: str | bytes | int) -> Any:
        """Run Lua inside Redis, in one step with the events that it appends, where the log is in Redis.

        :param body: see :meth:`sse_threaded.log.redis.log.RedisLog.run`.
        :raises LogUnusable: the log is not in Redis.
        """
        raise LogUnusable(self.url, _LUA)

    def look(self, body: str, *args: str | bytes | int) -> Any:
        """Run Lua that changes nothing inside Redis, where the log is in Redis.

        :param body: see :meth:`sse_threaded.log.redis.log.RedisLog.look`.
        :raises LogUnusable: the log is not in Redis.
        """
        raise LogUnusable(self.url, _LUA)

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """A write transaction: commits at the end of the block and rings; an exception rolls all back.

        One is open at a time in a process; do in it what must happen together, and no more.

        :raises LogError: it could not begin, or could not commit; then nothing of it happened.
        """

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A read transaction: the caller's rows, and the last event ID that belongs to them.

        Nothing can be changed in it. Be quick: every other reader of this process waits for the block to end.

        :raises LogError: the log cannot be read.
        """

    @abstractmethod
    def last_sequence(self) -> int:
        """The newest event's number, 0 before the first."""

    @abstractmethod
    def read(self, after: int, *, channels: Collection[str] | None = None, upto: int | None = None) -> Page:
        """One page of events, oldest first; an empty one means that there are no more.

        :param after: the number after which to read.
        :param channels: only these; ``None``, the default, for all.
        :param upto: the last number wanted; ``None``, the default, for no bound.
        :raises HistoryGone: some of what is asked for has been trimmed.
        :raises LogError: the log cannot be read.
        """

    @abstractmethod
    def open_doorbell(self) -> Doorbell:
        """A new doorbell that every append rings, in whichever process; the caller closes it."""

    @abstractmethod
    def ring(self) -> None:
        """Ring all doorbells: for who appended through a connection of their own, after the commit."""

    @abstractmethod
    def close(self) -> None:
        """Release files and threads; idempotent."""

    @abstractmethod
    def before_fork(self) -> None:
        """Come to rest: no thread of this process is inside the log until ``after_fork``."""

    @abstractmethod
    def after_fork(self, in_child: bool) -> None:
        """Go on after a fork; the child lets go of what belongs to its parent."""

    def event_id(self, sequence: int) -> str:
        """The id of the event with this number."""
        return f"{self.epoch}-{sequence}"

    def last_event_id(self) -> str:
        """The id of the newest event; ``<epoch>-0`` before the first."""
        return self.event_id(self.last_sequence())

    def check(self) -> str:
        """Try what publishing needs, and change nothing; returns the id of the newest event. For health checks.

        :raises LogError: an event could not be published now, or the log cannot be read.
        """
        return self.last_event_id()

    def position(self, last_event_id: str, *, known: int = 0) -> int:
        """The number behind a last event ID that some client sent.

        :param known: numbers up to this one are known to have been given; spares a look. Default 0.
        :raises HistoryGone: ``malformed``, of another ``epoch``, or ``beyond`` the log's end.
        """
        match = _ID.fullmatch(last_event_id)
        if match is None:
            raise HistoryGone("malformed")
        if match[1] != self.epoch:
            raise HistoryGone("epoch")
        sequence = int(match[2])
        if sequence > known and sequence > self.last_sequence():
            raise HistoryGone("beyond")
        return sequence
