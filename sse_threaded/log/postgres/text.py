"""Text with zero bytes. PostgreSQL's type ``text`` takes every character but U+0000.

The log writes U+0000 as U+0001 and ``0``, and U+0001 as U+0001 and ``1``.
"""

from __future__ import annotations

import re

_SPECIAL = re.compile("[\0\1]")
_WRITTEN = re.compile("\1([01])")


def to_database(text: str) -> str:
    """Return text as PostgreSQL takes it."""
    if "\0" in text or "\1" in text:
        return _SPECIAL.sub(lambda found: f"\1{ord(found[0])}", text)
    return text


def from_database(text: str) -> str:
    """Return text as :func:`to_database` took it."""
    if "\1" in text:
        return _WRITTEN.sub(lambda found: chr(int(found[1])), text)
    return text
