"""The errors of this package, split by the caller's next step.

HTTP failures are not here: an app answers them with Werkzeug's exceptions.
"""

from __future__ import annotations


class SSEError(Exception):
    """The root of every error that this package raises on purpose."""


class InvalidEvent(SSEError):
    """The values cannot be an event. Correct them; nothing was published.

    :ivar field: the invalid value: ``"data"``, ``"event"``, ``"id"``, ``"retry"``, ``"comment"`` or ``"channel"``.
    :ivar reason: the fault in it and the remedy, in one sentence.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class LogError(SSEError):
    """The log has failed; no event was appended.

    :ivar url: the log's URL, without a password.
    :ivar reason: the fault and the remedy, in one sentence.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason


class LogUnavailable(LogError):
    """The fault may pass: the log is locked, the disk is full, or the connection is cut. Try again later.

    :ivar url: the log's URL, without a password.
    :ivar reason: the fault and the remedy, in one sentence.
    """


class LogUnusable(LogError):
    """The fault does not pass by itself: an invalid URL, a corrupt file, a newer schema. A person must act.

    :ivar url: the log's URL, without a password.
    :ivar reason: the fault and the remedy, in one sentence.
    """


class HubClosed(SSEError):
    """The hub was closed; make a new one."""


class HistoryGone(SSEError):
    """The events after a last event ID are not known any more: fetch the state again.

    :ivar reason: the fault of the id. ``"malformed"``: it is not an id of this package. ``"epoch"``: it is of
        another log, or of a log that was recreated since. ``"beyond"``: it is past the log's end. ``"expired"``:
        it is older than the events that are kept.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot resume: {reason}")
        self.reason = reason
