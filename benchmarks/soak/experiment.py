"""The soak: followers, a publisher and visitors at the same time, while workers are reloaded and killed."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sse_threaded.testing import GunicornServer
from tests.support import kill_at_random

from ..common.board_log import numbers_in_log
from ..common.event_ids import sequence_of
from ..common.paths import BOARD_CONFIG, python_path
from ..reload.clients import ClientLoop
from ..reload.publisher import RepeatingPublisher
from .visitors import KINDS, Broken, Tally, Visit

_EVENTS = "/boards/board-1/events"

# A worker that is killed takes its connections with it, and so does one that ends while a request is half sent.
# For so many seconds a cut connection is no fault.
_AFTER_A_KILL = 3.0


@dataclass
class Plan:
    """How long, and how much.

    :ivar reload_every: seconds between two SIGHUPs.
    :ivar kill_every: seconds between two SIGKILLs of a worker.
    """

    seconds: float
    seed: int
    streams: int = 300
    visitors: int = 10
    rate: float = 10.0
    reload_every: float = 60.0
    kill_every: float = 300.0
    worker: str = "sse_threaded.worker.ThreadWorker"


@dataclass
class Outcome:
    """The figures of a soak."""

    events: int = 0
    deliveries: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    refused: int = 0
    cut: int = 0
    away: int = 0
    resets: int = 0
    reloads: int = 0
    kills: int = 0
    cut_by_kills: int = 0
    slowest: float = 0.0
    visits: dict[str, int] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=dict)
    stalls: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    kilobytes: list[int] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, doubled, refused, wrong or late."""
        # A killed worker cuts the connections that it has not answered yet.
        cut = 0 if self.kills else self.cut
        counts = (self.lost, self.doubled, self.disordered, self.refused, cut, self.away)
        return not (any(counts) or self.broken or self.stalls or self.complaints)


class _Visitors:
    """Threads that visit at random."""

    def __init__(self, plan: Plan, port: int) -> None:
        self.tallies = [Tally() for _ in range(plan.visitors)]
        self.killed = 0.0  # when a worker was last killed (monotonic)
        self.cut_by_kills = 0
        self._port = port
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{plan.seed} {number}"), tally), daemon=True)
            for number, tally in enumerate(self.tallies)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, chance: random.Random, tally: Tally) -> None:
        while not self._stopping.is_set():
            kind = chance.choice(list(KINDS))
            tally.visits[kind] = tally.visits.get(kind, 0) + 1
            begun = time.monotonic()
            try:
                KINDS[kind](Visit(self._port, kind, chance, tally))
            except (OSError, Broken) as error:
                if (
                    isinstance(error, ConnectionResetError | BrokenPipeError)
                    and self.killed > begun - _AFTER_A_KILL
                ):
                    self.cut_by_kills += 1
                else:
                    reasons = tally.broken.setdefault(kind, [])
                    reasons.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}")


def run(plan: Plan, directory: Path) -> Outcome:
    """Run it.

    :param directory: for the server's files.
    """
    url = f"sqlite:///{directory}/log.db"
    chance = random.Random(plan.seed)
    outcome = Outcome()
    numbers: list[int] = []

    def read_log() -> None:
        # Now and then, as the log keeps only the newest 10,000 events.
        numbers.extend(numbers_in_log(url, numbers[-1] if numbers else 0))

    server = GunicornServer(
        "benchmarks.soak.app:app",
        config=BOARD_CONFIG,
        args=[
            "-k",
            plan.worker,
            "-w",
            "2",
            "--threads",
            "16",
            "--backlog",
            "4096",
            "--access-logfile",
            "access.log",
        ],
        env={"SSE_THREADED_URL": url, "SSE_THREADED_RETRY": "500", "PYTHONPATH": python_path()},
        cwd=directory,
    )
    with server, ClientLoop(server.port, _EVENTS, plan.streams) as clients:
        visitors = _Visitors(plan, server.port)
        with RepeatingPublisher(server.port, plan.rate) as publisher, _visiting(visitors):
            _go_on(plan, chance, server, visitors, outcome, read_log=read_log)
            for part in (clients, publisher):
                if part.failure is not None:
                    raise part.failure
        read_log()
        _wait_for_all(clients, numbers[-1])
        wanted = {*numbers, *map(sequence_of, publisher.ids)}
        _compare(outcome, clients, wanted, publisher)
        outcome.events = len(numbers)
    for tally in visitors.tallies:
        outcome.slowest = max(outcome.slowest, tally.slowest)
        outcome.stalls += tally.stalls
        for kind, count in tally.visits.items():
            outcome.visits[kind] = outcome.visits.get(kind, 0) + count
        for kind, reasons in tally.broken.items():
            outcome.broken.setdefault(kind, []).extend(reasons)
    outcome.cut_by_kills = visitors.cut_by_kills
    for line in server.output().splitlines():
        if ("ERROR" in line and "SIGKILL" not in line) or "Traceback" in line:
            outcome.complaints.append(line)
    return outcome


