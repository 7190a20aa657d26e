"""The errors of ``sse_threaded.testing``.

Each is an ``SSEError``, like every error of this package, and an ``AssertionError`` too. A test that waits for an
event asserts that the event comes. So unittest must count a missing event as a failure, not as an error in the
test.
"""

from __future__ import annotations

from ..errors import SSEError


class Fault(SSEError, AssertionError):
    """The base class of the errors of ``sse_threaded.testing``."""


class StreamTimeout(Fault):
    """The deadline passed before the awaited event or bytes came. The stream is still open."""


class StreamEnded(Fault):
    """The stream ended before the awaited event or bytes came, or the response was not a stream at all."""


class BadResponse(Fault):
    """The response is not HTTP/1.x (RFC 9112)."""


class ServerFailed(Fault):
    """The server did not start, ended by itself, or did not react in time."""
