"""The events of a transaction that is not committed, for tests that roll back everything."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..errors import LogUnusable
from ..log.postgres.url import parse_url
from ..log.sqlite.app_connection import read_uncommitted


class UncommittedEvent(NamedTuple):
    """An event that a transaction has appended. It has no id before the commit.

    :ivar channel: its channel.
    :ivar data: its data, as text.
    :ivar event: its type; ``None`` for ``message``.
    """

    channel: str
    data: str
    event: str | None


class HasURL(Protocol):
    """A hub or a log.

    :ivar url: its URL, which may be without a password.
    """

    @property
    def url(self) -> str:
        """See the class."""


def uncommitted_events(hub: HasURL, connection: object) -> list[UncommittedEvent]:
    """Return the events that the open transaction of a connection has appended, oldest first.

    The log must be in SQLite or in PostgreSQL. Events of a savepoint that was rolled back are not among them. In
    Django's ``TestCase``, one transaction has all tests of a class. There these are the events of the test itself,
    and of ``setUpTestData``.

    :param hub: the hub, or its log.
    :param connection: the one with which the app appends; see :meth:`EventLog.append`.
    :raises LogUnusable: the log is in neither, or the connection is not to it.
    """
    if hub.url.startswith("sqlite:"):
        rows = read_uncommitted(hub.url, connection)
    elif hub.url.startswith("postgres"):
        from ..log.postgres import app_connection  # noqa: PLC0415  # its driver may not be installed

        rows = app_connection.read_uncommitted(parse_url(hub.url), connection)
    else:
        raise LogUnusable(hub.url, "uncommitted_events() needs a log in SQLite or in PostgreSQL")
    return [UncommittedEvent(*each) for each in rows]
