"""What can go wrong, split by what the caller does next.

HTTP failures are not here: an app answers them with Werkzeug's exceptions.
"""

from __future__ import annotations


class SSEError(Exception):
    """Root of every error this package raises on purpose."""


class InvalidEvent(SSEError):
    """The values cannot be an event; mend them, nothing was published.

    :ivar field: which one: ``"data"``, ``"event"``, ``"id"``, ``"retry"``, ``"comment"`` or ``"channel"``.
    :ivar reason: what is wrong with it and what to do, one sentence.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class LogError(SSEError):
    """The log did not do what was asked; no event was appended.

    :ivar url: the log's URL, without a password.
    :ivar reason: what happened and what to do, one sentence.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason


class LogUnavailable(LogError):
    """It may pass (locked, disk full, cut off): try again later."""


class LogUnusable(LogError):
    """It will not pass by itself (bad URL, corrupt, a newer schema): a person must act."""


class HubClosed(SSEError):
    """The hub was closed; make a new one."""


class HistoryGone(SSEError):
    """What came after a last event ID is no longer known: fetch the state anew.

    :ivar reason: ``"malformed"`` (not an id of this package), ``"epoch"`` (of another log, or of
        one that was made anew), ``"beyond"`` (past the log's end) or ``"expired"`` (older than what is kept).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot resume: {reason}")
        self.reason = reason
