"""Events' bytes that are ready to send: those that go to many clients are joined and framed once."""

from __future__ import annotations

from collections.abc import Sequence


class Batch:
    """The bytes of some events. All clients that get them share it; it never changes.

    :param body: the events' bytes, as a response's body has them without chunks.
    :param count: how many events they are; default 1.
    :param parts: the bytes of each event; ``None``, the default, if they are not needed one by one.
    :param finishes: whether one of the events finishes its channel; default ``False``.
    :ivar body: as given.
    :ivar count: as given.
    :ivar parts: as given, else all bytes as one part.
    :ivar finishes: as given.
    :ivar chunk: the same bytes as a chunk (RFC 9112, section 7.1).
    """

    __slots__ = ("body", "chunk", "count", "finishes", "parts")

    def __init__(
        self, body: bytes, count: int = 1, parts: Sequence[bytes] | None = None, *, finishes: bool = False
    ) -> None:
        self.body = body
        self.count = count
        self.finishes = finishes
        self.parts = (body,) if parts is None else parts
        self.chunk = b"%x\r\n%b\r\n" % (len(body), body)


# An empty chunk ends a body.
LAST_CHUNK = b"0\r\n\r\n"
