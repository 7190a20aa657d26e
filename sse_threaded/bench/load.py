"""The load client: processes that hold streams, and one process that publishes.

One thread uses it. The processes end when the ``with`` is left, and also when this process ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .endpoint import STAMP, Endpoint
from .errors import CannotBench
from .load_process import LoadProcess
from .results import DeliveryResult, OpenResult, busiest, merged
from .stream_opener import WINDOW
from .timestamps import new_mark

# When no delivery has come for so many seconds, the missing ones will not come any more.
_QUIET_SECONDS = 3.0

# Seconds that all deliveries may take after the last event was published.
_ANSWER_SECONDS = 600.0

# A burst comes over several connections, like that of many users.
_BURST_CONNECTIONS = 8

# Seconds between two rounds of reading, in a burst.
_BURST_PAUSE = 0.01

# Seconds that the slowest server may take to open a stream.
_OPEN_SECONDS = 0.02


@dataclass(frozen=True)
class Post:
    """How to publish an event.

    :param endpoint: the URL; ``{channel}`` in it is replaced by the number of a channel.
    :param body: the body; ``{stamp}`` in it is replaced by a time stamp, which the event must contain once.
    :param content_type: the type of the body; default: JSON.
    :raises CannotBench: the body does not contain ``{stamp}``.
    """

    endpoint: Endpoint
    body: str
    content_type: str = "application/json"

    def __post_init__(self) -> None:
        if STAMP not in self.body:
            raise CannotBench(f"the body needs {STAMP} in a text that the event will contain: {self.body}")


class Load:
    """The processes of the load client; a context manager.

    :param processes: how many processes hold streams; default 1. One more process publishes.
    :param progress: called with a count: of open streams, published events, or deliveries; default ``None``.
    """

    def __init__(self, processes: int = 1, progress: Callable[[int], None] | None = None) -> None:
        self._resources = contextlib.ExitStack()
        self._count = processes
        self._tell = progress
        self._readers: list[LoadProcess] = []
        self._publisher: LoadProcess | None = None
        self._mark = new_mark()
        self._audience: list[list[int]] = []  # for each process and channel: how many streams are read

    @property
    def pids(self) -> list[int]:
        """The ids of the client's processes."""
        return [child.pid for child in (*self._readers, self._publisher) if child is not None]

    def __enter__(self) -> Load:
        with contextlib.ExitStack() as resources:
            for _ in range(self._count):
                self._readers.append(LoadProcess("sse_threaded.bench.reader"))
                resources.callback(self._readers[-1].close)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def open(
        self,
        endpoint: Endpoint,
        streams: int,
        *,
        channels: int = 1,
        stalled: int = 0,
        rate: float | None = None,
        last_event_id: str | None = None,
        receives: bool = True,
    ) -> OpenResult:
        """Open streams, in addition to those that are open.

        :param endpoint: the URL of the streams.
        :param streams: how many streams.
        :param channels: how many channels; their numbers replace ``{channel}`` in turn; default 1.
        :param stalled: how many of the streams are never read; they have a receive buffer of a few KB; default 0.
        :param rate: how many streams a second; default ``None``: as fast as the server answers.
        :param last_event_id: the id after which the streams resume; default ``None``: at the next event.
        :param receives: whether the streams get the events of :meth:`publish`; default ``True``.
        :raises CannotBench: the server or a limit of this machine prevents it.
        """
        fields = ["Accept: text/event-stream", "Cache-Control: no-cache"]
        if last_event_id is not None:
            fields.append(f"Last-Event-ID: {last_event_id}")
        heads = [endpoint.head("GET", channel, *fields) for channel in range(channels)]
        shares = _split(streams, self._count)
        stalled_shares = _split(stalled, self._count)
        for number, reader in enumerate(self._readers):
            reader.order(
                "open",
                count=shares[number],
                stalled=stalled_shares[number],
                family=endpoint.family,
                address=endpoint.address,
                heads=heads,
                first=number,
                step=self._count,
                rate=rate / self._count if rate is not None else None,
                window=max(1, WINDOW // self._count),
            )
        if receives:
            self._audience = [[0] * channels for _ in self._readers]
            for number, audience in enumerate(self._audience):
                count, left_out = shares[number], stalled_shares[number]
                for nth in range(count):
                    if (nth + 1) * left_out // count == nth * left_out // count:
                        audience[(number + nth * self._count) % channels] += 1
        patience = _OPEN_SECONDS * streams + (streams / rate if rate else 0)
        answers = self._answers(patience)
        first = min(answer["first"] for answer in answers)
        last = max(answer["last"] for answer in answers)
        ended = sum(answer["ended"] for answer in answers)
        return OpenResult(streams, (last - first) / 1e9, ended, busiest(answers), first)

    def listen(self, seconds: float) -> DeliveryResult:
        """Count the lines of data that come.

        :param seconds: for how long.
        """
        self._order_readers("mark", mark="", timed=False, pause=0.0)
        self._answers(0)
        self._order_readers("until", total=None, quiet=None, seconds=seconds)
        return merged(self._answers(seconds), None, 0)

    def await_replay(self, events: int) -> DeliveryResult:
        """Wait for the replayed events of the streams that were opened last.

        :param events: how many events each stream must get. This client must have published them.
        """
        parts = [events * sum(audience) for audience in self._audience]
        for reader, part in zip(self._readers, parts, strict=True):
            reader.order("until", total=part, quiet=_QUIET_SECONDS, seconds=None)
        return merged(self._answers(_ANSWER_SECONDS), None, sum(parts))

    def publish(
        self,
        post: Post,
        *,
        channels: int = 1,
        first: int = 0,
        count: int | None = None,
        rate: float | None = None,
        seconds: float | None = None,
        expects_deliveries: bool = True,
        burst: bool = False,
        bulk: int = 1,
        pause: float = _BURST_PAUSE,
    ) -> DeliveryResult:
        """Publish events and wait until all streams have them.

        :param post: how to publish an event.
        :param channels: how many channels; their numbers replace ``{channel}`` in turn; default 1.
        :param first: the number of the first channel; default 0.
        :param count: how many events; ``None``: as many as possible in ``seconds``.
        :param rate: how many events a second; default ``None``: each as soon as the one before is answered.
        :param seconds: for how long; ``None``: until ``count`` events are published.
        :param expects_deliveries: whether the streams get the events; default ``True``.
        :param burst: whether only the rate of deliveries matters; default ``False``. Then events are posted over
            several connections, and no latencies are taken. The client reads seldom and much at a time, so that
            it leaves the processor to the server.
        :param bulk: how many events a POST contains, one on each line, if the server supports that; default 1.
        :param pause: seconds between two rounds of reading in a burst; default 0.01. Linux reports when the bytes
            came, so the pause does not falsify the times.
        :raises CannotBench: publishing fails.
        """
        if self._publisher is None:
            self._publisher = LoadProcess("sse_threaded.bench.publisher")
            self._resources.callback(self._publisher.close)
        self._order_readers("mark", mark=self._mark, timed=not burst, pause=pause if burst else 0.0)
        self._answers(0)
        kind = f"Content-Type: {post.content_type}"
        self._publisher.order(
            "publish",
            family=post.endpoint.family,
            address=post.endpoint.address,
            heads=[post.endpoint.head("POST", channel, kind)[:-2] for channel in range(channels)],
            body=post.body,
            mark=self._mark,
            connections=_BURST_CONNECTIONS if burst else 1,
            first=first,
            count=count and count // bulk,
            bulk=bulk,
            rate=rate,
            seconds=seconds,
        )
        patience = seconds if seconds is not None else (count or 0) * (1 / rate if rate else 0.5)
        sent = self._publisher.answer(patience, self._on_progress)
        expected = 0
        for number, reader in enumerate(self._readers):
            audience = self._audience[number] if self._audience and expects_deliveries else [0]
            turns = ((first + event) % channels % len(audience) for event in range(sent["sent"]))
            part = sum(audience[turn] for turn in turns)
            reader.order("until", total=part, quiet=_QUIET_SECONDS, seconds=None)
            expected += part
        return merged(self._answers(_ANSWER_SECONDS), sent, expected)

    def close_streams(self) -> None:
        """Close all streams."""
        self._order_readers("close")
        self._answers(0)
        self._audience = []

    def _order_readers(self, do: str, **what: Any) -> None:
        for reader in self._readers:
            reader.order(do, **what)

    def _answers(self, seconds: float) -> list[dict[str, Any]]:
        done: dict[int, int] = {}

        def add(pid: int, count: int) -> None:
            done[pid] = count
            if self._tell is not None:
                self._tell(sum(done.values()))

        return [reader.answer(seconds, add) for reader in self._readers]

    def _on_progress(self, pid: int, count: int) -> None:
        if self._tell is not None:
            self._tell(count)


def _split(total: int, parts: int) -> list[int]:
    return [(total + parts - 1 - number) // parts for number in range(parts)]
