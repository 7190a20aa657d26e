"""Compares what clients received with the log: every event must come, and come once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..common.event_ids import split_id
from .clients import ReceivedEvent


@dataclass
class DeliveryCheck:
    """The result of the comparison, over all clients.

    :ivar lost: events that a client should have received and did not.
    :ivar doubled: events that a client received more than once.
    :ivar unexpected: events that a client received, which are not in the log and which no reset took back.
    :ivar resets: how many clients received a ``reset``.
    :ivar lost_by_redis: acknowledged events that are not in the log.
    """

    lost: int = 0
    doubled: int = 0
    unexpected: int = 0
    resets: int = 0
    lost_by_redis: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every client received exactly what it should have."""
        return not (self.lost or self.doubled or self.unexpected)

    def add(
        self, start: str, received: Iterable[ReceivedEvent], kept: Sequence[str], acknowledged: Collection[str]
    ) -> None:
        """Add one client to the result.

        :param start: the id with which its first stream began.
        :param received: the events that it received.
        :param kept: the ids of its channel that the log has in the end, in order.
        :param acknowledged: the ids of its channel that the publisher got as answers.

        After a reset a client fetches the whole state, so it needs no event before the reset. But the events that
        it received until then must have been complete.
        """
        # One part for each reset: the id with which it begins, and the events after it.
        parts: list[tuple[str, list[str]]] = [(start, [])]
        for each in received:
            if each.is_reset:
                parts.append((each.id, []))
            else:
                parts[-1][1].append(each.id)
        self.resets += len(parts) > 1
        ids = [each for _, part in parts for each in part]
        self._count("doubled", list((Counter(ids) - Counter(set(ids))).elements()))
        for place, (begin, part) in enumerate(parts):
            is_last = place == len(parts) - 1
            epoch, after = split_id(begin)
            known = {number for each, number in map(split_id, kept) if each == epoch}
            if kept and is_last and not known:
                self._count("lost", kept)  # there is a new log, and the client received no reset
                continue
            self._count("unexpected", [each for each in part if split_id(each)[0] != epoch])
            here = [number for each, number in map(split_id, part) if each == epoch]
            if here != sorted(here):
                self.unexpected += 1
                self.details.append("events came in the wrong order")
            upto = max(known, default=after) if is_last else max(here, default=after)
            due = known or {number for each, number in map(split_id, acknowledged) if each == epoch}
            self._count("lost", sorted({each for each in due if after < each <= upto} - set(here)))
            if is_last:
                self._count("unexpected", sorted(set(here) - known))

    def _count(self, name: str, found: Sequence[object]) -> None:
        if found:
            setattr(self, name, getattr(self, name) + len(found))
            self.details.append(f"{name}: {len(found)}, from {found[0]} to {found[-1]}")


def longest_silence(received: Sequence[ReceivedEvent], begun: float, ended: float) -> float:
    """Return the longest time without an event, between the begin and the end of publishing."""
    times = [begun, *(each.at for each in received if begun < each.at < ended), ended]
    return max(later - earlier for earlier, later in pairwise(times))
