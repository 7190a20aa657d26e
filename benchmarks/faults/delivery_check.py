"""Whether clients got what the log has: each event, and each once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .clients import Got

_ID = re.compile("([a-z]{6})-([0-9]+)")


def _taken_apart(event_id: str) -> tuple[str, int]:
    match = _ID.fullmatch(event_id)
    assert match is not None, event_id
    return match[1], int(match[2])


def number_of(event_id: str) -> int:
    """An id's number."""
    return _taken_apart(event_id)[1]


@dataclass
class Verdict:
    """What became of the events.

    :ivar lost: events that a client should have got and did not, over all clients.
    :ivar doubled: events that a client got twice.
    :ivar strange: events that a client got, which the log does not have and which no reset has taken back.
    :ivar reset: how many clients were told to begin anew.
    :ivar lost_by_redis: acknowledged events that the log does not have.
    """

    lost: int = 0
    doubled: int = 0
    strange: int = 0
    reset: int = 0
    lost_by_redis: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every client has exactly what it should have."""
        return not (self.lost or self.doubled or self.strange)

    def add(self, start: str, got: Iterable[Got], kept: Sequence[str], acknowledged: Collection[str]) -> None:
        """Count one client in.

        :param start: the id with which it began.
        :param got: what it got.
        :param kept: the ids that the log has of its channel in the end, in order.
        :param acknowledged: those of its channel that the publisher was told.

        After a reset a client fetches the state, so it owes nothing before; what it had got up to then must have
        been all there was.
        """
        parts: list[tuple[str, list[str]]] = [(start, [])]
        for each in got:
            if each.is_reset:
                parts.append((each.id, []))
            else:
                parts[-1][1].append(each.id)
        self.reset += len(parts) > 1
        ids = [each for _, part in parts for each in part]
        self._count("doubled", list((Counter(ids) - Counter(set(ids))).elements()))
        for place, (begin, part) in enumerate(parts):
            is_last = place == len(parts) - 1
            epoch, after = _taken_apart(begin)
            known = {number for each, number in map(_taken_apart, kept) if each == epoch}
            if kept and is_last and not known:
                self._count("lost", kept)  # the log is another one, and it has not been told
                continue
            self._count("strange", [each for each in part if _taken_apart(each)[0] != epoch])
            here = [number for each, number in map(_taken_apart, part) if each == epoch]
            if here != sorted(here):
                self.strange += 1
                self.details.append("events came in the wrong order")
            upto = max(known, default=after) if is_last else max(here, default=after)
            due = known or {number for each, number in map(_taken_apart, acknowledged) if each == epoch}
            self._count("lost", sorted({each for each in due if after < each <= upto} - set(here)))
            if is_last:
                self._count("strange", sorted(set(here) - known))

    def _count(self, what: str, found: Sequence[object]) -> None:
        if found:
            setattr(self, what, getattr(self, what) + len(found))
            self.details.append(f"{what}: {len(found)}, from {found[0]} to {found[-1]}")


def longest_silence(got: Sequence[Got], begun: float, ended: float) -> float:
    """The longest time without an event, while some were published."""
    times = [begun, *(each.at for each in got if begun < each.at < ended), ended]
    return max(later - earlier for earlier, later in pairwise(times))
