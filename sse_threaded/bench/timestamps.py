"""Time stamps inside the published data, by which the readers measure latencies.

A stamp is a random mark of this run and the time of the monotonic clock in nanoseconds, as 16 hexadecimal digits.
It has only letters and digits, so no application escapes it. All processes of a machine share the clock.
"""

from __future__ import annotations

import random
import re
import string
import time

_DIGITS = 16
_MARK_LETTERS = 10

# The number of characters of a stamp.
LENGTH = _MARK_LETTERS + _DIGITS


def new_mark() -> str:
    """Return random letters, which distinguish the stamps of this run from those of another run."""
    return "".join(random.choices(string.ascii_lowercase[6:], k=_MARK_LETTERS))


def stamp(mark: str) -> str:
    """Return a stamp of the current time."""
    return f"{mark}{time.monotonic_ns():016x}"


def pattern(mark: str) -> re.Pattern[bytes]:
    """Return a pattern that finds the digits of every stamp in bytes."""
    return re.compile(mark.encode() + b"([0-9a-f]{%d})" % _DIGITS)
