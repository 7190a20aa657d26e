"""Latencies as a histogram.

The installed command needs it, so it must work without a further package. It is a dictionary, which processes send
to each other as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Latencies:
    """How often each latency was seen. They are rounded down to three digits, which keeps it small.

    :param counts: for each latency in microseconds, how often it was seen.
    """

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts = dict(counts or {})

    @classmethod
    def of(cls, nanoseconds: Iterable[int]) -> Latencies:
        """Count the latencies of a list."""
        counts: dict[int, int] = {}
        for value in nanoseconds:
            micro = value // 1000
            if micro >= 1000:
                step = 10 ** (len(str(micro)) - 3)
                micro = micro // step * step
            counts[micro] = counts.get(micro, 0) + 1
        return cls(counts)

    def add(self, other: Latencies) -> None:
        """Add the counts of another histogram."""
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count

    def __len__(self) -> int:
        return sum(self.counts.values())

    def percentile(self, share: float) -> float | None:
        """Return the latency in milliseconds that ``share`` (0 to 1) of all do not exceed, or ``None``."""
        left = share * len(self)
        for value, count in sorted(self.counts.items()):
            left -= count
            if left <= 0:
                return value / 1000
        return None
