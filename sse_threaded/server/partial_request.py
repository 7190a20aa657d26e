"""A request of which a part has arrived: would a thread have to wait for the rest?

The answer is a forecast. It decides when a thread takes the request. Only gunicorn's parser decides what the
request is, from the same bytes. Where the forecast is wrong, a thread waits, but no longer than :mod:`.deadlines`
allows.

Only the loop uses this, with its lock held.
"""

from __future__ import annotations

import re

from . import deadlines

# The loop keeps a request of up to this many bytes until all of it has come. Of a longer one a thread reads
# the rest.
BUFFER_BYTES = 64 * 1024

# The fields that say whether a body follows, and whether the client waits before it sends the body.
_FIELDS = re.compile(rb"\n(content-length|transfer-encoding|expect)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)

# Requests of these methods have no body as a rule. If there is one, the app most likely does not read it, so no
# thread waits for it.
_BODILESS = (b"GET ", b"HEAD ")

# RFC 9112, section 7.1.
_CHUNK_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[^\r\n]*)?")
_LONGEST_SIZE_LINE = 8192

# The PROXY protocol's second version is binary: this, two bytes more, then the length of the rest.
_PROXY_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def is_whole(data: bytes) -> bool:
    """Whether this is one request without a body, as nearly all are. If not, :class:`PartialRequest` can tell."""
    ends = data.startswith(_BODILESS) and data.endswith(b"\r\n\r\n")
    return ends and data.find(b"\r\n\r\n") == len(data) - 4 and _FIELDS.search(data) is None


class PartialRequest:
    """The bytes of a request so far, and those that the client has sent behind it.

    :param now: when its first byte came (monotonic).

    :ivar is_whole: no thread would have to wait: all of it has come, or the parser will refuse it.
    :ivar is_large: a thread must read the rest as it comes.
    :ivar latest: when it must be there (monotonic) at the latest, whatever its own times are.
    """

    __slots__ = (
        "_body_at",
        "_head_at",
        "_is_chunked",
        "_next_at",
        "_scanned",
        "_since",
        "data",
        "is_large",
        "is_whole",
        "latest",
    )

    def __init__(self, now: float) -> None:
        self.data = bytearray()
        self.is_whole = False
        self.is_large = False
        self.latest = float("inf")
        self._since = now  # when the head's first byte came, then the body's
        self._head_at = -1  # where the head begins, once that is known
        self._scanned = 0  # where the search for the head's end goes on
        self._body_at = 0  # where the body begins, once the head has come
        self._is_chunked = False
        self._next_at = 0  # where the next chunk begins; or where the body ends

    def add(self, piece: bytes, now: float) -> None:
        """Add bytes that have come."""
        self.data += piece
        if not self._body_at and self._find_head_end():
            self._since = now
            self._read_head()
        if self._body_at and not self.is_whole:
            self.is_whole = self._has_chunks() if self._is_chunked else len(self.data) >= self._next_at
        if not self.is_whole and len(self.data) >= BUFFER_BYTES:
            self.is_large = True

    @property
    def missing(self) -> int | None:
        """How many bytes of the body have not come, ``None`` where that is not known."""
        return None if self._is_chunked or not self._body_at else max(0, self._next_at - len(self.data))

    def is_late(self, now: float) -> bool:
        """Whether it takes longer than it may."""
        if now > self.latest:
            return True
        if not self._body_at:
            return now > self._since + deadlines.HEAD_SECONDS
        return now > self._since + deadlines.body_seconds(len(self.data) - self._body_at)

    def _find_head_end(self) -> bool:
        data = self.data
        if self._head_at < 0 and not self._find_head():
            return False
        end = data.find(b"\r\n\r\n", max(self._head_at, self._scanned - 3))
        # The parser refuses a line that ends without CR as soon as it sees it.
        line = data.find(b"\n", max(self._head_at, self._scanned), end if end >= 0 else len(data))
        while line >= 0 and data[line - 1 : line] == b"\r":
            line = data.find(b"\n", line + 1, end if end >= 0 else len(data))
        if line >= 0:
            self.is_whole = True
            return False
        self._scanned = len(data)
        if end >= 0:
            self._body_at = end + 4
        return end >= 0

    def _find_head(self) -> bool:
        """Skip lines that may stand before the head: empty lines, a binary PROXY header."""
        data = self.data
        if data.startswith(_PROXY_SIGNATURE):
            if len(data) < 16:
                return False
            head_at = 16 + int.from_bytes(data[14:16], "big")
        elif len(data) < len(_PROXY_SIGNATURE) and _PROXY_SIGNATURE.startswith(data):
            return False
        else:
            head_at = len(data) - len(data.lstrip(b"\r\n"))
        if head_at >= len(data):
            return False
        self._head_at = head_at
        return True

    def _read_head(self) -> None:
        head = bytes(self.data[self._head_at : self._body_at])
        fields = {name.lower(): value.strip() for name, value in _FIELDS.findall(head)}
        self._next_at = self._body_at
        if b"transfer-encoding" in fields:
            self._is_chunked = True
        elif b"content-length" in fields:
            length = fields[b"content-length"]
            if not length.isdigit() or len(length) > 18:
                return  # the parser refuses it
            self._next_at += int(length)
        nobody_waits = b"expect" in fields or head.startswith(_BODILESS)
        has_body = self._is_chunked or self._next_at > self._body_at
        self.is_large = (nobody_waits and has_body) or self._next_at - self._body_at > BUFFER_BYTES

    def _has_chunks(self) -> bool:
        """Whether all chunks have come, or one that the parser will refuse."""
        data = self.data
        while True:
            line_end = data.find(b"\r\n", self._next_at)
            if line_end < 0:
                return len(data) - self._next_at > _LONGEST_SIZE_LINE
            size_line = _CHUNK_SIZE_LINE.fullmatch(data, self._next_at, line_end)
            if size_line is None:
                return True
            size = int(size_line[1], 16)
            if not size:
                # Trailer fields may stand between the last chunk and the empty line.
                return data.find(b"\r\n\r\n", line_end) >= 0
            end = line_end + 2 + size
            if len(data) < end + 2:
                return False
            if data[end : end + 2] != b"\r\n":
                return True
            self._next_at = end + 2
