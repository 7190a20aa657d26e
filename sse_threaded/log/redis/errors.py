"""Translates the errors of Redis and of its driver. Each error says how a person can mend it."""

from __future__ import annotations

import re

from redis import exceptions

from ...errors import LogUnavailable, LogUnusable
from .scripts import LOCK_LOST, LOCKED, NEW_EPOCH
from .url import Address

# All errors of the driver.
DRIVER_ERRORS = (exceptions.RedisError, exceptions.RedisClusterException, OSError)

# A restart, a failover, a cut connection.
_AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
    OSError,
)
_DENIED = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)

# The code at the beginning of a refusal of Redis. The driver cuts it off for some of its errors; the table has it.
_CODE = re.compile(r"(?:.*: -)?([A-Z]+) ")
_CODES = {
    exceptions.ReadOnlyError: "READONLY",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.TryAgainError: "TRYAGAIN",
}
_REFUSALS = {
    "OOM": "Redis is at its maxmemory; give it more, or keep less (Retention)",
    "MISCONF": "Redis cannot write to its disk and therefore takes nothing; look at its log",
    "NOREPLICAS": "too few replicas are connected for Redis to take anything",
    "READONLY": "this Redis is a replica; name its master in the URL, or a Sentinel",
    "LOADING": "Redis is loading its data",
    "BUSY": "Redis is busy with another client's script; SCRIPT KILL ends it",
    "TRYAGAIN": "the Cluster is moving the log to another node",
}
# The refusals that pass by themselves within seconds.
_PASSING = {"NOREPLICAS", "READONLY", "LOADING", "BUSY", "TRYAGAIN"}

# The mistake in the URL, by a part of the driver's message in small letters.
_MISTAKES = {
    "cluster mode is not enabled": "it is no Cluster; write redis://",
    "unknown command 'auth'": "it takes no password (AUTH is not there); leave it out of the URL",
    "unknown command `auth`": "it takes no password (AUTH is not there); leave it out of the URL",
    "protocol error": "the server that answers there is not Redis",
    "wrongtype operation": "some of these keys belong to another program; choose a ?prefix= of your own",
}
# In this part Redis repeats the arguments of an unknown command. The argument of AUTH is the password.
_ARGUMENTS = re.compile(",? with args beginning with:.*", re.DOTALL)


class Unreachable(LogUnavailable):
    """Redis did not answer, or could not be reached."""


def is_replica(error: Exception) -> bool:
    """Whether the server is a replica, which takes no writes."""
    return _code(error) == "READONLY"


def is_locked(error: Exception) -> bool:
    """Whether a script found that another writer has a transaction open."""
    return LOCKED in str(error)


def is_passing(error: Exception) -> bool:
    """Whether it may pass by itself within seconds."""
    return is_locked(error) or _code(error) in _PASSING or _is_away(error)


def _code(error: Exception) -> str:
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    match = _CODE.match(str(error))
    return match[1] if match is not None and isinstance(error, exceptions.ResponseError) else ""


def _is_away(error: Exception) -> bool:
    return isinstance(error, _AWAY) and not isinstance(error, _DENIED)


class ErrorTranslator:
    """Turns the driver's errors into errors of this package, without the passwords of an address.

    :param address: where the server is.
    """

    def __init__(self, address: Address) -> None:
        self._url = address.url
        self._secrets = tuple(filter(None, address.secrets.values()))

    def translate(self, error: Exception, tried_for: float = 0.0) -> Exception:
        """Return the error to raise instead of one of the driver's.

        An error of another kind is returned as it is, and so is a script's refusal.

        :param tried_for: seconds for which it was tried again; default 0.
        """
        raw, said = str(error), self._said(error)
        is_refusal = NEW_EPOCH in raw or LOCK_LOST in raw
        if is_refusal or not isinstance(error, DRIVER_ERRORS):
            return error
        tried = f" for {tried_for:.0f} s" if tried_for >= 0.5 else ""
        locked = f"locked by another writer{tried}; try again" if is_locked(error) else None
        if refused := locked or _REFUSALS.get(_code(error)):
            return LogUnavailable(self._url, refused)
        mistake = next((meaning for sign, meaning in _MISTAKES.items() if sign in raw.lower()), None)
        if isinstance(error, _DENIED):
            mistake = "it denies this user; look at the URL's user and password, and at the ACL"
        if mistake is None and _is_away(error):
            why = said.rstrip(".") or type(error).__name__
            return Unreachable(self._url, f"Redis could not be reached{tried} ({why}); try again")
        return LogUnusable(self._url, f"Redis refused: {mistake or said}")

    def cause(self, error: Exception) -> Exception | None:
        """Return the cause for ``raise ... from``; ``None`` if it has a password in it.

        A traceback shows the cause too.
        """
        return error if self._said(error) == str(error) else None

    def _said(self, error: Exception) -> str:
        """Return the text of an error, without a password."""
        said = _ARGUMENTS.sub("", str(error))
        for secret in self._secrets:
            said = said.replace(secret, "...")
        return said
