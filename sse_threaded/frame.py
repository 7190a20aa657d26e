"""Ready-made bytes: what goes to many clients is joined and framed once."""

from __future__ import annotations


class Frame:
    """Some events' bytes, shared by all clients that get them; never changed.

    :param wire: the bytes of the body.
    :param count: how many events they are.
    """

    __slots__ = ("_chunk", "count", "wire")

    def __init__(self, wire: bytes, count: int = 1) -> None:
        self.wire = wire
        self.count = count
        self._chunk: bytes | None = None

    @property
    def chunk(self) -> bytes:
        """The same as a chunk (RFC 9112, section 7.1), made when it is first asked for."""
        if self._chunk is None:
            self._chunk = b"%x\r\n%b\r\n" % (len(self.wire), self.wire)
        return self._chunk


# The chunk that ends a body, as a frame of no events (RFC 9112, section 7.1).
class _LastChunk(Frame):
    __slots__ = ()

    @property
    def chunk(self) -> bytes:
        return b"0\r\n\r\n"


LAST_CHUNK = _LastChunk(b"", 0)
