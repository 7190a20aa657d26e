"""The rows of the table: what was measured, and its figures."""

from __future__ import annotations

import statistics
from typing import NamedTuple


class Row(NamedTuple):
    """A row of the table.

    :ivar what: what was measured.
    :ivar figures: the result.
    """

    what: str
    figures: str


def in_milliseconds(times: list[float]) -> str:
    """Return median, maximum and count of times in seconds, in milliseconds."""
    return f"median {1000 * statistics.median(times):.1f} ms, longest {1000 * max(times):.1f} ms, of {len(times)}"


def in_seconds(times: list[float]) -> str:
    """Return median, maximum and count of times in seconds."""
    return f"median {statistics.median(times):.2f} s, longest {max(times):.2f} s, of {len(times)}"
