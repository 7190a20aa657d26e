"""The access log's parts of a line, none of which can begin a line of its own.

gunicorn escapes only double quotes. A path comes percent-decoded (``%(U)s``), and with ``%0d%0a`` in it a
stranger would write what looks like a line of the log.
"""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import SafeAtoms


class OneLineAtoms(SafeAtoms):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's, with control characters escaped as in a Python string."""

    def __init__(self, atoms: dict[str, Any]) -> None:
        super().__init__(atoms)
        for name, value in self.items():
            if isinstance(value, str) and not value.isprintable():
                self[name] = "".join(
                    character if character.isprintable() else repr(character)[1:-1] for character in value
                )
