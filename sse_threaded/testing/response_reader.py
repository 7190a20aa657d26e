"""Reads one HTTP/1.1 response that may never end, without I/O.

``http.client`` cannot do this. After a read has timed out, it cannot read the response any more. It does not
return the bytes of an incomplete chunk.
"""

from __future__ import annotations

import re

from werkzeug.datastructures import Headers

from .errors import BadResponse

# Werkzeug, gunicorn and waitress send heads of a few hundred bytes. Something longer is not a head.
_MAX_HEAD_BYTES = 64 * 1024


class ResponseReader:
    """One HTTP/1.x response (RFC 9112), without I/O: it takes bytes and returns the bytes of the body.

    :ivar status: the status code; 0 until the head has come.
    :ivar headers: the header fields; empty until the head has come.
    :ivar ended: whether the body has ended.
    :ivar complete: whether the body ended as HTTP requires, and not by a cut connection.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers = Headers()
        self.ended = False
        self.complete = False
        self._buffer = bytearray()
        self._chunked = False
        self._left: int | None = None  # bytes left of the body or the chunk; None: unknown
        self._after_chunk = False
        self._in_trailer = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the socket; return the bytes of the body that are in them.

        :raises BadResponse: they are not HTTP.
        """
        self._buffer += data
        if not self.status and not self._read_head():
            return b""
        return self._read_chunks() if self._chunked else self._read_plain()

    def feed_end(self) -> None:
        """The peer has closed the connection."""
        if not self.ended:
            self.ended = True
            # Without a length and without chunks, the close ends the body (RFC 9112, section 6.3, rule 8).
            self.complete = bool(self.status) and not self._chunked and self._left is None

    def _read_head(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD_BYTES:
                    raise BadResponse(f"no end of the response's head in {_MAX_HEAD_BYTES} bytes")
                return False
            first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
            del self._buffer[: end + 4]
            version, _, rest = first.partition(" ")
            if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
                raise BadResponse(f"{first[:100]!r} is not the status line of HTTP/1.x")
            if rest[0] != "1":  # otherwise it is an interim response, and the final one follows
                break
        for line in lines:
            name, _, value = line.partition(":")
            self.headers.add(name, value.strip(" \t"))
        self.status = int(rest[:3])
        self._chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        if self.status in {204, 304}:
            self._left, self._chunked = 0, False
        elif not self._chunked and "Content-Length" in self.headers:
            length = self.headers["Content-Length"]
            if not re.fullmatch("[0-9]+", length):
                raise BadResponse(f"{length[:100]!r} is not a Content-Length")
            self._left = int(length)
        return True

    def _read_plain(self) -> bytes:
        body = bytes(self._buffer if self._left is None else self._buffer[: self._left])
        del self._buffer[: len(body)]
        if self._left is not None:
            self._left -= len(body)
            self.ended = self.complete = self._left == 0
        return body

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while not self.ended:
            if self._left:
                piece = self._buffer[: self._left]
                if not piece:
                    break
                body += piece
                self._left -= len(piece)
                del self._buffer[: len(piece)]
                self._after_chunk = not self._left
                continue
            end = self._buffer.find(b"\r\n")
            if end < 0:
                break
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            self._take_line(line)
        return bytes(body)

    def _take_line(self, line: bytes) -> None:
        if self._in_trailer:
            self.ended = self.complete = not line
        elif self._after_chunk:
            self._after_chunk = False
            if line:
                raise BadResponse(f"a chunk is followed by {line[:100]!r}, not by the end of a line")
        else:
            size = line.partition(b";")[0].strip(b" \t")
            if not re.fullmatch(b"[0-9A-Fa-f]{1,16}", size):
                raise BadResponse(f"{line[:100]!r} is not the size of a chunk")
            self._left = int(size, 16)
            self._in_trailer = not self._left
