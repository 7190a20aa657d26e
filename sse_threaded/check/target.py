"""The address of one request, taken apart."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from ..protocol.address import check_url, shown
from .errors import CannotCheck

# Characters of a path or a query that stay as they are (RFC 3986 3.3, 3.4). All others become %-escapes.
_KEPT = "/?:@!$&'()*+,;=%-._~"

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Target:
    """Where a request goes.

    :ivar scheme: ``http`` or ``https``.
    :ivar host: the name or the address, without brackets.
    :ivar port: the port.
    :ivar path: the path and the query, with ASCII characters only.
    """

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Target:
        """Return the target of a URL; a fragment is left out.

        :raises CannotCheck: the URL is invalid, or contains a user name or a password.
        """
        try:
            check_url(url)
        except ValueError as error:
            raise CannotCheck(str(error)) from None
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            how = "give them as --header 'Authorization: ...'"
            raise CannotCheck(f"{shown(url)}: leave user name and password out of the URL; {how}")
        assert parts.hostname is not None
        path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_KEPT)
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], path)

    def __str__(self) -> str:
        """The URL without the values of its query, which may hold a ticket."""
        return shown(self.url)

    @property
    def url(self) -> str:
        """The whole URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.scheme, self.host, self.port

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine. Then no other machine is on the way."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def redirected(self, location: str) -> Target:
        """Return the target of a ``Location`` field (RFC 9110 10.2.2).

        :raises CannotCheck: it is not an address with http:// or https://.
        """
        return Target.of(urljoin(self.url, location))
