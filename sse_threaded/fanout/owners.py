"""Whose streams there are: how many each user and each address has, and which of them must end.

The registry's lock guards everything in this module.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from ..observer import Cause
from .budget import Overloaded
from .owner import Owner
from .subscriber import Subscriber

# Disconnections that are remembered. A stream that was allowed before one of them may be added after it.
_REMEMBERED = 1000

# Seconds that a view may take from its look at the session to its call of the hub. A disconnection in this time
# ends its stream. So a user who logs out and in again within this time is cut off once more.
DECISION = 1.0


class OwnerLimits(NamedTuple):
    """How many streams one owner may have in this process.

    :ivar per_user: of one user; ``None``, the default, for no bound.
    :ivar per_address: of one address; ``None``, the default, for no bound.
    """

    per_user: int | None = None
    per_address: int | None = None


class Disconnection(NamedTuple):
    """An order to end streams: those of a user, of a channel, or of both.

    :ivar seen: when this process read it (monotonic).
    :ivar user: the user; ``None`` for all.
    :ivar channel: the channel; ``None`` for all.
    """

    seen: float
    user: str | None
    channel: str | None

    def ends(self, subscriber: Subscriber) -> bool:
        """Whether it ends this stream, if that was allowed before."""
        owner = subscriber.owner
        return self.is_about(None if owner is None else owner.user, subscriber.channels)

    def is_about(self, user: str | None, channels: Collection[str]) -> bool:
        """Whether it is about a stream of this user and of these channels."""
        return self.user in (None, user) and (self.channel is None or self.channel in channels)


class Owners:
    """The owners of all streams of a process.

    :param limits: how many streams one owner may have.
    :ivar known_from: since when all disconnections are known (monotonic).
    """

    def __init__(self, limits: OwnerLimits) -> None:
        self._limits = limits
        self._by_user: dict[str, dict[Subscriber, None]] = {}
        self._addresses: Counter[str] = Counter()
        self.known_from = 0.0
        self._disconnections: deque[Disconnection] = deque()

    def begin(self, known_from: float, disconnections: Iterable[Disconnection]) -> None:
        """Begin with some disconnections, and with all after a time: the pump's start, or a gap in its reading."""
        self.known_from = known_from
        self._disconnections = deque(disconnections)

    def require_room(self, owner: Owner) -> None:
        """Return if the owner may have one more stream.

        :raises Overloaded: the user, or the address, has as many as allowed.
        """
        most = self._limits.per_user
        if most is not None and owner.user is not None and len(self._by_user.get(owner.user, ())) >= most:
            raise Overloaded(f"this user has {most} streams already", Cause.USER)
        most = self._limits.per_address
        if most is not None and owner.address is not None and self._addresses[owner.address] >= most:
            raise Overloaded(f"this address has {most} streams already", Cause.ADDRESS)

    def add(self, subscriber: Subscriber, owner: Owner) -> None:
        """Count a stream of an owner.

        :raises Overloaded: as with :meth:`require_room`; then it is not counted.
        """
        self.require_room(owner)
        if owner.user is not None:
            self._by_user.setdefault(owner.user, {})[subscriber] = None
        if owner.address is not None:
            self._addresses[owner.address] += 1

    def remove(self, subscriber: Subscriber, owner: Owner) -> None:
        """Count a stream no more."""
        if owner.user is not None:
            mine = self._by_user[owner.user]
            del mine[subscriber]
            if not mine:
                del self._by_user[owner.user]
        if owner.address is not None:
            self._addresses[owner.address] -= 1
            if not self._addresses[owner.address]:
                del self._addresses[owner.address]

    def of_user(self, user: str) -> Iterator[Subscriber]:
        """The streams of a user."""
        return iter(tuple(self._by_user.get(user, ())))

    def note(self, disconnection: Disconnection) -> None:
        """Remember a disconnection, for streams that were allowed before it and are added after it."""
        self._disconnections.append(disconnection)
        if len(self._disconnections) > _REMEMBERED:
            self.known_from = self._disconnections.popleft().seen

    def is_disconnected(self, subscriber: Subscriber) -> bool:
        """Whether a stream was disconnected between its view and this call, or may have been."""
        if subscriber.allowed_at < self.known_from:
            return True
        for each in reversed(self._disconnections):
            if each.seen < subscriber.allowed_at:
                return False
            if each.ends(subscriber):
                return True
        return False
