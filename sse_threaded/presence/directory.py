"""The people of each channel, and the processes in which they have streams.

A person whose last stream has ended stays listed for a while, as the client may reconnect. So a page that is
loaded again, and the end of a process, show no person as leaving.

The owner of a directory guards it. It has no clock: callers give monotonic times.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .messages import Pair

# Seconds after a disconnection in which a stream of its user ends without a grace. A process may have announced a
# stream just before it read of the disconnection.
_RECENT = 5.0


class Change(NamedTuple):
    """A change in the list of a channel.

    :ivar channel: the channel.
    :ivar joined: people who are listed now, and were not before; sorted.
    :ivar left: people who were listed before, and are not now; sorted.
    """

    channel: str
    joined: tuple[str, ...]
    left: tuple[str, ...]


class Directory:
    """The people of all channels."""

    def __init__(self) -> None:
        # The processes of each user of each channel. Most users have one, and all users of one process share one
        # tuple.
        self._people: dict[str, dict[str, tuple[str, ...]]] = {}
        self._single: dict[str, tuple[str, ...]] = {}
        # Until when people without a stream stay listed. The heap may have old entries.
        self._lingering: dict[str, dict[str, float]] = {}
        self._ends: list[tuple[float, str, str]] = []
        # People who are listed now and were not at the last call of take_changes(), or were and are not.
        self._changes: dict[str, dict[str, bool]] = {}
        self._removals: deque[tuple[float, str | None, str | None]] = deque()

    # Reading.

    def people(self, channel: str) -> list[str]:
        """The people of a channel, sorted."""
        return sorted([*self._people.get(channel, ()), *self._lingering.get(channel, ())])

    def channels(self) -> list[str]:
        """The channels that have people."""
        return [*self._people.keys() | self._lingering.keys()]

    def count(self, channel: str) -> int:
        """How many people a channel has."""
        return len(self._people.get(channel, ())) + len(self._lingering.get(channel, ()))

    def by_process(self) -> dict[str, list[Pair]]:
        """The people of each process."""
        found: dict[str, list[Pair]] = {}
        for channel, users in self._people.items():
            for user, processes in users.items():
                for process in processes:
                    found.setdefault(process, []).append((channel, user))
        return found

    def lingering(self) -> Iterator[tuple[str, str, float]]:
        """People without a stream: the channel, the user, and until when they stay listed."""
        for channel, users in self._lingering.items():
            for user, until in users.items():
                yield channel, user, until

    @property
    def has_changes(self) -> bool:
        """Whether :meth:`take_changes` may have something."""
        return bool(self._changes)

    def take_changes(self) -> list[Change]:
        """The changes since the last call."""
        changes, self._changes = self._changes, {}
        return [
            Change(
                channel,
                tuple(sorted(user for user, is_here in users.items() if is_here)),
                tuple(sorted(user for user, is_here in users.items() if not is_here)),
            )
            for channel, users in changes.items()
            if users
        ]

    # People come and go.

    def come(self, process: str, channel: str, user: str) -> None:
        """Note that a person has a stream in a process."""
        users = self._people.setdefault(channel, {})
        before = users.get(user)
        if before is not None:
            if process not in before:
                users[user] = (*before, process)
            return
        users[user] = self._single.setdefault(process, (process,))
        if not self._end_lingering(channel, user):
            self._note(channel, user, True)

    def go(self, process: str, channel: str, user: str, now: float, until: float) -> None:
        """Note that a person has no stream in a process any more.

        :param until: until when to list a person who has no stream in any process now.
        """
        users = self._people.get(channel, {})
        before = users.get(user, ())
        if process not in before:
            return
        left = tuple(each for each in before if each != process)
        if left:
            users[user] = left if len(left) > 1 else self._single.setdefault(left[0], left)
            return
        self._forget(channel, user)
        if until > now and not self._was_removed(channel, user, now):
            self._add_lingering(channel, user, until)
        else:
            self._note(channel, user, False)

    def drop(self, process: str, now: float, until: float) -> None:
        """Note that a process has no people any more; see :meth:`go`."""
        for channel, user in self._of(process):
            self.go(process, channel, user, now, until)
        self._single.pop(process, None)

    def replace(self, process: str, people: set[Pair], now: float, until: float) -> None:
        """Note that a process has these people, and no others; see :meth:`go`."""
        for channel, user in self._of(process):
            if (channel, user) not in people:
                self.go(process, channel, user, now, until)
        for channel, user in people:
            self.come(process, channel, user)

    def _of(self, process: str) -> list[Pair]:
        return [
            (channel, user)
            for channel, users in self._people.items()
            for user, processes in users.items()
            if process in processes
        ]

    def linger(self, people: Mapping[str, Mapping[str, float]]) -> None:
        """List people without a stream.

        :param people: until when, by user and by channel.
        """
        for channel, users in people.items():
            for user, until in users.items():
                if user not in self._people.get(channel, ()) and user not in self._lingering.get(channel, ()):
                    self._note(channel, user, True)
                    self._add_lingering(channel, user, until)

    def remove(self, user: str | None, channel: str | None, now: float) -> None:
        """Remove a user at once, from all channels or from one; or all users of a channel.

        :param user: ``None`` for all users.
        :param channel: ``None`` for all channels.
        """
        self._trim_removals(now)
        self._removals.append((now, user, channel))
        for name in [channel] if channel is not None else self.channels():
            people, lingering = self._people.get(name, {}), self._lingering.get(name, {})
            if user is not None:
                here = [user] if user in people or user in lingering else []
            else:
                here = [*people.keys() | lingering.keys()]
            for each in here:
                self._forget(name, each)
                self._end_lingering(name, each)
                self._note(name, each, False)

    # Time passes.

    def next_end(self) -> float:
        """When to call :meth:`expire` next."""
        return self._ends[0][0] if self._ends else float("inf")

    def expire(self, now: float) -> None:
        """Remove the people who have had no stream for long enough."""
        while self._ends and self._ends[0][0] <= now:
            until, channel, user = heapq.heappop(self._ends)
            if self._lingering.get(channel, {}).get(user) == until:
                self._end_lingering(channel, user)
                self._note(channel, user, False)

    def prolong(self, until: float) -> None:
        """List all people without a stream until a time at least."""
        for channel, user, before in list(self.lingering()):
            if before < until:
                self._add_lingering(channel, user, until)

    # Steps.

    def _note(self, channel: str, user: str, is_here: bool) -> None:
        users = self._changes.setdefault(channel, {})
        if users.get(user, is_here) is not is_here:
            del users[user]  # it was otherwise before, so nothing has changed
        else:
            users[user] = is_here

    def _forget(self, channel: str, user: str) -> None:
        users = self._people.get(channel)
        if users is not None:
            users.pop(user, None)
            if not users:
                del self._people[channel]

    def _add_lingering(self, channel: str, user: str, until: float) -> None:
        self._lingering.setdefault(channel, {})[user] = until
        heapq.heappush(self._ends, (until, channel, user))

    def _end_lingering(self, channel: str, user: str) -> bool:
        users = self._lingering.get(channel)
        if users is None or user not in users:
            return False
        del users[user]
        if not users:
            del self._lingering[channel]
        return True

    def _trim_removals(self, now: float) -> None:
        while self._removals and self._removals[0][0] < now - _RECENT:
            self._removals.popleft()

    def _was_removed(self, channel: str, user: str, now: float) -> bool:
        self._trim_removals(now)
        return any(who in (None, user) and where in (None, channel) for _, who, where in self._removals)
