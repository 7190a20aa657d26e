"""The log of the board, as a benchmark reads it at its end."""

from __future__ import annotations

from sse_threaded import open_log


def numbers_in_log(url: str, after: int = 0) -> list[int]:
    """Return the sequence numbers of the events of the board ``board-1``, in order.

    :param url: the log's.
    :param after: only greater numbers; default 0.
    """
    numbers = [after]
    log = open_log(url)
    try:
        while page := log.read(numbers[-1], channels=["board-1"]):
            numbers += [record.sequence for record in page]
    finally:
        log.close()
    return numbers[1:]
