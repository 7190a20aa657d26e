"""Makes connections to the addresses of a URL: those of libpq, in its order, with a bound for each."""

from __future__ import annotations

import random
import time

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .driver import BoundedConnection, finish, finish_connecting
from .errors import ConnectFailed, is_connect_fault
from .lookup import LookupFailed, addresses_of
from .timeouts import Timeouts
from .url import SECRET_OPTIONS, HiddenText

# Seconds for which an address that failed is tried after the others.
_SHUNNED = 30.0

# The major version of PostgreSQL.
OLDEST_SERVER = 13

# Sessions that would not do: a log is written to.
_READING_SESSIONS = ("read-only", "standby", "prefer-standby")

# Options that an address gets unless its URL has them: the kernel then notices a dead host by itself. The client's
# encoding is always this one.
_KEEPALIVE = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3"}

# No option of libpq has this value.
_INVALID = "sse_threaded:none"

_INSPECT = """
SELECT pg_backend_pid(), pg_is_in_recovery(), current_setting('transaction_isolation') = 'read committed',
    current_setting('transaction_read_only') = 'off', {}
"""
_SYSTEM_IDENTIFIER = "(SELECT system_identifier::text FROM pg_control_system())"


class Options(dict[str, str]):
    """Options of libpq with their values. Some are secret, so none is shown."""

    def __repr__(self) -> str:
        return "<options>"


