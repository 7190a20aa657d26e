"""Time stamps that travel inside published data, and how late they came back.

A stamp is a mark of this run's own, then the monotonic clock in nanoseconds as 16 hexadecimal digits: letters
and digits only, so that no application escapes it. The clock is the machine's, the same in all processes.
"""

from __future__ import annotations

import random
import re
import string
import time
from collections.abc import Iterable, Mapping

_DIGITS = 16
_MARK_LETTERS = 10

# How many characters a stamp has.
LENGTH = _MARK_LETTERS + _DIGITS


def new_mark() -> str:
    """Letters drawn at random, so that stamps of another run are not taken for this one's."""
    return "".join(random.choices(string.ascii_lowercase[6:], k=_MARK_LETTERS))


def stamp(mark: str) -> str:
    """A stamp of this moment."""
    return f"{mark}{time.monotonic_ns():016x}"


def pattern(mark: str) -> re.Pattern[bytes]:
    """What finds the digits of every stamp in raw bytes."""
    return re.compile(mark.encode() + b"([0-9a-f]{%d})" % _DIGITS)


class Latencies:
    """How often which latency was seen, to three digits: small enough to be sent between processes.

    :param counts: microseconds, and how often.
    """

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts = dict(counts or {})

    @classmethod
    def of(cls, nanoseconds: Iterable[int]) -> Latencies:
        """Those of a list."""
        counts: dict[int, int] = {}
        for value in nanoseconds:
            micro = value // 1000
            if micro >= 1000:
                step = 10 ** (len(str(micro)) - 3)
                micro = micro // step * step
            counts[micro] = counts.get(micro, 0) + 1
        return cls(counts)

    def add(self, other: Latencies) -> None:
        """Take in another's."""
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count

    def __len__(self) -> int:
        return sum(self.counts.values())

    def percentile(self, share: float) -> float | None:
        """The latency in milliseconds that ``share`` (0 to 1) of all do not exceed; ``None`` without any."""
        left = share * len(self)
        for value, count in sorted(self.counts.items()):
            left -= count
            if left <= 0:
                return value / 1000
        return None
