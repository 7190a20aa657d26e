"""A reload under load: one way to replace the server, while many clients follow it, and what came of it."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sse_threaded import open_log
from sse_threaded.testing.processes import POLL_SECONDS

from ..faults.delivery_check import number_of
from .board_server import Publisher, Service
from .clients import Followers

EVENTS = "/boards/board-1/events"

KINDS = {
    "hup": "SIGHUP",
    "usr2": "SIGUSR2, then SIGTERM to the old master",
    "socket": "socket activation: SIGTERM, then a new start",
}

# Seconds.
_OPEN_SECONDS = 120.0
_BACK_SECONDS = 60.0

# How long events come before the reload, and after it.
_BEFORE, _AFTER = 2.0, 2.0

# What the operator takes to see that the new master is well, before the old one is ended.
_LOOKS = 2.0

# The width of a bar, seconds.
BAR = 0.1


@dataclass(frozen=True)
class Found:
    """What a reload has done.

    :ivar streams: clients.
    :ivar events: in the log.
    :ivar posted: of these, how many were answered.
    :ivar lost: events that are in the log or were answered, and that a client has not got, over all clients.
    :ivar doubled: that it got twice.
    :ivar disordered: clients to whom events came in another order than the log's.
    :ivar refused: connections, the publisher's among them.
    :ivar cut: new connections that were closed before an answer.
    :ivar broken: streams that were closed without their last chunk.
    :ivar turned_away: answers that only said when to come back.
    :ivar resets: events ``reset``.
    :ivar away: clients that were not there at the end.
    :ivar returned: streams that began anew.
    :ivar seconds: from the signal until the last client was back.
    :ivar told: the shortest and the longest reconnection time told, seconds.
    :ivar late: the longest that a client was back after the time it was told, seconds.
    :ivar silence: the longest that a client was without an event, seconds.
    :ivar due: when clients were told to come, by bars since the signal.
    :ivar attempts: connections begun, by bars since the signal.
    :ivar returns: streams begun, by bars since the signal.
    :ivar window: the bars, first and past the last, in which clients were told to come.
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
    told: tuple[float, float]
    late: float
    silence: float
    due: list[int]
    attempts: list[int]
    returns: list[int]
    window: tuple[int, int]

    def flatness(self, bars: list[int]) -> float:
        """The greatest of the bars in the window, to their mean there."""
        inside = bars[slice(*self.window)]
        return max(inside) * len(inside) / sum(inside) if any(inside) else math.nan

    @property
    def drawn(self) -> float:
        """What the flatness would be if each client's bar were drawn at random: the median of the greatest of so
        many Poisson numbers, to their mean.
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


def reloaded(
    kind: str, log_url: str, directory: Path, *, streams: int, rate: float, retry: int, looks: float = _LOOKS
) -> Found:
    """Run the board, replace it under load, and count.

    :param kind: one of :data:`KINDS`.
    :param log_url: where events are kept.
    :param directory: for its files.
    :param streams: how many clients.
    :param rate: events a second.
    :param retry: the reconnection time, milliseconds.
    :param looks: see :meth:`.board_service.Service.usr2`.
    """
    with (
        Service(directory, log_url, retry, activated=kind == "socket") as service,
        Followers(service.port, EVENTS, streams) as clients,
    ):
        _wait([clients], lambda: clients.here == streams, _OPEN_SECONDS)
        with Publisher(service.port, rate) as publisher:
            time.sleep(_BEFORE)
            begun = time.monotonic()
            if kind == "hup":
                service.hup()
            elif kind == "usr2":
                begun = service.usr2(looks)
            else:
                service.restart()
            # Who is turned away may take twice as long.
            patience = 3 * retry / 1000 + _BACK_SECONDS

            def all_are_back() -> bool:
                return clients.here == streams and len(clients.returns) >= streams

            _wait([clients, publisher], all_are_back, patience)
            time.sleep(_AFTER)
        numbers = _in_log(log_url)
        last = array("q", numbers[-1:])
        _wait([clients, publisher], lambda: all(each.sequences[-1:] == last for each in clients.all), 10.0)
        return judged(clients, publisher, numbers, begun)


def _wait(threads: Iterable[Followers | Publisher], condition: Callable[[], bool], seconds: float) -> None:
    # Not longer than so: what has not come then is counted as what it is.
    deadline = time.monotonic() + seconds
    while True:
        for each in threads:
            if each.failure is not None:
                raise each.failure
        if condition() or time.monotonic() >= deadline:
            return
        time.sleep(POLL_SECONDS)


def _in_log(url: str) -> list[int]:
    numbers = [0]
    log = open_log(url)
    try:
        while page := log.read(numbers[-1], channels=["board-1"]):
            numbers += [record.sequence for record in page]
    finally:
        log.close()
    return numbers[1:]


def judged(clients: Followers, publisher: Publisher, numbers: list[int], begun: float) -> Found:
    """Compare what clients got with what there was.

    :param numbers: of the events in the log.
    :param begun: when the server was told to go (monotonic seconds).
    """
    wanted = {*numbers, *map(number_of, publisher.ids)}
    got = [each.sequences.tolist() for each in clients.all]
    told = [back.told for back in clients.returns]
    ended = min(back.ended for back in clients.returns)
    last = max(back.back for back in clients.returns)
    bars = math.ceil((last - begun) / BAR) + 1
    return Found(
        streams=len(got),
        events=len(numbers),
        posted=len(publisher.ids),
        lost=sum(len(wanted.difference(each)) for each in got),
        doubled=sum(len(each) - len(set(each)) for each in got),
        disordered=sum(each != sorted(each) for each in got),
        refused=clients.refused + publisher.refused,
        cut=clients.cut + publisher.cut,
        broken=clients.broken,
        turned_away=clients.turned_away,
        resets=clients.resets,
        away=len(got) - clients.here,
        returned=len(clients.returns),
        seconds=last - begun,
        told=(min(told), max(told)),
        late=max(back.back - back.ended - back.told for back in clients.returns),
        silence=max(each.silence for each in clients.all),
        due=_counted((back.ended + back.told - begun for back in clients.returns), bars),
        attempts=_counted((moment - begun for moment in clients.attempts), bars),
        returns=_counted((back.back - begun for back in clients.returns), bars),
        window=(math.ceil((ended + min(told) - begun) / BAR), math.floor((ended + max(told) - begun) / BAR)),
    )


def _counted(moments: Iterable[float], bars: int) -> list[int]:
    counts = [0] * bars
    for moment in moments:
        counts[min(max(0, int(moment / BAR)), bars - 1)] += 1
    return counts


def table(found: dict[str, list[Found]]) -> list[str]:
    """The lines of the table, a column a kind; in it all rounds."""

    def row(what: str, figure: Callable[[Found], str]) -> str:
        return f"| {what} | {' | '.join(', '.join(map(figure, rounds)) for rounds in found.values())} |"

    return [
        "| | " + " | ".join(KINDS[kind] for kind in found) + " |",
        "|---|" + "---|" * len(found),
        row("events in the log", lambda one: f"{one.events:,}"),
        row("of these, answered to the publisher", lambda one: f"{one.posted:,}"),
        row("events lost, over all streams", lambda one: f"{one.lost:,}"),
        row("events doubled", lambda one: f"{one.doubled:,}"),
        row("clients with another order than the log's", lambda one: f"{one.disordered:,}"),
        row("events `reset`", lambda one: f"{one.resets:,}"),
        row("connections refused", lambda one: f"{one.refused:,}"),
        row("new connections closed before an answer", lambda one: f"{one.cut:,}"),
        row("streams closed without their last bytes", lambda one: f"{one.broken:,}"),
        row("clients turned away", lambda one: f"{one.turned_away:,}"),
        row("streams begun anew", lambda one: f"{one.returned:,}"),
        row("clients away at the end", lambda one: f"{one.away:,}"),
        row("reconnection times told, s", lambda one: f"{one.told[0]:.2f} to {one.told[1]:.2f}"),
        row("all clients back after the signal, s", lambda one: f"{one.seconds:.2f}"),
        row("latest after the time it was told, s", lambda one: f"{one.late:.2f}"),
        row("longest silence, s", lambda one: f"{one.silence:.2f}"),
        row(f"told to come, per {BAR:g} s: greatest : mean", lambda one: f"{one.flatness(one.due):.2f}"),
        row("connects, the same", lambda one: f"{one.flatness(one.attempts):.2f}"),
        row("streams begun, the same", lambda one: f"{one.flatness(one.returns):.2f}"),
        row("the same of as many drawn at random", lambda one: f"{one.drawn:.2f}"),
    ]
