"""Limits log lines that would come with every request during an outage: one line a minute for each kind.

    throttled = ThrottledLog(logging.getLogger(__name__))
    throttled.warning("no log", "%s: %s", path, error)

Any thread may use it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

# Seconds between two lines of one kind.
_PERIOD = 60.0

# How many kinds are distinguished. Beyond this number, the kind that was logged longest ago is forgotten.
_KINDS = 64


class ThrottledLog:
    """A logger that writes one line of each kind in a period, with the number of lines that were left out.

    :param logger: it gets the lines.
    :param period: seconds between two lines of one kind; default 60.
    """

    def __init__(self, logger: logging.Logger, period: float = _PERIOD) -> None:
        self._logger = logger
        self._period = period
        self._lock = threading.Lock()  # guards _kinds
        # When the next line of each kind may come (monotonic), and how many were left out; the oldest line first.
        self._kinds: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, message: str, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log a warning, unless one of its kind was logged within the period.

        :param kind: lines of the same kind are limited together. A client must not be able to choose it.
        :param message: as for :meth:`logging.Logger.warning`.
        :param args: as for :meth:`logging.Logger.warning`.
        :param extra: as for :meth:`logging.Logger.warning`; default ``None``. The line also has the field
            ``left_out``, the number of lines that were left out.
        """
        now = time.monotonic()
        with self._lock:
            due, left_out = self._kinds.get(kind, (now, 0))
            if now < due:
                self._kinds[kind] = due, left_out + 1
                return
            self._kinds.pop(kind, None)
            self._kinds[kind] = now + self._period, 0
            if len(self._kinds) > _KINDS:
                del self._kinds[next(iter(self._kinds))]
        if left_out:
            message, args = message + " (and %d more like this since the last line)", (*args, left_out)
        self._logger.warning(message, *args, extra={**(extra or {}), "left_out": left_out})
