"""The snapshot and the transaction that an app gets of a log in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from ..interface import Snapshot, Transaction, TransactionOver
from ..validation import validate_event
from .text import array_of, to_database

if TYPE_CHECKING:
    from .client import PostgresClient, Session
    from .statements import Statements


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

    :ivar place: the epoch and the newest number; ``None`` before the first event.
    """

    place: tuple[str, int] | None = None

    def append(self, channel: str, data: object, event: str | None = None) -> str:
        """See :class:`Transaction`."""
        name, text, kind = validate_event(channel, data, event)
        if self.over:
            raise TransactionOver(self._url)
        row = (to_database(name), kind if kind is None else to_database(kind), to_database(text))
        columns = (array_of([each]) for each in row)
        ((epoch, last, _),) = self._run(self._statements.append, (*columns, None, None))
        self.place = epoch, last
        return f"{epoch}-{last}"
