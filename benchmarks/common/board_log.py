"""The log of the board, as a benchmark reads it at its end."""

from __future__ import annotations

from sse_threaded import open_log


def numbers_in_log(url: str) -> list[int]:
    """Return the sequence numbers of the events of the board ``board-1``, in order."""
    numbers = [0]
    log = open_log(url)
    try:
        while page := log.read(numbers[-1], channels=["board-1"]):
            numbers += [record.sequence for record in page]
    finally:
        log.close()
    return numbers[1:]
