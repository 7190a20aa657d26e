"""Which requests count toward gunicorn's ``max_requests``: all but those that open a stream.

When a worker ends, its pages come back to the workers that are left. Were they counted, these would end too,
and so on without end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_STREAM = "text/event-stream"


class RequestCount:
    """One request, to be counted when its response begins.

    :param start_response: the server's.
    :param begin: called once, before ``start_response`` is, with whether the request counts.
    """

    __slots__ = ("_begin", "_begun", "_start_response")

    def __init__(self, start_response: Callable[..., Any], begin: Callable[[bool], None]) -> None:
        self._start_response = start_response
        self._begin = begin
        self._begun = False

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """PEP 3333's, for the app."""
        if not self._begun:
            self._begun = True
            self._begin(not _opens_stream(headers))
        return self._start_response(status, headers, exc_info)

    def finish(self) -> None:
        """Count a request whose app failed before its response began."""
        if not self._begun:
            self._begun = True
            self._begin(True)


def _opens_stream(headers: list[tuple[str, str]]) -> bool:
    for name, value in headers:
        if name.lower() == "content-type":
            return value.lower().startswith(_STREAM)
    return False
