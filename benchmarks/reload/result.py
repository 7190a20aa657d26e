"""The figures of a reload: what the clients received, compared with the log, and when they reconnected."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..common.event_ids import sequence_of
from .clients import ClientLoop
from .publisher import RepeatingPublisher

# The ways to replace the server, and their titles.
KINDS = {
    "hup": "SIGHUP",
    "usr2": "SIGUSR2, then SIGTERM to the old master",
    "socket": "socket activation: SIGTERM, then a new start",
}

# The width of a bar in the picture, in seconds.
BAR = 0.1


@dataclass(frozen=True)
class Result:
    """The figures of one reload. Counts of events are sums over all clients.

    :ivar streams: how many clients.
    :ivar events: how many events the log has.
    :ivar posted: how many of them were answered to the publisher.
    :ivar lost: events that are in the log or were answered, and that a client did not receive.
    :ivar doubled: events that a client received twice.
    :ivar disordered: clients that received the events in another order than that of the log.
    :ivar refused: refused connections, those of the publisher included.
    :ivar cut: new connections that were closed before an answer.
    :ivar broken: streams that were closed without their last chunk.
    :ivar turned_away: answers that contained only a reconnection time.
    :ivar resets: events ``reset``.
    :ivar away: clients that had no stream at the end.
    :ivar returned: streams that began after the signal.
    :ivar seconds: from the signal until the last client had a stream again.
    :ivar retries: the shortest and the longest reconnection time that a stream sent, in seconds.
    :ivar late: how long after its reconnection time the latest client had a stream again, in seconds.
    :ivar silence: the longest time without an event at one client, in seconds.
    :ivar due: how many clients should reconnect, by bars since the signal.
    :ivar attempts: how many connections began, by bars since the signal.
    :ivar returns: how many streams began, by bars since the signal.
    :ivar window: the bars, first and past the last, in which clients should reconnect.
    """

    streams: int
    events: int
    posted: int
    lost: int
    doubled: int
    disordered: int
    refused: int
    cut: int
    broken: int
    turned_away: int
    resets: int
    away: int
    returned: int
    seconds: float
    retries: tuple[float, float]
    late: float
    silence: float
    due: list[int]
    attempts: list[int]
    returns: list[int]
    window: tuple[int, int]

    def flatness(self, bars: list[int]) -> float:
        """Return the ratio of the greatest bar in the window to the mean of the window."""
        inside = bars[slice(*self.window)]
        return max(inside) * len(inside) / sum(inside) if any(inside) else math.nan

    @property
    def random_flatness(self) -> float:
        """The flatness if each client had a random bar: the median of the greatest of so many Poisson numbers,
        divided by their mean.
        """
        bars = self.window[1] - self.window[0]
        mean = self.streams / bars
        term = below = math.exp(-mean)
        greatest = 0
        while below**bars < 0.5:
            greatest += 1
            term *= mean / greatest
            below += term
        return greatest / mean


def compared(clients: ClientLoop, publisher: RepeatingPublisher, numbers: list[int], begun: float) -> Result:
    """Compare what the clients received with the log.

    :param numbers: the sequence numbers of the events in the log.
    :param begun: when the server got the signal (monotonic seconds).
    """
    wanted = {*numbers, *map(sequence_of, publisher.ids)}
    received = [each.sequences.tolist() for each in clients.all]
    retries = [each.retry for each in clients.returns]
    ended = min(each.ended for each in clients.returns)
    last = max(each.begun for each in clients.returns)
    bars = math.ceil((last - begun) / BAR) + 1
    return Result(
        streams=len(received),
        events=len(numbers),
        posted=len(publisher.ids),
        lost=sum(len(wanted.difference(each)) for each in received),
        doubled=sum(len(each) - len(set(each)) for each in received),
        disordered=sum(each != sorted(each) for each in received),
        refused=clients.refused + publisher.refused,
        cut=clients.cut + publisher.cut,
        broken=clients.broken,
        turned_away=clients.turned_away,
        resets=clients.resets,
        away=len(received) - clients.following,
        returned=len(clients.returns),
        seconds=last - begun,
        retries=(min(retries), max(retries)),
        late=max(each.begun - each.ended - each.retry for each in clients.returns),
        silence=max(each.silence for each in clients.all),
        due=_counted((each.ended + each.retry - begun for each in clients.returns), bars),
        attempts=_counted((moment - begun for moment in clients.attempts), bars),
        returns=_counted((each.begun - begun for each in clients.returns), bars),
        window=(math.ceil((ended + min(retries) - begun) / BAR), math.floor((ended + max(retries) - begun) / BAR)),
    )


def _counted(moments: Iterable[float], bars: int) -> list[int]:
    counts = [0] * bars
    for moment in moments:
        counts[min(max(0, int(moment / BAR)), bars - 1)] += 1
    return counts


def table(found: dict[str, list[Result]]) -> list[str]:
    """Return the lines of the table, with a column for each kind and all rounds in it."""

    def row(what: str, figure: Callable[[Result], str]) -> str:
        return f"| {what} | {' | '.join(', '.join(map(figure, rounds)) for rounds in found.values())} |"

    return [
        "| | " + " | ".join(KINDS[kind] for kind in found) + " |",
        "|---|" + "---|" * len(found),
        row("events in the log", lambda one: f"{one.events:,}"),
        row("of these, acknowledged", lambda one: f"{one.posted:,}"),
        row("events lost, sum of all streams", lambda one: f"{one.lost:,}"),
        row("events doubled", lambda one: f"{one.doubled:,}"),
        row("clients with another order than the log", lambda one: f"{one.disordered:,}"),
        row("events `reset`", lambda one: f"{one.resets:,}"),
        row("connections refused", lambda one: f"{one.refused:,}"),
        row("new connections closed before an answer", lambda one: f"{one.cut:,}"),
        row("streams closed without their last bytes", lambda one: f"{one.broken:,}"),
        row("clients that got only a reconnection time", lambda one: f"{one.turned_away:,}"),
        row("streams opened again", lambda one: f"{one.returned:,}"),
        row("clients without a stream at the end", lambda one: f"{one.away:,}"),
        row("reconnection times, s", lambda one: f"{one.retries[0]:.2f} to {one.retries[1]:.2f}"),
        row("until all clients had a stream again, s", lambda one: f"{one.seconds:.2f}"),
        row("longest delay of a client after its reconnection time, s", lambda one: f"{one.late:.2f}"),
        row("longest silence, s", lambda one: f"{one.silence:.2f}"),
        row(f"due reconnections per {BAR:g} s, greatest : mean", lambda one: f"{one.flatness(one.due):.2f}"),
        row("connects, greatest : mean", lambda one: f"{one.flatness(one.attempts):.2f}"),
        row("streams begun, greatest : mean", lambda one: f"{one.flatness(one.returns):.2f}"),
        row("random times, greatest : mean", lambda one: f"{one.random_flatness:.2f}"),
    ]
