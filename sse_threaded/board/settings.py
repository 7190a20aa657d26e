"""Reads the board's settings from the environment.

>>> hub_settings({"SSE_THREADED_HEARTBEAT": "10", "SSE_THREADED_RETRY": "3000"})
{'heartbeat': 10.0, 'retry': 3000}
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Mapping

from ..errors import SSEError
from .allowed_hosts import HOSTS, checked_names

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

URL = "SSE_THREADED_URL"
PROXIES = "SSE_THREADED_PROXIES"
BIND = "SSE_THREADED_BIND"
WORKERS = "SSE_THREADED_WORKERS"
THREADS = "SSE_THREADED_THREADS"
CONNECTIONS = "SSE_THREADED_CONNECTIONS"
METRICS = "SSE_THREADED_METRICS"
DEBUG = "SSE_THREADED_DEBUG"
DEFAULT_URL = "sqlite:///sse_threaded.db"


class SettingError(SSEError):
    """An environment variable has an invalid value; the app does not start.

    :ivar name: the name of the variable.
    :ivar value: its value.
    :ivar reason: which values are valid, in one sentence.
    """

    def __init__(self, name: str, value: str, reason: str) -> None:
        super().__init__(f"{name}={value!r}: {reason}")
        self.name = name
        self.value = value
        self.reason = reason


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _milliseconds(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise ValueError
    return number


# For each variable: the argument of Hub, the function that reads the text, and a description of valid values.
_NUMBERS: dict[str, tuple[str, Callable[[str], int | float], str]] = {
    "SSE_THREADED_MAX_STREAMS": ("max_streams", _count, "a whole number of streams from 1, such as 56"),
    "SSE_THREADED_HEARTBEAT": ("heartbeat", _seconds, "a number of seconds above 0, such as 15"),
    "SSE_THREADED_LEASE": ("lease", _seconds, "a number of seconds above 0, such as 900"),
    "SSE_THREADED_QUEUE_SIZE": ("queue_size", _count, "a whole number of events from 1, such as 1000"),
    "SSE_THREADED_RETRY": ("retry", _milliseconds, "a whole number of milliseconds from 0, such as 5000"),
}


def unknown_names(environ: Mapping[str, str]) -> list[str]:
    """Return the variables that look like settings but do not exist; most likely they are mistyped.

    :param environ: the environment, usually ``os.environ``.
    """
    known = {URL, PROXIES, HOSTS, BIND, WORKERS, THREADS, CONNECTIONS, METRICS, DEBUG, *_NUMBERS}
    return sorted(name for name in environ if name.startswith("SSE_THREADED_") and name not in known)


def log_url(environ: Mapping[str, str]) -> str:
    """Return the URL of the log: ``SSE_THREADED_URL``, or a SQLite file in the working directory.

    :param environ: the environment, usually ``os.environ``.
    """
    return environ.get(URL) or DEFAULT_URL


def hub_settings(environ: Mapping[str, str]) -> dict[str, int | float]:
    """Return the keyword arguments of :class:`~sse_threaded.Hub` that the environment sets.

    :param environ: the environment, usually ``os.environ``. ``SSE_THREADED_MAX_STREAMS`` and
        ``SSE_THREADED_QUEUE_SIZE`` are counts, ``SSE_THREADED_HEARTBEAT`` and ``SSE_THREADED_LEASE`` are
        seconds, ``SSE_THREADED_RETRY`` is milliseconds. For a variable that is unset or empty, the Hub uses
        its default.
    :raises SettingError: the value of a variable is not a number, or out of range.
    """
    settings: dict[str, int | float] = {}
    for variable, (argument, read, wanted) in _NUMBERS.items():
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            settings[argument] = read(text)
        except ValueError:
            raise SettingError(variable, text, f"set it to {wanted}, or unset it") from None
    return settings


def proxy_count(environ: Mapping[str, str]) -> int:
    """Return how many proxies in front of the board are trusted: ``SSE_THREADED_PROXIES``, by default 0.

    :param environ: the environment, usually ``os.environ``.
    :raises SettingError: the value is not a whole number from 0.
    """
    text = environ.get(PROXIES, "").strip()
    try:
        return _count(text) if text not in ("", "0") else 0
    except ValueError:
        raise SettingError(PROXIES, text, "set it to a whole number from 0, or unset it") from None


def trusted_hosts(environ: Mapping[str, str]) -> list[str]:
    """Return the names by which browsers reach the board: ``SSE_THREADED_HOSTS``, separated by commas.

    For ``*``, a dot at the beginning of a name, and an empty list see
    :class:`~sse_threaded.board.allowed_hosts.AllowedHosts`.

    :param environ: the environment, usually ``os.environ``.
    :raises SettingError: a name is invalid.
    """
    text = environ.get(HOSTS, "").strip()
    try:
        return checked_names(text)
    except ValueError:
        wanted = "host names without a scheme or a port, such as board.example,.example.org"
        raise SettingError(HOSTS, text, f"set it to {wanted}, or to * for all, or unset it") from None


def operator_networks(environ: Mapping[str, str], variable: str) -> list[Network]:
    """Return the addresses of operators, for ``/metrics`` or ``/debug``; the default is an empty list.

    ``1`` stands for loopback addresses only. Otherwise it is a list of addresses or networks, separated by commas.

    :param environ: the environment, usually ``os.environ``.
    :param variable: ``SSE_THREADED_METRICS`` or ``SSE_THREADED_DEBUG``.
    :raises SettingError: it is neither.
    """
    text = environ.get(variable, "").strip()
    if text in ("", "0"):
        return []
    if text == "1":
        return [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1")]
    try:
        return [ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",")]
    except ValueError:
        wanted = "1 for this machine, or to networks such as 127.0.0.1,10.0.0.0/8"
        raise SettingError(variable, text, f"set it to {wanted}, or unset it") from None


def server_number(environ: Mapping[str, str], variable: str, default: int) -> int:
    """Return a number of processes, threads or connections.

    :param environ: the environment, usually ``os.environ``.
    :param variable: the name of the variable.
    :param default: the number when the variable is unset or empty.
    :raises SettingError: the value is not a whole number from 1.
    """
    text = environ.get(variable, "").strip()
    try:
        return _count(text) if text else default
    except ValueError:
        raise SettingError(variable, text, "set it to a whole number from 1, or unset it") from None
