"""How long a client waits before it connects again. It reads no clock and starts no thread."""

from __future__ import annotations

import email.utils
import random
from collections.abc import Callable
from datetime import datetime, timezone

# The longest wait that a server can ask for, seconds: a day. Without a limit a wrong number would end the client.
LONGEST_WAIT = 86_400.0

# The upper end of the first back-off, seconds. Each further failure doubles it.
_FIRST_BACKOFF = 1.0

# After this many failures the back-off no longer doubles; 2 ** 20 seconds are more than any sensible limit.
_MOST_DOUBLINGS = 20


class Reconnection:
    """The reconnection time of a stream, and the back-off after failures (WHATWG HTML 9.2.3).

    The wait is never shorter than the reconnection time. After a failure it is longer by a random time, so clients
    that lost their server together do not return together. One thread at a time uses it.

    :param max_backoff: seconds by which failures lengthen the wait at most.
    :param draw: returns a random number from 0 to 1; default ``random.random``.
    :ivar failures: how many attempts in a row have failed.
    """

    def __init__(self, max_backoff: float, draw: Callable[[], float] = random.random) -> None:
        self._max_backoff = max_backoff
        self._draw = draw
        self.failures = 0

    def wait(self, retry: int, retry_after: float = 0.0) -> float:
        """Return the seconds until the next attempt.

        :param retry: the reconnection time, milliseconds.
        :param retry_after: seconds that the answer asked for in ``Retry-After``; default 0.
        """
        retry = min(retry, int(LONGEST_WAIT * 1000))  # a longer integer may be too large for a float
        seconds = min(max(retry / 1000, retry_after), LONGEST_WAIT)
        if self.failures:
            doublings = min(self.failures - 1, _MOST_DOUBLINGS)
            seconds += self._draw() * min(self._max_backoff, _FIRST_BACKOFF * 2.0**doublings)
        return seconds


def retry_after_seconds(value: str | None, now: datetime) -> float:
    """Return the seconds of a ``Retry-After`` field (RFC 9110 10.2.3); 0 if it is missing or invalid.

    :param value: the field's value: seconds or a date.
    :param now: the time, with a time zone.
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:20])  # a number with more digits is over the limit anyway
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - now).total_seconds())
