"""The people with streams in this process: how many streams each has on each channel, and the latest changes.

The registry counts streams, with its lock held, and the hub counts long polls. The thread of presence takes the
changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

# A channel, and a user.
Pair = tuple[str, str]

# Seconds after a person's last stream until this process says so. A client whose lease is over reconnects sooner,
# and so does one that polls. If it reconnects to this process, the others need not know.
_HOLD = 1.0


class Moves(NamedTuple):
    """People who have come and gone.

    :ivar went: people without a stream here. The other processes may list those of a disconnection already.
    :ivar came: people with a stream here. Some may be in both, and have come last.
    """

    went: list[Pair]
    came: list[Pair]


def _ignore() -> None:
    """Stand for a function that was not set."""


class Attendance:
    """The people of one process.

    :param hold: seconds after a person's last stream until the person has gone; default 1.

    :ivar on_change: called when there may be something for :meth:`take`, perhaps with the registry's lock held.
        It must not wait.
    """

    def __init__(self, hold: float = _HOLD) -> None:
        self._hold = hold
        self.on_change: Callable[[], None] = _ignore
        self._lock = threading.Lock()  # guards all below
        self._streams: dict[str, dict[str, int]] = {}  # by channel and user
        # People that the other processes do not know yet; people that have gone, and when to say so; and people
        # that a disconnection has removed.
        self._came: dict[Pair, None] = {}
        self._went: dict[Pair, float] = {}
        self._removed: dict[Pair, None] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there are no people here, and none have just gone."""
        return not (self._streams or self._went or self._removed)

    @property
    def has_streams(self) -> bool:
        """Whether there are people here."""
        return bool(self._streams)

    def enter(self, user: str, channels: Iterable[str]) -> None:
        """Count a stream."""
        with self._lock:
            is_new = self._is_settled
            for channel in channels:
                users = self._streams.setdefault(channel, {})
                users[user] = users.get(user, 0) + 1
                if users[user] == 1 and self._went.pop((channel, user), None) is None:
                    self._came[channel, user] = None
            is_new = is_new and not self._is_settled
        if is_new:
            self.on_change()

    def leave(self, user: str, channels: Iterable[str], *, was_removed: bool = False) -> None:
        """Count a stream no more.

        :param was_removed: whether a disconnection ends it, by which all processes remove its user; default
            ``False``.
        """
        now = time.monotonic()
        with self._lock:
            is_new = self._is_settled
            for channel in channels:
                users = self._streams[channel]
                users[user] -= 1
                if users[user]:
                    continue
                del users[user]
                if not users:
                    del self._streams[channel]
                pair = channel, user
                was_unknown = pair in self._came
                self._came.pop(pair, None)
                if was_removed:
                    self._removed[pair] = None
                elif not was_unknown:
                    self._went[pair] = now + self._hold
            is_new = is_new and not self._is_settled
        if is_new:
            self.on_change()

    def forget(self, user: str | None, channel: str | None) -> None:
        """Note that a disconnection has removed people in all processes, also those that have just gone here.

        :param user: ``None`` for all users.
        :param channel: ``None`` for all channels.
        """
        with self._lock:
            for pair in [each for each in self._went if channel in (None, each[0]) and user in (None, each[1])]:
                del self._went[pair]

    @property
    def _is_settled(self) -> bool:
        return not (self._came or self._went or self._removed)

    def next_change(self) -> float:
        """When :meth:`take` will have something next (monotonic)."""
        with self._lock:
            if self._came or self._removed:
                return 0.0
            return next(iter(self._went.values()), float("inf"))

    def take(self, *, at_end: bool = False) -> Moves:
        """Take the changes of which the others must know now.

        :param at_end: whether no client will reconnect to this process; default ``False``.
        """
        now = time.monotonic()
        with self._lock:
            gone = [pair for pair, due in self._went.items() if at_end or due <= now]
            for pair in gone:
                del self._went[pair]
            moves = Moves([*self._removed, *gone], [*self._came])
            self._removed, self._came = {}, {}
        return moves

    def take_all(self) -> list[Pair]:
        """Return all people with streams here. :meth:`take` then returns later changes only."""
        with self._lock:
            self._came, self._went, self._removed = {}, {}, {}
            return [(channel, user) for channel, users in self._streams.items() for user in users]
