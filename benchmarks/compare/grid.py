"""The cells of the comparison: which server is measured with how many streams, channels and workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .figures import Figure
from .servers import AT, Server

# A burst of 100 events to 15000 streams would take the slower servers more than a minute.
_BURST_DELIVERIES = 100_000

# For the estimate: how many connects a second each server makes, and how many seconds a burst takes.
_CONNECTS = {
    "parked": 2000,
    "parked-flask": 1500,
    "plain": 600,
    "waitress": 600,
    "naive": 700,
    "better-sse": 2500,
    "sse-starlette": 1500,
    "node": 4000,
}
_FAST_CONNECTS = 6000
_BURST_SECONDS = {"naive": 12, "plain": 3, "waitress": 3, "sse-starlette": 4, "better-sse": 2}


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    :ivar streams: how many streams.
    :ivar channels: how many channels they are spread over.
    :ivar workers: how many processes the server has.
    """

    streams: int
    channels: int
    workers: int

    @property
    def rate(self) -> float:
        """Events a second. It gives all cells a similar number of deliveries a second."""
        if self.channels > 1:
            return 200.0
        return {100: 50.0, 1000: 10.0, 5000: 2.0}.get(self.streams, max(1.0, 10_000 / self.streams))

    @property
    def burst(self) -> int:
        """Events in a burst: 100, or fewer where the slower servers would take too long."""
        return max(5, min(100, _BURST_DELIVERIES // self.streams)) if self.channels == 1 else 0

    def __str__(self) -> str:
        return f"{self.streams} streams, {self.channels} channels, {self.workers} workers"


def cells(
    servers: Iterable[Server], streams: Sequence[int], channels: Sequence[int], workers: Sequence[int]
) -> list[tuple[Cell, Server]]:
    """Return the cells of one round. Servers change fastest, so those that are compared are minutes apart."""
    found = []
    for cell in (Cell(a, b, c) for c in workers for b in channels for a in streams):
        if cell.channels > cell.streams:  # most events would reach no stream
            continue
        for server in servers:
            has_size = server.streams is None or cell.streams in server.streams
            if has_size and cell.workers <= server.workers:
                found.append((cell, server))
    return found


def needed_cells(servers: Iterable[Server], figures: Iterable[Figure]) -> list[tuple[Cell, Server]]:
    """Return the cells of one round that figures need, in the same order; other servers are left out."""
    wanted = {
        (Cell(figure.streams, figure.channels, 1), figure.server) for figure in figures if not figure.scenario
    }
    sizes = sorted({cell for cell, _ in wanted}, key=lambda cell: (cell.channels, cell.streams))
    return [(cell, server) for cell in sizes for server in servers if (cell, server.key) in wanted]


def estimate(cell: Cell, server: Server, seconds: float) -> float:
    """Return roughly how many seconds a cell takes.

    :param seconds: for how long events are published.
    """
    kind = server.key.partition(AT)[0]
    opens = 2 if server.replays and cell.channels == 1 else 1
    total = 3.5 + seconds + opens * cell.streams / _CONNECTS.get(kind, _FAST_CONNECTS)
    return total + (2 * _BURST_SECONDS.get(kind, 0.5) if cell.burst and cell.streams >= 1000 else 0.3)
