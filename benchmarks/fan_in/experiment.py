"""Processes that listen to a log in Redis while others publish, and what that costs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import mean, median
from typing import Any

from sse_threaded import Hub, open_log
from sse_threaded.bench.process_tree import ProcessTree, processor_ns
from tests.harness.redis_server import RedisServer

# Events a second, each with an append of its own, and for how many seconds.
RATES = (50, 200)
SECONDS = 2.5

# A flood: so many events in all, and in each transaction. Less than what the feed keeps (10,000).
FLOOD, BULK = 4000, 100

# The same 110 bytes as in docs/benchmarks.md.
_DATA = '{"type":"note","stamp":"' + "0" * 26 + '","pad":"' + "x" * 51 + '"}'
CHANNELS = 100

# One script that appends many events.
_APPEND_MANY = "for _ = 1, tonumber(args[1]) do append(args[2], args[3], false) end return 'done'"

SETTLE_SECONDS = 1.0
_ANSWER_SECONDS = 60.0
_IDLE_SECONDS = 4.0

_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Point:
    """The figures of some processes under one load.

    :ivar processes: how many processes listened.
    :ivar events: how many events came.
    :ivar seconds: from the first append until all processes had the last event.
    :ivar redis_us: processor time of Redis for an event.
    :ivar process_us: processor time of a listening process for an event; the mean of the processes.
    :ivar out_bytes: bytes that Redis sent for an event, to all processes.
    :ivar reads: answers with events that a process received, divided by the number of events.
    """

    processes: int
    events: int
    seconds: float
    redis_us: float
    process_us: float
    out_bytes: float
    reads: float


# The two functions below run in processes of their own.


def _listen(urls: str, pipe: Connection) -> None:
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "HTTP_ACCEPT": "text/event-stream"}
    with ExitStack() as stack:
        hubs = [stack.enter_context(Hub(url, heartbeat=None, lease=None, max_streams=10)) for url in urls.split()]
        bodies = [iter(hub.stream(environ, "own").response) for hub in hubs]
        pipe.send([len(next(body)) for body in bodies])
        while pipe.recv():
            pipe.send(hubs[0].log.event_id(hubs[0]._pump.position))


def _publish(url: str, pipe: Connection) -> None:
    log = open_log(url)
    pipe.send(log.epoch)
    while order := pipe.recv():
        count, rate, bulk, seconds, inside = order
        begun, used, number = time.monotonic(), time.process_time(), 0
        while number < count and time.monotonic() - begun < seconds:
            if rate:
                time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            if inside:
                log.run(_APPEND_MANY, bulk, f"other-{number % CHANNELS}", _DATA)
                number += bulk
            elif bulk > 1:
                with log.transaction() as transaction:
                    for _ in range(bulk):
                        transaction.append(f"other-{number % CHANNELS}", _DATA)
                        number += 1
            else:
                log.append(f"other-{number % CHANNELS}", _DATA)
                number += 1
        pipe.send((number, time.monotonic() - begun, time.process_time() - used, log.last_event_id()))
    log.close()


class _Child:
    """A process that runs one of these functions."""

    def __init__(self, task: Callable[[str, Connection], None], url: str) -> None:
        self._pipe, other = _spawn.Pipe()
        self._process = _spawn.Process(target=task, args=(url, other), daemon=True)
        self._process.start()
        other.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def tell(self, what: object) -> None:
        self._pipe.send(what)

    def answer(self) -> Any:
        if not self._pipe.poll(_ANSWER_SECONDS):
            raise TimeoutError("a process of the simulation does not answer")
        return self._pipe.recv()

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join(_ANSWER_SECONDS)
        self._process.kill()


@contextmanager
def _children(task: Callable[[str, Connection], None], url: str, count: int) -> Iterator[list[_Child]]:
    with ExitStack() as stack:
        children = []
        for _ in range(count):
            children.append(_Child(task, url))
            stack.callback(children[-1].close)
        for child in children:
            child.answer()
        time.sleep(SETTLE_SECONDS)
        yield children


def _until_all_have(last: str, listeners: Sequence[_Child], pause: float) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while True:
        for listener in listeners:
            listener.tell(1)
        if {listener.answer() for listener in listeners} == {last}:
            return
        if time.monotonic() > deadline:
            raise TimeoutError("a process of the simulation has not read all events")
        time.sleep(pause)


class Experiment:
    """Measures with one redis-server.

    :param server: the server.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._client = server.client()

    def points(self, processes: int, prefix: str) -> dict[str, Point]:
        """Return the figures of so many listening processes, for each load; one load is ``flood``."""
        url = self._server.url(prefix=prefix)
        with _children(_publish, url, 1) as (publisher,), _children(_listen, url, processes) as listeners:
            self._point(publisher, listeners, (50, None, 1, _ANSWER_SECONDS, False))  # warm up
            found = {}
            for rate in RATES:
                count = int(rate * SECONDS)
                found[str(rate)] = self._point(publisher, listeners, (count, rate, 1, _ANSWER_SECONDS, False))
            found["flood"] = self._point(publisher, listeners, (FLOOD, None, BULK, _ANSWER_SECONDS, False))
            return found

    def _point(self, publisher: _Child, listeners: list[_Child], order: tuple[Any, ...]) -> Point:
        before = self._used(listeners)
        begun = time.monotonic()
        publisher.tell(order)
        count, _, _, last = publisher.answer()
        _until_all_have(last, listeners, 0.02)
        seconds = time.monotonic() - begun
        server, own, sent, reads = (now - then for now, then in zip(self._used(listeners), before, strict=True))
        return Point(
            processes=len(listeners),
            events=count,
            seconds=seconds,
            redis_us=server / 1000 / count,
            process_us=own / 1000 / count / len(listeners),
            out_bytes=sent / count,
            reads=reads / count / len(listeners),
        )

    def _used(self, listeners: list[_Child]) -> tuple[int, int, int, int]:
        stats: Any = self._client.info("stats")
        reads: Any = self._client.info("commandstats").get("cmdstat_xread", {"calls": 0})
        own = sum(processor_ns(listener.pid) for listener in listeners)
        return processor_ns(self._server.pid), own, int(stats["total_net_output_bytes"]), int(reads["calls"])

    def idle(self, processes: int, hubs: int) -> dict[str, float]:
        """Return the cost of listening while no event comes, and the memory of a process.

        The cost is microseconds of processor time a second, of a process, and of Redis for a process.

        :param hubs: how many hubs each process has.
        """
        urls = " ".join(self._server.url(prefix=f"idle{number}") for number in range(hubs))
        with _children(_listen, urls, processes) as listeners:
            server, own, _, _ = self._used(listeners)
            time.sleep(_IDLE_SECONDS)
            server_after, own_after, _, _ = self._used(listeners)
            kb = mean(ProcessTree(listener.pid).pss_kb() for listener in listeners)
        each = 1000 * _IDLE_SECONDS * processes
        return {
            "hubs": hubs,
            "process_us": (own_after - own) / each,
            "redis_us": (server_after - server) / each,
            "process_kb": kb,
        }

    def read_rate(self) -> float:
        """Return how many events a second a process reads when many wait for it. It is stopped while they come."""
        url = self._server.url(prefix="drained")
        with _children(_publish, url, 1) as (publisher,), _children(_listen, url, 1) as (listener,):
            found = []
            for _ in range(5):
                os.kill(listener.pid, signal.SIGSTOP)
                publisher.tell((FLOOD, None, BULK, _ANSWER_SECONDS, False))
                count, _, _, last = publisher.answer()
                os.kill(listener.pid, signal.SIGCONT)
                begun = time.monotonic()
                _until_all_have(last, [listener], 0.001)
                found.append(count / (time.monotonic() - begun))
            return median(found)

    def appends(self, publishers: int, bulk: int, inside: bool) -> dict[str, float]:
        """Append as fast as possible, while no process listens.

        :param publishers: how many processes append.
        :param bulk: how many events in one transaction.
        :param inside: whether one script of the application appends them all.
        """
        url = self._server.url(prefix=f"appends{bulk}{inside}")
        with _children(_publish, url, publishers) as children:
            server = processor_ns(self._server.pid)
            begun = time.monotonic()
            for child in children:
                child.tell((10**9, None, bulk, SECONDS, inside))
            answers = [child.answer() for child in children]
            seconds = time.monotonic() - begun
            used = processor_ns(self._server.pid) - server
        count = sum(answer[0] for answer in answers)
        return {
            "publishers": publishers,
            "bulk": bulk,
            "inside": inside,
            "a_second": count / seconds,
            "redis_us": used / 1000 / count,
            "redis_share": used / 1e9 / seconds,
            "publisher_us": 1e6 * sum(answer[2] for answer in answers) / count,
        }
