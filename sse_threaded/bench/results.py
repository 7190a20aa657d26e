"""What came of an order to the load: figures of all its processes, put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .timestamps import Latencies


@dataclass(frozen=True)
class Opened:
    """What became of streams that were to be opened.

    :ivar streams: how many were opened.
    :ivar seconds: from the first connect to the first bytes of the last stream's body.
    :ivar ended: how many have ended since.
    :ivar share: what the busiest of the client's processes used of a core meanwhile, 0 to 1.
    :ivar first_ns: when the first connect was, on the monotonic clock.
    """

    streams: int
    seconds: float
    ended: int
    share: float
    first_ns: int

    @property
    def rate(self) -> float:
        """Streams opened a second."""
        return self.streams / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Heard:
    """What streams brought between two moments.

    :ivar published: how many events were published.
    :ivar publish_seconds: from the first request to the last answer.
    :ivar expected: how many deliveries would be complete.
    :ivar deliveries: how many there were; without publishing, lines of data.
    :ivar seconds: from the first request to the last delivery; without publishing, the time of listening.
    :ivar received: bytes.
    :ivar latencies: from just before an event was published until its bytes were read.
    :ivar open: streams that are open.
    :ivar ended: streams that the server has ended, since the client began.
    :ivar share: what the busiest of the client's processes used of a core, 0 to 1.
    :ivar last_ns: when the last delivery was, on the monotonic clock.
    """

    published: int
    publish_seconds: float
    expected: int
    deliveries: int
    seconds: float
    received: int
    latencies: Latencies
    open: int
    ended: int
    share: float
    last_ns: int

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return self.deliveries / max(self.seconds, 1e-9)

    @property
    def publish_rate(self) -> float:
        """Events published a second."""
        return self.published / max(self.publish_seconds, 1e-9)


def busiest(answers: list[dict[str, Any]]) -> float:
    """What the busiest process used of a core, 0 to 1."""
    shares: list[float] = [answer["cpu_ns"] / max(1, answer["wall_ns"]) for answer in answers]
    return max(shares)


def merged(answers: list[dict[str, Any]], sent: dict[str, Any] | None, expected: int) -> Heard:
    """The answers of all processes as one.

    :param answers: of those that hold streams.
    :param sent: of the one that publishes, ``None`` where nothing was published.
    :param expected: deliveries.
    """
    late = Latencies()
    for answer in answers:
        late.add(Latencies({int(value): count for value, count in answer["latencies"].items()}))
    last = max(answer["last"] for answer in answers)
    wall = max(answer["wall_ns"] for answer in answers)
    return Heard(
        published=sent["sent"] if sent else 0,
        publish_seconds=(sent["last"] - sent["first"]) / 1e9 if sent else 0.0,
        expected=expected,
        deliveries=sum(answer["deliveries"] for answer in answers),
        seconds=max(0, last - sent["first"] if sent else wall) / 1e9,
        received=sum(answer["bytes"] for answer in answers),
        latencies=late,
        open=sum(answer["open"] for answer in answers),
        ended=sum(answer["ended"] for answer in answers),
        share=max(busiest(answers), sent["cpu_ns"] / max(1, sent["wall_ns"]) if sent else 0.0),
        last_ns=last,
    )
