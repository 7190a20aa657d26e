"""Sends events to a publisher over HTTP, with the standard library only; for the command line.

Each request has an idempotency key of its own, so it can be sent again when no answer comes.
"""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ..access.publish_tokens import check_token
from ..errors import SSEError
from .events import Event

# Seconds without a byte after which an answer is given up.
_TIMEOUT = 15.0

# Seconds before each further try, if the server names no other time; and the longest time that it may name.
_WAITS = (1.0, 2.0, 4.0)
_LONGEST_WAIT = 10.0

# The server, or a proxy before it, may answer otherwise a moment later.
_TEMPORARY = (429, 502, 503, 504)


class PublishFailed(SSEError):
    """The publisher did not take the events. The message says why, and does not show the token."""


def read_token(path: str) -> str:
    """Return the token in a file.

    :param path: the file has the token, and white space around it at most.
    :raises PublishFailed: the file cannot be read, or has no token.
    """
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise PublishFailed(f"the token file {path!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PublishFailed(f"the token file {path!r} is not text") from None
    fault = check_token(token)
    if fault:
        raise PublishFailed(f"the token file {path!r} has no token: it {fault}")
    return token


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the token is for this address only."""

    def redirect_request(self, *_: object) -> None:
        """Follow none."""


class PublisherClient:
    """Sends events to one publisher. One thread uses it.

    :param url: the publisher's address, ``https://`` or ``http://``.
    :param token: see :func:`read_token`.
    :raises PublishFailed: the URL is invalid.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise PublishFailed("--to must be the publisher's address, such as https://app.example/publish")
        self._url = url
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def publish(self, events: Sequence[Event]) -> list[str]:
        """Publish events in one transaction; returns their ids. Temporary faults are tried again three times.

        :raises PublishFailed: the publisher refuses them, or gives no answer. Without an answer they may be in the
            log or not.
        """
        body = json.dumps([_object(event) for event in events], ensure_ascii=False).encode()
        key = secrets.token_hex(16)
        for usual in (*_WAITS, None):
            try:
                return self._send(body, key)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in _TEMPORARY or usual is None:
                        raise PublishFailed(f"{self._url}: {_reason(error)}") from None
                    wait = _wait(error.headers.get("Retry-After"), usual)
            except (OSError, HTTPException) as error:
                if usual is None:
                    reason = getattr(error, "reason", None) or error
                    unknown = "the events may be published or not"
                    raise PublishFailed(f"{self._url}: no answer ({reason}); {unknown}") from None
                wait = usual
            time.sleep(wait)
        raise AssertionError("the last try raises")

    def _send(self, body: bytes, key: str) -> list[str]:
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            "Idempotency-Key": f'"{key}"',
        }
        request = urllib.request.Request(self._url, body, headers, method="POST")
        with self._opener.open(request, timeout=_TIMEOUT) as response:
            if response.status != 201:
                raise PublishFailed(f"{self._url}: status {response.status}; this is not a publisher")
            return _ids(self._url, response)


def _object(event: Event) -> dict[str, str]:
    channel, data, name = event
    return {"channel": channel, "data": data} | ({} if name is None else {"event": name})


def _ids(url: str, response: IO[bytes]) -> list[str]:
    try:
        return [str(each) for each in json.load(response)["ids"]]
    except (ValueError, TypeError, KeyError):
        raise PublishFailed(f"{url}: the answer has no ids; this is not a publisher") from None


def _reason(error: urllib.error.HTTPError) -> str:
    """The publisher's sentence, or the status of another server."""
    try:
        return f"{json.load(error)['detail']} (status {error.code})"
    except (ValueError, TypeError, KeyError, OSError, HTTPException):
        return f"status {error.code} ({error.reason}); this is not a publisher, or a proxy has answered"


def _wait(retry_after: str | None, usual: float) -> float:
    return min(float(retry_after), _LONGEST_WAIT) if retry_after and retry_after.isdecimal() else usual
