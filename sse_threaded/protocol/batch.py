"""Ready-made bytes: what goes to many clients is joined and framed once."""

from __future__ import annotations

from collections.abc import Sequence


class Batch:
    """Some events' bytes, shared by all clients that get them; never changed.

    :param wire: the bytes of the body.
    :param count: how many events they are.
    :param parts: the bytes of each event; ``None``, the default, where they are not needed one by one.

    :ivar chunk: the same as a chunk (RFC 9112, section 7.1).
    """

    __slots__ = ("chunk", "count", "parts", "wire")

    def __init__(self, wire: bytes, count: int = 1, parts: Sequence[bytes] | None = None) -> None:
        self.wire = wire
        self.count = count
        self.parts = (wire,) if parts is None else parts
        self.chunk = b"%x\r\n%b\r\n" % (len(wire), wire)


# The chunk that ends a body is the empty one.
LAST_CHUNK = Batch(b"", 0)
