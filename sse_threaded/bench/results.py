"""The results of the load client: the figures of all its processes, merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .latencies import Latencies


@dataclass(frozen=True)
class OpenResult:
    """The result of opening streams.

    :ivar streams: how many were opened.
    :ivar seconds: from the first connect to the first bytes of the body of the last stream.
    :ivar ended: how many have ended during this time.
    :ivar share: the share of a core that the busiest process of the client used, 0 to 1.
    :ivar first_ns: the time of the first connect, on the monotonic clock.
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
class DeliveryResult:
    """The result of publishing, or of listening: what the streams received.

    :ivar published: how many events were published.
    :ivar publish_seconds: from the first request to the last answer.
    :ivar expected: how many deliveries there should be.
    :ivar deliveries: how many deliveries there were; without publishing, how many lines of data.
    :ivar seconds: from the first request to the last delivery; without publishing, the time of listening.
    :ivar received: how many bytes the streams received.
    :ivar latencies: from just before an event was published until its bytes were read.
    :ivar open: how many streams are open.
    :ivar ended: how many streams the server has ended since the client began.
    :ivar share: the share of a core that the busiest process of the client used, 0 to 1.
    :ivar last_ns: the time of the last delivery, on the monotonic clock.
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
    """Return the share of a core that the busiest process used, 0 to 1."""
    shares: list[float] = [answer["cpu_ns"] / max(1, answer["wall_ns"]) for answer in answers]
    return max(shares)


def merged(answers: list[dict[str, Any]], sent: dict[str, Any] | None, expected: int) -> DeliveryResult:
    """Merge the answers of all processes.

    :param answers: those of the processes that hold streams.
    :param sent: that of the process that publishes; ``None`` where nothing was published.
    :param expected: how many deliveries there should be.
    """
    late = Latencies()
    for answer in answers:
        late.add(Latencies({int(value): count for value, count in answer["latencies"].items()}))
    last = max(answer["last"] for answer in answers)
    wall = max(answer["wall_ns"] for answer in answers)
    return DeliveryResult(
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
