"""The snapshot and the transaction that an app gets of a log in PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg

from ...errors import LogUnavailable
from ..interface import Snapshot, Transaction, TransactionOver
from ..record import Record
from ..validation import validate_event
from .pages import record_of
from .text import array_of, to_database

if TYPE_CHECKING:
    from .client import PostgresClient, Session
    from .statements import Statements


def append_behind_others(
    append: Callable[[], list[tuple[Any, ...]]], url: str, seconds: float
) -> tuple[str, int, int]:
    """Call the function ``append`` until no event waits that was committed before; it usually takes one call.

    Returns the epoch, the newest number, and how many events of others got their numbers.

    :param append: calls it once, and returns its row.
    :param url: the log's, for the error.
    :param seconds: how long to go on; 0 for one call.
    :raises LogUnavailable: events still wait then; nothing was appended.
    """
    deadline = time.monotonic() + seconds
    numbered = 0
    while True:
        ((is_behind, epoch, last, waited),) = append()
        numbered += waited
        if not is_behind or not seconds:
            return epoch, last, numbered
        if time.monotonic() > deadline:
            raise LogUnavailable(url, "very many events of apps wait for their numbers; try again")


class PostgresSnapshot(Snapshot):
    """The log at one moment, and the connection for the app's own rows.

    :param client: the log's.
    :param session: an open transaction.
    :param statements: the log's.
    """

    has_connection = True

    def __init__(self, client: PostgresClient, session: Session, statements: Statements) -> None:
        super().__init__(client.url)
        self._client = client
        self._session = session
        self._statements = statements

    @property
    def connection(self) -> Any:
        """Psycopg's connection, inside the open transaction. See :class:`Snapshot`."""
        return self._session.connection

    def last_event_id(self) -> str:
        """See :class:`Snapshot`.

        An event that :meth:`EventLog.append` has added over another connection gets its number after the commit.
        Just after that commit the caller's rows may have the change while its event has no number yet. A client
        that streams from this id gets the event later.
        """
        ((epoch, last, _),) = self._run(self._statements.last)
        return f"{epoch}-{last}"

    def _run(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._session.run(statement, values)
        except psycopg.Error as error:
            raise self._client.errors.translate(error) from self._client.errors.cause(error)


class PostgresTransaction(PostgresSnapshot, Transaction):
    """A write transaction. From its first event on it has the log's lock, so the numbers are known.

    :param seconds: how long an append may number the events of others.
    :ivar place: the epoch and the newest number; ``None`` before the first event.
    """

    place: tuple[str, int] | None = None

    def __init__(self, client: PostgresClient, session: Session, statements: Statements, seconds: float) -> None:
        super().__init__(client, session, statements)
        self._seconds = seconds

    def append(self, channel: str, data: object, event: str | None = None) -> str:
        """See :class:`Transaction`."""
        name, text, kind = validate_event(channel, data, event, self.json_default)
        if self.over:
            raise TransactionOver(self._url)
        row = (to_database(name), kind if kind is None else to_database(kind), to_database(text))
        columns = (array_of([each]) for each in row)
        values = (*columns, None, None)
        epoch, last, _ = append_behind_others(
            lambda: self._run(self._statements.append, values), self._url, self._seconds
        )
        self.place = epoch, last
        return f"{epoch}-{last}"

    def newest(self, channel: str) -> Record | None:
        """See :class:`Transaction`."""
        rows = self._run(self._statements.newest_of, (to_database(channel),))
        return record_of(*rows[0]) if rows else None
