"""The times of presence."""

from __future__ import annotations

from typing import NamedTuple

# A person without a stream stays listed for so many reconnection times, and for so many seconds at least. A client
# takes one reconnection time, or two if a server had no room. The rest is for a page that loads slowly.
_RETRIES, _LEAST_GRACE = 3, 10.0


class PresenceTimes(NamedTuple):
    """The times of presence, in seconds.

    :ivar grace: for how long a person without a stream stays listed.
    :ivar batch: between two messages about people who come and go, and between two changes that clients get.
    :ivar between_counts: between two counts for the clients of a channel with very many people.
    :ivar beat: between two beats of a process.
    :ivar silent_beats: a number and not a time. A process has died if another one reads so many beats of its own
        from the log, and nothing of that process.
    :ivar sync: for how long a process that begins waits for the list.
    :ivar answer: how much later each further process sends the list, if the ones before it did not.
    :ivar idle: how long after its last use presence stops in a process without people.
    """

    grace: float = 15.0
    batch: float = 0.25
    between_counts: float = 2.0
    beat: float = 4.0
    silent_beats: int = 3
    sync: float = 2.0
    answer: float = 0.4
    idle: float = 60.0


def times_for(retry: int) -> PresenceTimes:
    """Return the times for a hub.

    :param retry: its reconnection time, in milliseconds.
    """
    return PresenceTimes(grace=max(_RETRIES * retry / 1000, _LEAST_GRACE))
