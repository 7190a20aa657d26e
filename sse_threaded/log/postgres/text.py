"""Text with zero bytes. PostgreSQL's type ``text`` takes every character but U+0000.

The log writes U+0000 as U+0001 and ``0``, and U+0001 as U+0001 and ``1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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


def array_of(texts: Iterable[str | None]) -> str:
    """Return texts as PostgreSQL writes an array of them.

    The driver can do this too, but it takes longer than the rest of an append.

    :param texts: as :func:`to_database` returns them.
    """
    return f"{{{','.join('NULL' if text is None else _quoted(text) for text in texts)}}}"


def _quoted(text: str) -> str:
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if '"' in text:
        text = text.replace('"', '\\"')
    return f'"{text}"'
