"""What a test is told when a server or a stream does not do what was awaited.

Each is an ``SSEError``, as everything this package raises on purpose, and an ``AssertionError`` too: who
waits for an event in a test asserts that it comes, so unittest must count its absence as a failure of the
tested thing, not as an error in the test.
"""

from __future__ import annotations

from ..errors import SSEError


class Fault(SSEError, AssertionError):
    """Root of the errors of ``sse_threaded.testing``."""


class StreamTimeout(Fault):
    """The deadline passed and the stream had not brought what was awaited; it is still open."""


class StreamEnded(Fault):
    """The stream ended, or could never be one, before it brought what was awaited."""


class BadResponse(Fault):
    """What came back is not HTTP/1.x (RFC 9112)."""


class ServerFailed(Fault):
    """The server did not start, ended by itself, or did not do in time what it was told."""