class Connector:
    """Makes connections to the addresses of one URL. Any thread may use it.

    :param conninfo: the URL, as :attr:`.url.Address.conninfo`.
    :param name: the ``application_name``, unless the URL has one.
    :param timeouts: the log's.
    :raises ConnectFailed: libpq does not take the URL.
    """

    def __init__(self, conninfo: str, name: str, timeouts: Timeouts) -> None:
        self._conninfo = HiddenText(conninfo)
        self._name = name
        self._timeouts = timeouts
        # When an address failed last (monotonic). Threads may overwrite each other's figures, which does no harm.
        self._failed: dict[tuple[str, ...], float] = {}
        try:
            own = conninfo_to_dict(conninfo)
        except psycopg.Error:
            own = None
        if own is None:
            # libpq's text may repeat a part of a password that is not escaped, and its error has the URL. So that
            # error is no context of this one.
            text = "libpq does not take the URL: an option is invalid, or a password is not escaped"
            raise ConnectFailed(text, is_fault=True)
        self._has_session = "target_session_attrs" in own

    def connect(self) -> BoundedConnection:
        """Return a new connection in autocommit. Each address gets ``Timeouts.connect`` seconds.

        :raises ConnectFailed: no address gave one.
        """
        options = self._options()
        hosts = _split(options)
        if options.get("load_balance_hosts") == "random":
            random.shuffle(hosts)
        if len(hosts) > 1 and not self._has_session:
            options["target_session_attrs"] = "read-write"
        now = time.monotonic()
        hosts.sort(key=lambda host: now - self._failed.get(_key(host), -_SHUNNED) < _SHUNNED)
        reasons: list[str] = []
        tries = faults = 0
        for host in hosts:
            try:
                addresses = self._addresses(host, options)
            except LookupFailed as error:
                addresses = []
                reasons.append(str(error))
                tries += 1
            for address in addresses:
                tries += 1
                try:
                    connection = self._connect_to(Options(options | host | address))
                except psycopg.Error as error:
                    reasons += [str(error)] * (str(error) not in reasons)
                    faults += getattr(error, "is_fault", False) or is_connect_fault(str(error))
                else:
                    self._failed.pop(_key(host), None)
                    return connection
            self._failed[_key(host)] = time.monotonic()
        raise ConnectFailed("; ".join(reasons), is_fault=faults == tries)

    def _options(self) -> Options:
        """Return all options, also of the environment and of a service file, which may change at any time."""
        # An invalid value keeps libpq from connecting, and hides the option's own value. So there are two of them.
        options = _read_options(self._conninfo, "target_session_attrs")
        others = _read_options(self._conninfo, "ssl_min_protocol_version")
        session = others.get("target_session_attrs", "any")
        if session in _READING_SESSIONS:
            text = f"target_session_attrs={session} leads to a replica, but a log is written to; use read-write"
            raise ConnectFailed(text, is_fault=True)
        options["target_session_attrs"] = session
        options["client_encoding"] = "UTF8"
        options.setdefault("fallback_application_name", self._name)
        for name, value in _KEEPALIVE.items():
            options.setdefault(name, value)
        options.setdefault("tcp_user_timeout", str(int(max(self._timeouts.answer, self._timeouts.write) * 2000)))
        return options

    def _addresses(self, host: Options, options: Options) -> list[Options]:
        """Return the addresses of one host, each as options."""
        name = host.get("host", "")
        if not name or "hostaddr" in host or name[0] in "/@":  # the last two begin the name of a socket
            return [Options()]
        return [Options(hostaddr=address) for address in addresses_of(name, self._seconds(options))]

    def _seconds(self, options: Options) -> float:
        try:
            seconds = float(options.get("connect_timeout", ""))
        except ValueError:
            seconds = 0.0
        return seconds if seconds > 0 else self._timeouts.connect  # for libpq 0 is no bound

    def _connect_to(self, options: Options) -> BoundedConnection:
        deadline = time.monotonic() + self._seconds(options)
        pgconn = pq.PGconn.connect_start(make_conninfo("", **options).encode())
        try:
            finish_connecting(pgconn, deadline)
            pgconn.nonblocking = 1
        except BaseException as error:
            text = _without_passwords(str(error), pgconn, options)
            finish(pgconn)
            if not isinstance(error, psycopg.Error):
                raise
            raise ConnectFailed(text) from None
        connection = BoundedConnection(pgconn)
        connection.answer = self._timeouts.answer
        try:
            connection.autocommit = True
            # PgBouncer in transaction mode knows no prepared statements, and old releases none at all.
            connection.prepare_threshold = None
            # Otherwise psycopg keeps notifications for ever. A pooler may hand on those of others.
            connection.add_notify_handler(_ignore)
            self.inspect(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def inspect(self, connection: BoundedConnection) -> None:
        """Ask PostgreSQL about itself, in one round trip.

        :raises psycopg.Error: any error.
        """
        if connection.pgconn.server_version < OLDEST_SERVER * 10000:
            found = connection.pgconn.server_version // 10000
            raise ConnectFailed(f"PostgreSQL {found} is too old; use {OLDEST_SERVER} or newer", is_fault=True)
        try:
            (facts,) = connection.rows(_INSPECT.format(_SYSTEM_IDENTIFIER))
        except psycopg.errors.InsufficientPrivilege:
            (facts,) = connection.rows(_INSPECT.format("''"))
        pid, is_replica, is_committed, is_writable, identifier = facts
        connection.is_replica, connection.system_identifier = is_replica, identifier
        connection.is_direct = pid == connection.pgconn.backend_pid
        connection.is_plain = is_committed and (is_writable or is_replica)
        connection.seen = time.monotonic()


def _without_passwords(text: str, pgconn: pq.abc.PGconn, options: Options) -> str:
    # A function of its own: a report of an error may show the variables of the functions that it came through.
    for secret in (pgconn.password.decode(errors="replace"), *map(options.get, SECRET_OPTIONS)):
        text = text.replace(secret, "...") if secret else text
    return " ".join(text.split())


def _ignore(notification: object) -> None:
    pass


def _read_options(conninfo: str, spoiled: str) -> Options:
    """Return the options as libpq sees them, from the URL, the service file, the environment and its defaults."""
    pgconn = pq.PGconn.connect_start(make_conninfo(conninfo, **{spoiled: _INVALID}).encode())
    try:
        text = pgconn.error_message.decode(errors="replace")
        if pgconn.status == pq.ConnStatus.BAD and _INVALID not in text:
            raise ConnectFailed(f"libpq does not take the URL: {' '.join(text.split())}", is_fault=True)
        found = Options({each.keyword.decode(): each.val.decode() for each in pgconn.info if each.val})
    finally:
        pgconn.finish()
    found.pop(spoiled, None)
    return found


def _split(options: Options) -> list[Options]:
    """Return the options that differ between the hosts, for each host."""
    lists = {name: options[name].split(",") for name in ("host", "hostaddr", "port") if name in options}
    count = max(len(lists.get("host", ())), len(lists.get("hostaddr", ())), 1)
    for name, values in lists.items():
        if len(values) == 1:
            lists[name] = values * count
    return [Options({name: values[number] for name, values in lists.items()}) for number in range(count)]


def _key(host: Options) -> tuple[str, ...]:
    return tuple(host.values())
