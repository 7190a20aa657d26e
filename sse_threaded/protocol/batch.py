"""Events' bytes that are ready to send: those that go to many clients are joined and framed once."""

from __future__ import annotations

from collections.abc import Sequence


class Batch:
    """The bytes of some events. All clients that get them share it; it never changes.

    :param wire: the bytes of the response's body.
    :param count: how many events they are; default 1.
    :param parts: the bytes of each event; ``None``, the default, if they are not needed one by one.
    :ivar wire: as given.
    :ivar count: as given.
    :ivar parts: as given, else all bytes as one part.
    :ivar chunk: the same bytes as a chunk (RFC 9112, section 7.1).
    """

    __slots__ = ("chunk", "count", "parts", "wire")

    def __init__(self, wire: bytes, count: int = 1, parts: Sequence[bytes] | None = None) -> None:
        self.wire = wire
        self.count = count
        self.parts = (wire,) if parts is None else parts
        self.chunk = b"%x\r\n%b\r\n" % (len(wire), wire)


# An empty chunk ends a body.
LAST_CHUNK = Batch(b"", 0)
