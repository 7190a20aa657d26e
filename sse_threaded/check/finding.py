"""One finding as a value, and how its sentences show numbers and the words of a server."""

from __future__ import annotations

from dataclasses import dataclass

from .codes import CODES, Level

# Characters of the server's words that a sentence shows.
_SHOWN = 120


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or good to know.

    :ivar code: the stable name of its kind, see ``CODES``.
    :ivar text: the facts, in sentences.
    """

    code: str
    text: str

    @property
    def level(self) -> Level:
        """How serious it is."""
        return CODES[self.code].level

    @property
    def remedy(self) -> str:
        """How to mend it."""
        return CODES[self.code].remedy


def span(seconds: float) -> str:
    """Return a time in words."""
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def clean(text: str) -> str:
    """Return the beginning of a text that the server chose, without control characters.

    A terminal would obey them.
    """
    return "".join(character if character.isprintable() else "?" for character in text)[:_SHOWN]
