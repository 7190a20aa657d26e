"""The URL of a stream or of a POST, and the head of a request to it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from .errors import CannotBench

# Placeholders. In a URL: the number of a channel, from 0. In a body: the time stamp.
CHANNEL = "{channel}"
STAMP = "{stamp}"

_PROBE_SECONDS = 2.0


class Endpoint:
    """A URL to which the load client sends requests.

    :param url: ``http://host[:port][/path][?query]``; ``{channel}`` in it is replaced by the number of a channel.
    :param headers: further header fields, each as ``Name: value``.
    :raises CannotBench: the URL or a header field is invalid, or the host is unknown.
    """

    def __init__(self, url: str, headers: Sequence[str] = ()) -> None:
        self.url = url
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise CannotBench(f"{url}: {error}") from None
        if parts.scheme == "https":
            raise CannotBench(
                f"{url}: the load client speaks no TLS, as it would measure TLS instead of the server; "
                "give the http:// address behind the proxy"
            )
        if parts.scheme != "http" or not parts.hostname:
            raise CannotBench(f"{url}: not a URL such as http://127.0.0.1:3000/boards/board-1/events")
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._fields = f"Host: {parts.netloc.rpartition('@')[2]}\r\n"
        for header in headers:
            name, colon, value = header.partition(":")
            if not colon or not name.strip() or any(sign in header for sign in "\r\n"):
                raise CannotBench(f"{header!r} is not a header field; write it as 'Name: value'")
            self._fields += f"{name.strip()}: {value.strip()}\r\n"
        try:
            found = socket.getaddrinfo(parts.hostname, port or 80, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise CannotBench(f"{url}: the host cannot be found ({error})") from None
        self.family, self.address = _first_that_answers([(entry[0], entry[4]) for entry in found])
        try:
            self.head("GET", 0).encode("ascii")
        except UnicodeEncodeError:
            raise CannotBench(f"{url}: write non-ASCII characters as %-escapes") from None

    @property
    def channels_vary(self) -> bool:
        """Whether the URL contains ``{channel}``."""
        return CHANNEL in self._path

    def head(self, method: str, channel: int, *fields: str) -> str:
        """Return the head of a request.

        :param method: such as ``GET``.
        :param channel: the number that replaces ``{channel}``.
        :param fields: further header fields, only for this request.
        """
        path = self._path.replace(CHANNEL, str(channel))
        own = "".join(f"{field}\r\n" for field in fields)
        return f"{method} {path} HTTP/1.1\r\n{self._fields}User-Agent: sse-threaded-bench\r\n{own}\r\n"


def _first_that_answers(addresses: list[tuple[int, tuple[Any, ...]]]) -> tuple[int, tuple[Any, ...]]:
    """Return the first address that answers. localhost is ::1 and 127.0.0.1; many servers use only the second."""
    for family, address in addresses if len(addresses) > 1 else []:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_SECONDS)
            if probe.connect_ex(address) == 0:
                return family, address
    return addresses[0]
