"""The times of a stream, and the bytes that announce them to a client.

Any thread may use a pace, as it never changes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..protocol.event import END, UNAVAILABLE, notice
from .stream_state import EndReason

# Milliseconds. A lease ends one stream at a time, so its client may reconnect this soon.
_LONGEST_AFTER_LEASE = 1000


@dataclass(frozen=True)
class Pace:
    """The times of a stream.

    :param retry: the reconnection time that streams begin with, in milliseconds.
    :param heartbeat: seconds between two heartbeats, ``None`` for none.
    :param lease: the longest life of a stream in seconds, ``None`` for no bound. Each gets 80 to 100 % of it.
    """

    retry: int
    heartbeat: float | None
    lease: float | None

    def farewell(self, reason: EndReason) -> bytes:
        """The last bytes of a stream that ends for ``reason``: a reconnection time, drawn at random.

        A shutdown ends all streams at once, so their clients are spread over the usual reconnection time.
        """
        if reason is EndReason.LEASE:
            longest = min(self.retry, _LONGEST_AFTER_LEASE)
        else:
            longest = 2 * self.retry if reason is EndReason.OVERLOAD else self.retry
        return notice(END, _draw(longest))

    def unavailable(self, *, shutdown: bool = False) -> bytes:
        """The whole answer to a client that gets no stream now: a reconnection time, drawn at random.

        :param shutdown: whether the process ends, so that another process will answer soon. Otherwise, the
            default, the client waits twice as long.
        """
        return notice(UNAVAILABLE, _draw(self.retry if shutdown else 2 * self.retry))


def _draw(longest: int) -> int:
    return round(random.uniform(longest / 5, longest))
