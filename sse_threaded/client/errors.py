"""The errors of ``sse_threaded.client``. After each of them the iteration has ended for good.

Their texts show neither a password nor the query of the URL, because a query may hold a ticket.
"""

from __future__ import annotations

from ..errors import SSEError


class StreamError(SSEError):
    """The stream cannot be read any further.

    :ivar url: the URL, without user name, password and the values of its query.
    :ivar reason: the fault and the remedy, in one sentence.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason


class StreamRefused(StreamError):
    """The answer is not an event stream, and another attempt would not change it (WHATWG HTML 9.2.3).

    :ivar url: the URL, without user name, password and the values of its query.
    :ivar reason: the fault and the remedy, in one sentence.
    :ivar status: the status of the answer, or ``None`` if there is no answer, such as for an invalid certificate.
    :ivar content_type: the content type of the answer, or ``None`` if it has none.
    """

    def __init__(self, url: str, reason: str, status: int | None = None, content_type: str | None = None) -> None:
        super().__init__(url, reason)
        self.status = status
        self.content_type = content_type


class StreamLost(StreamError):
    """As many attempts in a row have failed as ``max_failures`` allows.

    :ivar url: the URL, without user name, password and the values of its query.
    :ivar reason: the fault of the last attempt.
    :ivar failures: how many attempts have failed.
    """

    def __init__(self, url: str, reason: str, failures: int) -> None:
        super().__init__(url, f"{reason}; attempts that failed in a row: {failures}")
        self.failures = failures


class EventTooLarge(StreamError):
    """The stream sent an event, or a line, with more bytes than ``max_event_bytes``.

    :ivar url: the URL, without user name, password and the values of its query.
    :ivar reason: the fault and the remedy, in one sentence.
    :ivar limit: ``max_event_bytes``.
    """

    def __init__(self, url: str, limit: int) -> None:
        super().__init__(url, f"an event has over {limit:,} bytes; allow more with max_event_bytes")
        self.limit = limit