@contextmanager
def _visiting(visitors: _Visitors) -> Iterator[None]:
    visitors.start()
    try:
        yield
    finally:
        visitors.stop()


def _go_on(
    plan: Plan,
    chance: random.Random,
    server: GunicornServer,
    visitors: _Visitors,
    outcome: Outcome,
    *,
    read_log: Callable[[], None],
) -> None:
    begun = time.monotonic()
    reload_at = begun + plan.reload_every
    kill_at = begun + plan.kill_every
    while (now := time.monotonic()) < begun + plan.seconds:
        if now >= reload_at:
            reload_at = now + plan.reload_every * chance.uniform(0.5, 1.5)
            outcome.reloads += 1
            server.hup()
        if now >= kill_at:
            kill_at = now + plan.kill_every * chance.uniform(0.5, 1.5)
            visitors.killed = now
            outcome.kills += kill_at_random(server.worker_pids(), chance)
        time.sleep(1.0)
        if int(now - begun) % 30 == 0:
            _look(server, visitors, outcome, now - begun)
            read_log()


def _look(server: GunicornServer, visitors: _Visitors, outcome: Outcome, seconds: float) -> None:
    threads = kilobytes = 0
    for pid in server.worker_pids():
        try:
            lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        except (OSError, ValueError):
            continue
        threads = max(threads, int(lines["Threads"]))
        kilobytes = max(kilobytes, int(lines["VmRSS"].split()[0]))
    outcome.threads.append(threads)
    outcome.kilobytes.append(kilobytes)
    visits = sum(sum(tally.visits.values()) for tally in visitors.tallies)
    broken = sum(len(tally.broken) for tally in visitors.tallies)
    stalls = sum(len(tally.stalls) for tally in visitors.tallies)
    print(  # noqa: T201
        f"{seconds:5.0f} s: {visits} visits, {broken} broken, {stalls} stalls, {outcome.reloads} reloads, "
        f"{outcome.kills} kills, {threads} threads, {kilobytes} KB",
        file=sys.stderr,
    )


def _wait_for_all(clients: ClientLoop, last: int) -> None:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        if all(each.sequences and each.sequences[-1] == last for each in clients.all):
            return
        time.sleep(0.1)


def _compare(outcome: Outcome, clients: ClientLoop, wanted: set[int], publisher: RepeatingPublisher) -> None:
    for each in clients.all:
        received = each.sequences.tolist()
        # The publisher began at once, so a client has all events after its first one.
        due = {number for number in wanted if received and number >= received[0]}
        outcome.lost += len(due.difference(received)) + (not received)
        outcome.doubled += len(received) - len(set(received))
        outcome.disordered += received != sorted(received)
        outcome.deliveries += len(received)
    outcome.refused = clients.refused + publisher.refused
    outcome.cut = clients.cut + publisher.cut
    outcome.away = len(clients.all) - clients.following
    outcome.resets = clients.resets
