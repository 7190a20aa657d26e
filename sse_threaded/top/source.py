"""Where the table comes from: the log itself, or the debug page of an app over HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPException
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..errors import SSEError
from ..log import EventLog
from ..overview import ProcessReport, ask, from_json

# Seconds for the answer of a server.
_TIMEOUT = 10.0


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: it could lead the fields of ``--header`` to another server."""

    def redirect_request(self, *arguments: Any) -> None:
        """Return that there is no further request."""


_OPENER = build_opener(_NoRedirect)


class SourceError(SSEError):
    """The streams cannot be read."""


class Source(Protocol):
    """Gives the reports of all processes."""

    name: str

    def read(self) -> list[ProcessReport]:
        """Return the reports.

        :raises SSEError: they cannot be read.
        """


class LogSource:
    """Asks the processes through their log.

    :param log: the log.
    :param most: how many rows each process may send.
    """

    def __init__(self, log: EventLog, most: int) -> None:
        self.name = log.url
        self._log = log
        self._most = most

    def read(self) -> list[ProcessReport]:
        """See :class:`Source`."""
        return ask(self._log, most=self._most)


class PageSource:
    """Asks the debug page of an app.

    :param address: the page's address, ``http://`` or ``https://``.
    :param headers: fields of the request, each ``Name: value``.
    """

    def __init__(self, address: str, headers: Sequence[str] = ()) -> None:
        if "@" in address.partition("://")[2].partition("/")[0]:
            raise SourceError("give user and password by --header 'Authorization: Basic ...', not in the address")
        self.name = address.partition("?")[0]
        self._request = Request(f"{self.name.rstrip('/')}/streams", headers={"Accept": "application/json"})
        for field in headers:
            name, colon, value = field.partition(":")
            if not colon or not name.strip():
                raise SourceError("--header must be 'Name: value', such as 'Authorization: Bearer ...'")
            self._request.add_header(name.strip(), value.strip())

    def read(self) -> list[ProcessReport]:
        """See :class:`Source`."""
        try:
            with _OPENER.open(self._request, timeout=_TIMEOUT) as response:  # a person has typed the address
                answer = json.load(response)
            return [from_json(values) for values in answer["processes"]]
        except HTTPError as error:
            raise SourceError(f"{self.name} answers {error.code}: {_detail(error) or error.reason}") from None
        except (OSError, HTTPException) as error:
            raise SourceError(f"{self.name} cannot be reached: {getattr(error, 'reason', error)}") from None
        except (ValueError, KeyError, TypeError):
            raise SourceError(
                f"{self.name} is not a debug page; give the address at which it is mounted"
            ) from None


def _detail(error: HTTPError) -> str:
    with suppress(ValueError, OSError, AttributeError):
        return str(json.load(error).get("detail", ""))
    return ""
