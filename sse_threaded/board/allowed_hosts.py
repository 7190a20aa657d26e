"""The host names that a request may ask for: protects a board on localhost against DNS rebinding.

An attacker can let the name of their own site point to 127.0.0.1. Their page then reads a server on this machine
as if it were their own site. The browser still sends the attacker's name in ``Host``, so the board refuses it.

>>> AllowedHosts(["board.example"]).refusal({"HTTP_HOST": "board.example:3000"})
>>> AllowedHosts().refusal({"HTTP_HOST": "evil.example", "SERVER_NAME": "127.0.0.1"}).status_code
421
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from werkzeug.wrappers import Response

from ..protocol.problem import problem

HOSTS = "SSE_THREADED_HOSTS"

# A name or an address, and an optional port (RFC 9110, section 7.2). A name has at most 253 characters.
_HOST = re.compile(r"([a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{0,5})?", re.ASCII | re.IGNORECASE)

# Load balancers and Prometheus ask for these paths, with an address as the Host. DNS rebinding needs a name, so
# this is safe.
_BY_ADDRESS = ("/healthz", "/metrics")


class AllowedHosts:
    """The host names that the board serves. It always serves ``localhost`` and loopback addresses.

    :param names: further names, from :func:`checked_names`. ``"*"`` allows every name. ``".example.org"`` allows
        ``example.org`` and every name below it. Default: no names. Then a server that listens on localhost serves
        no further name; one that listens on a Unix socket or another address serves every name.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        names = tuple(names)
        self._all = "*" in names
        self._names = frozenset(name.removeprefix(".") for name in names)
        self._ends = tuple(name for name in names if name.startswith("."))

    def refusal(self, environ: Mapping[str, Any]) -> Response | None:
        """Return the error response for a host that the board does not serve; ``None`` for a host that it serves.

        :param environ: the WSGI environ. ``SERVER_NAME`` must be the address that the server listens on; gunicorn
            and Werkzeug set it so.

        The status is 421 (RFC 9110, section 15.5.20), or 400 for a ``Host`` that is malformed, or missing in
        HTTP/1.1 (RFC 9112, section 3.2).
        """
        if self._all or not (self._names or _is_local(str(environ.get("SERVER_NAME", "")))):
            return None
        host = str(environ.get("HTTP_HOST", ""))
        if not host and environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
            return None  # HTTP/1.0 allows that, and every browser sends it
        match = _HOST.fullmatch(host)
        if match is None:
            return problem(400, "The Host header is missing or invalid; send one, such as localhost:3000.")
        name = match[1].lower().removesuffix(".")
        if _is_local(name) or name in self._names or name.endswith(self._ends):
            return None
        if environ.get("PATH_INFO") in _BY_ADDRESS and _address(name) is not None:
            return None
        shown = name if len(name) <= 80 else f"{name[:79]}…"
        return problem(421, f"This board does not serve the name {shown}; its operator can add it to {HOSTS}.")


def checked_names(text: str) -> list[str]:
    """Return the names in a comma-separated list, in the form in which browsers send them.

    :raises ValueError: a name is invalid.
    """
    names = []
    for part in text.split(","):
        name = part.strip().lower()
        if name in ("", "*"):
            names += [name] if name else []
            continue
        dot = "." if name.startswith(".") else ""
        bare = name.removeprefix(".").removesuffix(".")
        if not bare.isascii():
            bare = bare.encode("idna").decode()  # raises UnicodeError, which is a ValueError
        match = _HOST.fullmatch(bare)
        if match is None or match[2]:
            raise ValueError(part)
        names.append(dot + bare)
    return names


def _is_local(name: str) -> bool:
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


@lru_cache(maxsize=64)
def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
