"""Reads lines in batches: each as soon as it has come, and many at once if they wait already."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedIOBase

from ..errors import InvalidEvent
from ..log.validation import MAX_DATA_CHARACTERS

# A batch is one transaction, for which all other publishers wait. As JSON it must fit into one request.
BATCH_LINES = 100
_BATCH_BYTES = 128 * 1024  # of several lines; one line may have more

_READ_BYTES = 64 * 1024

# The longest text in UTF-8.
_MAX_BYTES = 4 * MAX_DATA_CHARACTERS


def batches_of_lines(stream: BufferedIOBase) -> Iterator[list[str]]:
    """Yield batches of lines, without their ends (LF or CR LF). A last line need not have one.

    :param stream: such as ``sys.stdin.buffer``; ``read1`` waits for a byte, and returns those that have come.
    :raises InvalidEvent: a line is not UTF-8, or too long for an event.
    """
    begun, number = b"", 0
    while more := stream.read1(_READ_BYTES):
        *lines, begun = (begun + more).split(b"\n")
        if len(begun) > _MAX_BYTES:
            raise InvalidEvent("data", f"line {number + len(lines) + 1} is over {_MAX_BYTES:,} bytes; shorten it")
        batch: list[str] = []
        size = 0
        for line in lines:
            number += 1
            size += len(line)
            if batch and (len(batch) == BATCH_LINES or size > _BATCH_BYTES):
                yield batch
                batch, size = [], len(line)
            batch.append(_text(line, number))
        if batch:
            yield batch
    if begun:
        yield [_text(begun, number + 1)]


def _text(line: bytes, number: int) -> str:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent("data", f"line {number} is not UTF-8 (byte {error.start + 1}); send text") from None
