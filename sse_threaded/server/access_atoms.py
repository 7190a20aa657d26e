"""The parts of a line in the access log. None can begin a line of its own, and none shows a ticket.

gunicorn escapes only double quotes. It decodes a path (``%(U)s``). With ``%0d%0a`` in the path a stranger could
write what looks like a line of the log.
"""

from __future__ import annotations

import re
from typing import Any

from gunicorn.glogging import SafeAtoms

# The ticket in a URL or a query. A person who reads the log must not be able to use it.
_TICKET = re.compile(r"((?:^|[?&])ticket=)[^&#\s]*")


class OneLineAtoms(SafeAtoms):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's atoms, without tickets, and with control characters escaped as in a Python string."""

    def __init__(self, atoms: dict[str, Any]) -> None:
        super().__init__(atoms)
        for name, value in self.items():
            if isinstance(value, str) and ("ticket=" in value or not value.isprintable()):
                self[name] = _escaped(_TICKET.sub(r"\1...", value))


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
