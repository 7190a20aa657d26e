"""How much history a log keeps."""

from __future__ import annotations

from dataclasses import dataclass

# Seconds in a hundred years. All engines can compute with a number of this size.
_MAX_AGE = 3_155_760_000


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How much history a log keeps. A client that was disconnected for longer gets a ``reset``.

    Both bounds are lower bounds: trimming runs in the background, so a little more may be there for a while. In
    SQLite and PostgreSQL every process that streams trims, and in Redis every process that publishes. So give all
    processes the same retention.

    :param count: events of each channel; default 10,000, which is some megabytes of file for a busy channel, and
        about a second for a replay. ``None``: no bound.
    :param age: seconds; default 86,400, so that a laptop that was closed for the night resumes in the morning.
        ``None``: no bound.
    :raises ValueError: ``count`` is not a whole number of 1 or more, or ``age`` is not a number from 1 to the
        seconds of 100 years.
    """

    count: int | None = 10_000
    age: float | None = 86_400.0

    def __post_init__(self) -> None:
        if self.count is not None and not (_is_number(self.count, int) and self.count >= 1):
            raise ValueError(f"retention count must be a whole number of 1 or more, or None, not {self.count!r}")
        if self.age is not None and not (_is_number(self.age, int, float) and 1 <= self.age <= _MAX_AGE):
            raise ValueError(f"retention age must be 1 to {_MAX_AGE:,} seconds, or None, not {self.age!r}")


# The channel of the messages between the processes. Its events matter for a moment only, so a log drops their data
# after so many seconds. The events may stay, without data. A reader of all channels never gets
# HistoryGone because of them.
MESSAGES = "sse_threaded:messages"
MESSAGES_SECONDS = 60.0

# For how long the events of that channel stay without data, whatever the hub's retention is. Otherwise a hub that
# keeps little could not read so far back, and one that keeps everything would keep these.
MESSAGES_ROWS = Retention()

# For a process that must not decide how much is kept, such as a command. In SQLite and PostgreSQL it trims
# nothing. In Redis it trims as the last other process has told the log.
AS_OTHERS_KEEP = Retention(count=None, age=None)
