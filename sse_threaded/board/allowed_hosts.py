"""Which names a request may ask for: the guard of a board on localhost against DNS rebinding.

A page of another site can have its own name lead to 127.0.0.1, and then read a server there as if that were its
own site. The browser still sends that name as the ``Host``, by which it is refused.

>>> Hosts(["board.example"]).refusal({"HTTP_HOST": "board.example:3000"})
>>> Hosts().refusal({"HTTP_HOST": "evil.example", "SERVER_NAME": "127.0.0.1"}).status_code
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

# A name or an address, and a port (RFC 9110, section 7.2). A name has 253 characters at most.
_HOST = re.compile(r"([a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{0,5})?", re.ASCII | re.IGNORECASE)

# Load balancers look here by the address. No browser can be led here by such a Host.
_HEALTH = "/healthz"


class Hosts:
    """The names that the board answers to. ``localhost`` and loopback addresses are always served.

    :param names: further ones, as :func:`checked_names` gives them. ``"*"`` is for all; one that begins with a
        dot is for itself and all below it. Default none: then no further name is served where the server listens
        on localhost, and all names where it listens on a Unix socket or on another address.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        names = tuple(names)
        self._all = "*" in names
        self._names = frozenset(name.removeprefix(".") for name in names)
        self._ends = tuple(name for name in names if name.startswith("."))

    def refusal(self, environ: Mapping[str, Any]) -> Response | None:
        """The answer to a request for a host that is not served here; ``None`` if it is.

        :param environ: the WSGI environ. Its ``SERVER_NAME`` must be the address that the server listens on,
            as it is under gunicorn and Werkzeug.

        The status is 421 (RFC 9110, section 15.5.20); 400 for a ``Host`` that is malformed, or missing in
        HTTP/1.1 (RFC 9112, section 3.2).
        """
        if self._all or not (self._names or _is_local(str(environ.get("SERVER_NAME", "")))):
            return None
        host = str(environ.get("HTTP_HOST", ""))
        if not host and environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
            return None  # it may be missing there, and no browser leaves it out
        match = _HOST.fullmatch(host)
        if match is None:
            return problem(400, "The request names no valid host; send a Host header, such as localhost:3000.")
        name = match[1].lower().removesuffix(".")
        if _is_local(name) or name in self._names or name.endswith(self._ends):
            return None
        if environ.get("PATH_INFO") == _HEALTH and _address(name) is not None:
            return None
        shown = name if len(name) <= 80 else f"{name[:79]}…"
        return problem(421, f"This board does not serve the name {shown}; whoever runs it can add it to {HOSTS}.")


def checked_names(text: str) -> list[str]:
    """The names in a list that is separated by commas, in the form that browsers send.

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
            bare = bare.encode("idna").decode()  # its errors are ValueErrors
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
