"""The parts of a line in the access log, none of which can begin a line of its own.

gunicorn escapes only double quotes. It decodes a path (``%(U)s``). With ``%0d%0a`` in the path a stranger could
write what looks like a line of the log.
"""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import SafeAtoms


class OneLineAtoms(SafeAtoms):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's atoms, with control characters escaped as in a Python string."""

    def __init__(self, atoms: dict[str, Any]) -> None:
        super().__init__(atoms)
        for name, value in self.items():
            if isinstance(value, str) and not value.isprintable():
                self[name] = "".join(
                    character if character.isprintable() else repr(character)[1:-1] for character in value
                )
