"""The events by which a client knows the people of its channels. They have no id: so they are never replayed.

A list replaces everything that a client knows of the channel. Changes follow it. For a channel with very many
people clients get their number only. Otherwise each join would send an event to very many clients.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..protocol.event import encode_event, json_line
from .directory import Change, Directory

# The name of the event.
EVENT = "stream-presence"

# The number of people above which clients get their number only, and the one below which they get the names again.
MOST_NAMED, NAMED_AGAIN = 1000, 900


def _block(values: dict[str, object]) -> bytes:
    return encode_event(json_line(values), EVENT, None)


class Blocks:
    """Makes the events of one process."""

    def __init__(self) -> None:
        self._counted: set[str] = set()  # channels whose clients get the number only
        self._new_counts: set[str] = set()  # of these, those whose number has changed

    @property
    def has_counts(self) -> bool:
        """Whether :meth:`counts` has something."""
        return bool(self._new_counts)

    def list(self, channel: str, directory: Directory) -> bytes:
        """Return the event with all people of a channel."""
        count = directory.count(channel)
        if count > MOST_NAMED:
            self._counted.add(channel)
        people = None if channel in self._counted else directory.people(channel)
        return _block({"channel": channel, "people": people, "count": count})

    def change(self, change: Change, directory: Directory) -> bytes | None:
        """Return the event with a change; ``None`` if :meth:`counts` will tell it."""
        channel = change.channel
        count = directory.count(channel)
        is_counted = channel in self._counted
        if is_counted and count < NAMED_AGAIN:
            self._counted.discard(channel)
            self._new_counts.discard(channel)
        elif is_counted:
            self._new_counts.add(channel)
            return None
        elif count <= MOST_NAMED:
            return _block({"channel": channel, "joined": change.joined, "left": change.left, "count": count})
        return self.list(channel, directory)

    def counts(self, directory: Directory) -> Sequence[tuple[str, bytes]]:
        """Return the channels of which only the number has changed, each with its event."""
        channels, self._new_counts = self._new_counts, set()
        return [(channel, self.list(channel, directory)) for channel in sorted(channels)]

    def forget(self, channel: str) -> None:
        """Note that no client shows the people of a channel."""
        self._counted.discard(channel)
        self._new_counts.discard(channel)
