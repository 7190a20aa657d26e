"""Translates the errors of PostgreSQL and of its driver. Each error says how a person can mend it.

An error of PostgreSQL has a code of five characters, SQLSTATE. A failed connection has none, only a text. A code
that begins with ``SSE`` is of a function of ours: such an error passes as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import psycopg

from ...errors import LogError, LogUnavailable, LogUnusable

# Codes of our own functions begin with this.
OWN_CODES = "SSE"

_REPLICA = (
    "this PostgreSQL takes no changes, as a replica or because it is set read-only; name all hosts in the URL, "
    "and add target_session_attrs=read-write"
)
_MISSING = "the tables or functions of the log are missing; `sse-threaded schema` prints the SQL that makes them"
_DENIED = "this role lacks a right that the log needs; see docs/postgresql.md"

# The refusals that may pass, by code or by the first two characters of the code.
_REFUSALS = {
    "25006": _REPLICA,
    "25P03": "the transaction was idle for too long, and PostgreSQL has ended it",
    "25P04": "the transaction took too long, and PostgreSQL has ended it",
    "40": "PostgreSQL has ended the transaction because of another one; try again",
    "53": "PostgreSQL lacks memory, disk space or connections",
    "53100": "PostgreSQL's disk is full; make room, then try again",
    "53300": "PostgreSQL has no connection left; raise max_connections, or use fewer processes",
    "55P03": "locked by another transaction for too long; try again",
    "57014": "PostgreSQL has cancelled the statement (statement_timeout, or a person)",
    "58": "PostgreSQL failed to read or write a file; look at its log",
}
# A restart, a failover, an end by pg_terminate_backend: these end the connection.
_ENDINGS = ("08", "57P01", "57P02", "57P03", "57P05")
# The statement had no effect, and may have one in a moment.
_PASSING = ("25006", "25P03", "40", "53300", "55P03", *_ENDINGS)

# PgBouncer's own errors have a code of this class, such as "server conn crashed?". After most of them the
# statement may have taken effect. After those below it did not reach PostgreSQL.
_POOLER = "08"
_NOT_SENT = re.compile(r"query_wait_timeout|server_login_retry|cannot connect|server down|max_client_conn")

# The faults that a person must mend.
_FAULTS = {
    "28": "it denies this user; look at the URL's user and password, and at pg_hba.conf",
    "3D000": "the database does not exist; look at the URL",
    "3F000": _MISSING,
    "42501": _DENIED,
    "42703": _MISSING,
    "42883": _MISSING,
    "42P01": _MISSING,
    "XX001": "the data is corrupt; restore it from a backup",
    "XX002": "the data is corrupt; restore it from a backup",
}

# The mistake behind a failed connection, by a part of the text. Such an error has no code. In another language
# than English it counts as one that may pass.
_MISTAKES = (
    (
        re.compile(
            r"authentication failed|no password supplied|no pg_hba\.conf entry|role .* does not exist|"
            r"not permitted to log in|authentication method .* (?:not supported|failed)|no such user",
            re.IGNORECASE,
        ),
        _FAULTS["28"],
    ),
    (re.compile(r"database .* does not exist|no such database", re.IGNORECASE), _FAULTS["3D000"]),
    (re.compile(r"permission denied for database", re.IGNORECASE), _DENIED),
    (
        re.compile(r"unsupported startup parameter", re.IGNORECASE),
        "the pooler does not take an option of the URL; leave it out, and use ALTER ROLE ... SET",
    ),
    (
        re.compile(
            r"server does not support SSL|certificate verify failed|certificate .* does not match|"
            r"(?:certificate|private key) file .* (?:does not exist|could not|has )|could not (?:load|read) "
            r"(?:root )?(?:certificate|private key)",
            re.IGNORECASE,
        ),
        "TLS is not possible as the URL wants it; look at sslmode and the files of certificates",
    ),
)

_SPACE = re.compile(r"\s+")


class Unreachable(LogUnavailable):
    """PostgreSQL did not answer, or could not be reached. The statement had no effect."""


class AnswerLost(Unreachable):
    """The connection ended before the answer came. The statement may have taken effect or not."""


class ConnectFailed(psycopg.OperationalError):
    """No address of the URL gave a connection.

    :param message: the reasons of all.
    :param is_fault: whether a person must act, whichever address is tried.
    """

    def __init__(self, message: str, *, is_fault: bool = False) -> None:
        super().__init__(message)
        self.is_fault = is_fault


class AnswerMissing(psycopg.OperationalError):
    """No answer came in time. The connection was closed."""


def sqlstate_of(error: BaseException | None) -> str:
    """Return the code of an error of the driver, or of the cause of our error; ``""`` if it has none."""
    if isinstance(error, LogError):
        error = error.__cause__
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    return code or ""


def is_own(error: psycopg.Error) -> bool:
    """Whether one of our functions in PostgreSQL has raised it."""
    return sqlstate_of(error).startswith(OWN_CODES)


def is_connect_fault(text: str) -> bool:
    """Whether a person must act after this text of a failed connection."""
    return any(pattern.search(text) for pattern, _ in _MISTAKES)


def is_away(error: psycopg.Error) -> bool:
    """Whether the connection is lost, or none could be made."""
    if isinstance(error, ConnectFailed):
        return not error.is_fault
    code = sqlstate_of(error)
    lost = not code and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return lost or code.startswith(_ENDINGS)


def is_lost(error: psycopg.Error) -> bool:
    """Whether the statement may have taken effect, as no answer came."""
    if not is_away(error) or isinstance(error, ConnectFailed):
        return False
    code = sqlstate_of(error)
    return not code or (code.startswith(_POOLER) and _NOT_SENT.search(str(error)) is None)


def is_passing(error: psycopg.Error) -> bool:
    """Whether it may pass by itself within seconds."""
    return is_away(error) or sqlstate_of(error).startswith(_PASSING)


def is_replica(error: psycopg.Error) -> bool:
    """Whether the server takes no changes."""
    return sqlstate_of(error) == "25006"


class ErrorTranslator:
    """Turns the driver's errors into errors of this package, without the passwords of an address.

    :param url: the log's, without a password.
    :param secrets: the passwords that no text may have.
    """

    def __init__(self, url: str, secrets: Iterable[str]) -> None:
        self._url = url
        self._secrets = tuple(secrets)

    def translate(
        self, error: psycopg.Error, tried_for: float = 0.0, *, had_effect: bool | None = None
    ) -> Exception:
        """Return the error to raise instead of one of the driver's, or itself if a function of ours raised it.

        :param error: of the driver.
        :param tried_for: seconds for which it was tried again; default 0.
        :param had_effect: ``False``: nothing has happened, or it does not matter. ``None``, the default: this is
            not known if no answer came.
        """
        if is_own(error):
            return error
        code, said = sqlstate_of(error), self.said(error)
        tried = f" for {tried_for:.0f} s" if tried_for >= 0.5 else ""
        if is_lost(error) and had_effect is None:
            return AnswerLost(self._url, f"PostgreSQL did not answer{tried} ({said}); it may have done its part")
        if is_away(error):
            return Unreachable(self._url, f"PostgreSQL could not be reached{tried} ({said}); try again")
        if refusal := _REFUSALS.get(code) or _REFUSALS.get(code[:2]):
            return LogUnavailable(self._url, f"{refusal} ({said})")
        fault = _FAULTS.get(code) or _FAULTS.get(code[:2])
        if isinstance(error, ConnectFailed):
            fault = next((meaning for pattern, meaning in _MISTAKES if pattern.search(said)), None)
            return LogUnusable(self._url, f"{fault} ({said})" if fault else said)
        return LogUnusable(self._url, f"{fault} ({said})" if fault else f"PostgreSQL refused: {said}")

    def cause(self, error: psycopg.Error) -> psycopg.Error | None:
        """Return the cause for ``raise ... from``; ``None`` if it has a password in it.

        A traceback shows the cause too.
        """
        return None if any(secret in str(error) for secret in self._secrets) else error

    def said(self, error: BaseException) -> str:
        """Return the text of an error in one line, without a password."""
        said = _SPACE.sub(" ", str(error)).strip().rstrip(".") or type(error).__name__
        for secret in self._secrets:
            said = said.replace(secret, "...")
        return said
