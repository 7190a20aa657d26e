"""One ordinary HTTP request on a connection of its own."""

from __future__ import annotations

import http.client
import json as json_module
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from werkzeug.datastructures import Headers


class Reply(NamedTuple):
    """The answer to a request; unpacks as ``status, headers, body``."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """Parse the body as JSON; raises ``ValueError`` when it is invalid."""
        return json_module.loads(self.body)


def split_url(url: str) -> tuple[SplitResult, str]:
    """Split an ``http://`` URL into its parts and the request target (path and query).

    :raises ValueError: the scheme is another one, or there is no host.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is not a URL like http://127.0.0.1:3000/path")
    return parts, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def request(
    method: str,
    url: str,
    *,
    json: Any = None,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 10.0,
) -> Reply:
    """Send one request on a new connection and read the whole answer; redirects are not followed.

    :param method: such as ``"POST"``.
    :param url: an ``http://`` URL.
    :param json: a value to send as JSON, with the content type of JSON; default ``None``: no JSON.
    :param body: bytes to send instead of ``json``; give their content type in ``headers``.
    :param headers: further header fields; they override the fields of this function.
    :param timeout: seconds that the connection may stay silent; default 10.
    :raises OSError: the connection fails (``TimeoutError``: it stays silent).
    """
    parts, target = split_url(url)
    fields = Headers({"Connection": "close"})
    if json is not None:
        body = json_module.dumps(json).encode()
        fields["Content-Type"] = "application/json"
    for name, value in (headers or {}).items():
        fields[name] = value
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(method, target, body, dict(fields))
        response = connection.getresponse()
        return Reply(response.status, Headers(response.getheaders()), response.read())
    finally:
        connection.close()
