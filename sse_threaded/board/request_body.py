"""Reads and checks request bodies. The result may be stored; an invalid body is an HTTP error with a reason."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection

from werkzeug.exceptions import UnprocessableEntity
from werkzeug.wrappers import Request

from ..protocol.json_body import kind_of, quoted, read_json

# Sixty times the longest title in the longest escapes. No honest request needs so much.
MAX_BODY_BYTES = 64 * 1024

# Eight lines on a phone: enough for a title, too little for a description.
MAX_TITLE_CHARACTERS = 200

# Unicode categories that one line of text must not contain: control characters, lone surrogates, and the
# separators of lines and paragraphs.
_REFUSED = ("Cc", "Cs", "Zl", "Zp")


def read_object(
    request: Request, required: Collection[str] = (), optional: Collection[str] = ()
) -> dict[str, str]:
    """Read the JSON object in the body; the value of each member is a string.

    :param required: names of members that must be present.
    :param optional: names of members that may be present.
    :raises UnsupportedMediaType: the content type is not JSON. A form of another site cannot send JSON.
    :raises RequestEntityTooLarge: the body is longer than 64 KiB.
    :raises BadRequest: the body is not valid JSON (RFC 8259), or not complete.
    :raises UnprocessableEntity: the JSON is not an object, or a member is missing, unknown or not a string.
    """
    wanted = _wanted(required, optional)
    body = read_json(request, MAX_BODY_BYTES)
    if not isinstance(body, dict):
        raise UnprocessableEntity(f"The body is {kind_of(body)}; send a JSON object with {wanted}.")
    for name, value in body.items():
        if name not in (*required, *optional):
            raise UnprocessableEntity(f"There is no member {quoted(name)} here; send {wanted}.")
        if not isinstance(value, str):
            raise UnprocessableEntity(f'"{name}" is {kind_of(value)}; send it as a string.')
    for name in required:
        if name not in body:
            raise UnprocessableEntity(f'"{name}" is missing; send {wanted}.')
    if not body:
        raise UnprocessableEntity(f"The object is empty; send {wanted}.")
    return body


def checked_title(title: str) -> str:
    """Return ``title`` without the white space around it.

    :raises UnprocessableEntity: it has no visible character, more than 200 characters, or a control character.
    """
    title = title.strip()
    if title and len(title) <= MAX_TITLE_CHARACTERS and title.isascii() and title.isprintable():
        return title  # as most titles are
    kinds = [unicodedata.category(character) for character in title]
    for character, kind in zip(title, kinds, strict=True):
        if kind in _REFUSED:
            code = f"U+{ord(character):04X}"
            raise UnprocessableEntity(f'"title" holds the control character {code}; write one line of plain text.')
    if all(kind[0] in "CZ" for kind in kinds):
        raise UnprocessableEntity('"title" is empty; write at least one visible character.')
    if len(title) > MAX_TITLE_CHARACTERS:
        raise UnprocessableEntity(f'"title" has {len(title)} characters; shorten it to {MAX_TITLE_CHARACTERS}.')
    return title


def _wanted(required: Collection[str], optional: Collection[str]) -> str:
    if not required:
        return " or ".join(f'"{name}"' for name in optional) + " or both"
    return " and ".join([f'"{name}"' for name in required] + [f'"{name}" if you like' for name in optional])
