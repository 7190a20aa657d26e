"""The URL of a stream: which are valid, and how messages show them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def check_url(url: object) -> None:
    """Raise unless ``url`` is an absolute URL with the scheme ``http`` or ``https``.

    :raises ValueError: it is not.
    """
    if not isinstance(url, str):
        raise ValueError(f"the URL must be text, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in ("http", "https"):
        raise ValueError(f"{_bare(url)!r} is not a URL of a stream; write http://host/path or https://host/path")


def shown(url: str) -> str:
    """Return ``url`` without user name, password, fragment, and the values of its query.

    A query may hold a ticket, which must not be in a log line.
    """
    try:
        return _shown(urlsplit(url))
    except ValueError:
        return _bare(url)


def _shown(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?...' if parts.query else ''}"


def _bare(url: str) -> str:
    # For a URL that cannot be split: its beginning, up to the first place where a secret may begin.
    scheme, colon, rest = url.partition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}".partition("?")[0] if colon else url.partition("?")[0]
