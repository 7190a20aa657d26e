"""Compares what clients received with the log: every event must come, and come once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ..common.event_ids import split_id
from .clients import ReceivedEvent


class EpochChain(NamedTuple):
    """The epochs of a log that keeps its events when a new epoch begins, as a log in PostgreSQL does.

    :ivar current: the epoch of all ids that the log has in the end.
    :ivar ended: each earlier epoch, and the number up to which its ids belong to events that the log has.
    """

    current: str
    ended: Mapping[str, int]

    def in_current(self, event_id: str) -> str:
        """Return the id that the event has in the current epoch; the same id if the event is lost."""
        epoch, number = split_id(event_id)
        return f"{self.current}-{number}" if number <= self.ended.get(epoch, -1) else event_id


@dataclass
class DeliveryCheck:
    """The result of the comparison, over all clients.

    :ivar lost: events that a client should have received and did not.
    :ivar doubled: events that a client received more than once.
    :ivar unexpected: events that a client received, which are not in the log and which no reset took back.
    :ivar resets: how many clients received a ``reset``.
    :ivar needless: resets of clients that had received no lost event. They are counted for a chain of epochs only.
    :ivar lost_by_store: acknowledged events that are not in the log.
    """

    lost: int = 0
    doubled: int = 0
    unexpected: int = 0
    resets: int = 0
    needless: int = 0
    lost_by_store: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every client received exactly what it should have."""
        return not (self.lost or self.doubled or self.unexpected)

    def add(
        self,
        start: str,
        received: Iterable[ReceivedEvent],
        kept: Sequence[str],
        acknowledged: Collection[str],
        chain: EpochChain | None = None,
    ) -> None:
        """Add one client to the result.

        :param start: the id with which its first stream began.
        :param received: the events that it received.
        :param kept: the ids of its channel that the log has in the end, in order.
        :param acknowledged: the ids of its channel that the publisher got as answers.
        :param chain: the epochs of the log; ``None``, the default, if a new epoch has no events of an earlier one.

        After a reset a client fetches the whole state, so it needs no event before the reset. But the events that
        it received until then must have been complete.
        """
        ended = {} if chain is None else chain.ended
        same = (lambda event_id: event_id) if chain is None else chain.in_current
        # One part for each reset: the id with which it begins, and the events after it.
        parts: list[tuple[str, list[str]]] = [(same(start), [])]
        for each in received:
            if each.is_reset:
                parts.append((same(each.id), []))
            else:
                parts[-1][1].append(same(each.id))
        self.resets += len(parts) > 1
        ids = [each for _, part in parts for each in part]
        self._count("doubled", list((Counter(ids) - Counter(set(ids))).elements()))
        for begin, part in parts[:-1]:
            # Events that the log has lost come last. The reset takes them back.
            lost = [each for each in part if split_id(each)[0] in ended]
            if split_id(begin)[0] in ended:
                self._check_part(begin, part, kept, acknowledged, None)
                continue
            if not lost:
                self._count("needless", [begin] if chain else [])
                self._check_part(begin, part, kept, acknowledged, None)
            else:
                epoch = split_id(lost[0])[0]
                self._check_part(begin, part[: -len(lost)], kept, acknowledged, ended[epoch])
                self._check_part(f"{epoch}-{ended[epoch]}", lost, kept, acknowledged, None)
        self._check_last_part(*parts[-1], kept, acknowledged)

    def _check_last_part(
        self, begin: str, part: Sequence[str], kept: Sequence[str], acknowledged: Collection[str]
    ) -> None:
        known = _numbers(kept, split_id(begin)[0])
        if kept and not known:
            self._count("lost", kept)  # there is a new log, and the client received no reset
            return
        upto = max(known, default=split_id(begin)[1])
        here = self._check_part(begin, part, kept, acknowledged, upto)
        self._count("unexpected", sorted(here - known))

    def _check_part(
        self, begin: str, part: Sequence[str], kept: Sequence[str], acknowledged: Collection[str], upto: int | None
    ) -> set[int]:
        """Check the events between two resets; return their numbers.

        :param upto: the number up to which they must be complete; ``None``: that of the last of them.
        """
        epoch, after = split_id(begin)
        self._count("unexpected", [each for each in part if split_id(each)[0] != epoch])
        here = [number for each, number in map(split_id, part) if each == epoch]
        if here != sorted(here):
            self.unexpected += 1
            self.details.append("events came in the wrong order")
        last = max(here, default=after) if upto is None else upto
        due = _numbers(kept, epoch) or _numbers(acknowledged, epoch)
        self._count("lost", sorted({each for each in due if after < each <= last} - set(here)))
        return set(here)

    def _count(self, name: str, found: Sequence[object]) -> None:
        if found:
            setattr(self, name, getattr(self, name) + len(found))
            self.details.append(f"{name}: {len(found)}, from {found[0]} to {found[-1]}")


def _numbers(ids: Iterable[str], epoch: str) -> set[int]:
    return {number for each, number in map(split_id, ids) if each == epoch}


def longest_silence(received: Sequence[ReceivedEvent], begun: float, ended: float) -> float:
    """Return the longest time without an event, between the begin and the end of publishing."""
    times = [begun, *(each.at for each in received if begun < each.at < ended), ended]
    return max(later - earlier for earlier, later in pairwise(times))
