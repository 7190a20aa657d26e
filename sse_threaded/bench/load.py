"""The load: processes that hold streams, one that publishes, and what came of it.

Used by one thread. The processes end with the ``with``, and when this one is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .child_process import Child
from .endpoint import STAMP, Target
from .errors import CannotBench
from .results import Heard, Opened, busiest, merged
from .stream_opener import WINDOW
from .timestamps import new_mark

# Deliveries are over when none has come for so many seconds: a stream that was lost will bring no more.
_QUIET_SECONDS = 3.0

# The longest that deliveries may take once all is published.
_ANSWER_SECONDS = 600.0

# Bursts come from many users at once.
_BURST_CONNECTIONS = 8

# Seconds between two rounds of reading in a burst.
_BURST_PAUSE = 0.01

# What opening a stream may take in the slowest of servers, seconds.
_OPEN_SECONDS = 0.02


@dataclass(frozen=True)
class Post:
    """How to publish an event.

    :param target: where to; ``{channel}`` in its URL is replaced.
    :param body: what; ``{stamp}`` in it is replaced by a time stamp that the event must carry, once.
    :param content_type: default JSON.
    :raises CannotBench: there is no place for a stamp.
    """

    target: Target
    body: str
    content_type: str = "application/json"

    def __post_init__(self) -> None:
        if STAMP not in self.body:
            raise CannotBench(f"the body needs {STAMP} in a text that the event will carry: {self.body}")


class Load:
    """The client's processes; a context manager.

    :param processes: how many hold streams; default 1. One more publishes.
    :param progress: told how many streams are open, events published, deliveries come; default: nobody.
    """

    def __init__(self, processes: int = 1, progress: Callable[[int], None] | None = None) -> None:
        self._resources = contextlib.ExitStack()
        self._count = processes
        self._tell = progress
        self._readers: list[Child] = []
        self._publisher: Child | None = None
        self._mark = new_mark()
        self._audience: list[list[int]] = []  # of each process, of each channel: streams that are read

    @property
    def pids(self) -> list[int]:
        """The process ids of the client."""
        return [child.pid for child in (*self._readers, self._publisher) if child is not None]

    def __enter__(self) -> Load:
        with contextlib.ExitStack() as resources:
            for _ in range(self._count):
                self._readers.append(Child("sse_threaded.bench.reader"))
                resources.callback(self._readers[-1].close)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def open(
        self,
        target: Target,
        streams: int,
        *,
        channels: int = 1,
        stalled: int = 0,
        rate: float | None = None,
        last_event_id: str | None = None,
        hears: bool = True,
    ) -> Opened:
        """Open streams, beside those that are open.

        :param streams: how many.
        :param channels: the numbers from 0 that stand for ``{channel}``, in turn; default 1.
        :param stalled: how many of the streams are never read, with a receive buffer of a few KB; default 0.
        :param rate: how many a second, default ``None``: as fast as the server answers.
        :param last_event_id: where they resume, default ``None``: with the next event.
        :param hears: whether they get what :meth:`publish` publishes; default ``True``.
        :raises CannotBench: the server or this machine does not let them.
        """
        fields = ["Accept: text/event-stream", "Cache-Control: no-cache"]
        if last_event_id is not None:
            fields.append(f"Last-Event-ID: {last_event_id}")
        heads = [target.head("GET", channel, *fields) for channel in range(channels)]
        shares = _split(streams, self._count)
        lame = _split(stalled, self._count)
        for number, reader in enumerate(self._readers):
            reader.order(
                "open",
                count=shares[number],
                stalled=lame[number],
                family=target.family,
                address=target.address,
                heads=heads,
                first=number,
                step=self._count,
                rate=rate / self._count if rate is not None else None,
                window=max(1, WINDOW // self._count),
            )
        if hears:
            self._audience = [[0] * channels for _ in self._readers]
            for number, audience in enumerate(self._audience):
                count, left_out = shares[number], lame[number]
                for nth in range(count):
                    if (nth + 1) * left_out // count == nth * left_out // count:
                        audience[(number + nth * self._count) % channels] += 1
        patience = _OPEN_SECONDS * streams + (streams / rate if rate else 0)
        answers = self._answers(patience)
        first = min(answer["first"] for answer in answers)
        last = max(answer["last"] for answer in answers)
        ended = sum(answer["ended"] for answer in answers)
        return Opened(streams, (last - first) / 1e9, ended, busiest(answers), first)

    def listen(self, seconds: float) -> Heard:
        """Count lines of data for some time.

        :param seconds: how long.
        """
        self._order_readers("mark", mark="", timed=False, pause=0.0)
        self._answers(0)
        self._order_readers("until", total=None, quiet=None, seconds=seconds)
        return merged(self._answers(seconds), None, 0)

    def await_replay(self, events: int) -> Heard:
        """Wait for events of this client's own that the streams last opened have to get from history.

        :param events: how many each stream has to get.
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
        unheard: bool = False,
        burst: bool = False,
        bulk: int = 1,
        away: float = _BURST_PAUSE,
    ) -> Heard:
        """Publish events and wait until all streams have them.

        :param channels: the numbers that stand for ``{channel}``, in turn; default 1.
        :param first: the first of them; default 0.
        :param count: how many events, ``None`` for as many as ``seconds`` allow.
        :param rate: how many a second, default ``None``: each as soon as the one before is answered.
        :param seconds: for how long, ``None`` for as long as ``count`` takes.
        :param unheard: whether no stream gets them; default ``False``.
        :param burst: whether only the number a second is wanted: events are posted over several connections, no
            latencies are taken, and the client reads in large bites, so that it leaves the processor to the
            server; default ``False``.
        :param bulk: how many events a POST has, one a line, for a server that takes them so; default 1.
        :param away: seconds between two bites in a burst, default 0.01; Linux tells when what was read had come.
        :raises CannotBench: publishing fails.
        """
        if self._publisher is None:
            self._publisher = Child("sse_threaded.bench.publisher")
            self._resources.callback(self._publisher.close)
        self._order_readers("mark", mark=self._mark, timed=not burst, pause=away if burst else 0.0)
        self._answers(0)
        kind = f"Content-Type: {post.content_type}"
        self._publisher.order(
            "publish",
            family=post.target.family,
            address=post.target.address,
            heads=[post.target.head("POST", channel, kind)[:-2] for channel in range(channels)],
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
            audience = self._audience[number] if self._audience and not unheard else [0]
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
