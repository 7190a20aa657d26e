"""The connection that listens: it waits for ``NOTIFY``."""

from __future__ import annotations

import secrets
import select
import time
from contextlib import suppress

import psycopg

from ..doorbell import Doorbell
from .client import PostgresClient
from .connector import Connector
from .url import Address

# Seconds within which PostgreSQL notices that the host of a listener is gone, and frees its lock. Without these it
# takes two hours. They are settings of the session.
_KEEPALIVES = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

# Seconds for which a test message of NOTIFY is waited for.
_TEST = 1.0


class Impossible(Exception):
    """Notifications do not arrive through this connection."""


class Notifications:
    """A connection that listens. One thread uses it.

    :param connector: makes the connection.
    :param address: says which notifications.
    :param client: sends a test message, where it is not certain that notifications arrive.
    :param wake: a doorbell that ends :meth:`wait`.
    :raises Impossible: notifications do not arrive.
    :raises psycopg.Error: no connection can be made.
    :ivar connection: the connection.
    """

    def __init__(self, connector: Connector, address: Address, client: PostgresClient, wake: Doorbell) -> None:
        self._address = address
        self._wake = wake
        self._heard: list[tuple[str, str]] = []  # channels and payloads
        self.connection = connector.connect()
        try:
            self.connection.add_notify_handler(lambda note: self._heard.append((note.channel, note.payload)))
            # Through a pooler that shares its connections, these statements would succeed and change nothing here.
            if not self.connection.is_direct or address.listen != address.conninfo:
                self._test(client)
            for name, value in _KEEPALIVES.items():
                with suppress(psycopg.errors.UndefinedObject):  # a setting that this server does not have
                    self.connection.rows("SELECT set_config(%s, %s, false)", (name, value))
            self.connection.rows(f'LISTEN "{address.bell}"')
        except BaseException:
            self.close()
            raise

    def _test(self, client: PostgresClient) -> None:
        name = f"{self._address.bell}_{secrets.token_hex(4)}"
        self.connection.rows(f'LISTEN "{name}"')
        client.run("SELECT pg_notify(%s, '')", [name])
        end = time.monotonic() + _TEST
        # It waits without a statement, as for an event. A pooler hands on the notification of a statement's own
        # connection, while the statement runs.
        while (name, "") not in self._heard and (left := end - time.monotonic()) > 0:
            if not self._receive(left):
                break
        self.connection.rows(f'UNLISTEN "{name}"')
        if (name, "") not in self._heard:
            raise Impossible(
                "no notification arrives, as through PgBouncer in transaction mode, or from another database; "
                "name PostgreSQL itself in ?listen="
            )

    def wait(self, seconds: float) -> list[str]:
        """Wait for notifications, or for the doorbell; returns the messages that have come.

        :raises psycopg.Error: the connection has ended.
        """
        if not self._heard:
            self._receive(seconds)
        heard, self._heard[:] = self._heard.copy(), []
        return [payload for channel, payload in heard if channel == self._address.bell]

    def _receive(self, seconds: float) -> bool:
        """Take in notifications; returns whether it was not the doorbell that ended the wait."""
        pgconn = self.connection.pgconn
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        poll.register(self._wake.fileno(), select.POLLIN)
        ready = {fileno for fileno, _ in poll.poll(int(seconds * 1000) + 1)}
        if pgconn.socket in ready:
            pgconn.consume_input()
            while note := pgconn.notifies():
                self._heard.append((note.relname.decode(errors="replace"), note.extra.decode(errors="replace")))
        return self._wake.fileno() not in ready

    def look(self, statement: str) -> object:
        """Run a statement, to see whether the connection is alive; returns its value, ``None`` if it was refused.

        :raises psycopg.Error: the connection has ended.
        """
        try:
            rows = self.connection.rows(statement)
        except psycopg.Error:
            if self.connection.closed:
                raise
            return None
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
