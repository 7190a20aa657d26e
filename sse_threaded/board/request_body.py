"""Reads and checks request bodies. The result may be stored; an invalid body is an HTTP error with a reason."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection

from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    RequestEntityTooLarge,
    UnprocessableEntity,
    UnsupportedMediaType,
)
from werkzeug.wrappers import Request

# Sixty times the longest title in the longest escapes. No honest request needs so much.
MAX_BODY_BYTES = 64 * 1024

# Eight lines on a phone: enough for a title, too little for a description.
MAX_TITLE_CHARACTERS = 200

_JSON = "application/json"

# Unicode categories that one line of text must not contain: control characters, lone surrogates, and the
# separators of lines and paragraphs.
_REFUSED = ("Cc", "Cs", "Zl", "Zp")


class BoardRequest(Request):
    """A request. Werkzeug limits its body while it reads it, so a chunked body is limited too."""

    # One byte more than is allowed. If a body has no length, Werkzeug reads this many bytes and silently ignores
    # the rest. So only the one byte too many shows that the body was too long.
    max_content_length = MAX_BODY_BYTES + 1


def read_object(
    request: BoardRequest, required: Collection[str] = (), optional: Collection[str] = ()
) -> dict[str, str]:
    """Read the JSON object in the body; the value of each member is a string.

    :param required: names of members that must be present.
    :param optional: names of members that may be present.
    :raises UnsupportedMediaType: the content type is not JSON. A form of another site cannot send JSON.
    :raises RequestEntityTooLarge: the body is longer than 64 KiB.
    :raises BadRequest: the body is not valid JSON (RFC 8259), or not complete.
    :raises UnprocessableEntity: the JSON is not an object, or a member is missing, unknown or not a string.
    """
    if request.environ.get("CONTENT_TYPE") != _JSON and request.mimetype != _JSON:
        raise UnsupportedMediaType("Send the body as JSON, with the header Content-Type: application/json.")
    wanted = _wanted(required, optional)
    body = _read_json(request)
    if not isinstance(body, dict):
        raise UnprocessableEntity(f"The body is {_kind(body)}; send a JSON object with {wanted}.")
    for name, value in body.items():
        if name not in (*required, *optional):
            raise UnprocessableEntity(f"There is no member {_quoted(name)} here; send {wanted}.")
        if not isinstance(value, str):
            raise UnprocessableEntity(f'"{name}" is {_kind(value)}; send it as a string.')
    for name in required:
        if name not in body:
            raise UnprocessableEntity(f'"{name}" is missing; send {wanted}.')
    if not body:
        raise UnprocessableEntity(f"The object is empty; send {wanted}.")
    return body


def _read_json(request: BoardRequest) -> object:
    too_large = RequestEntityTooLarge(f"The body is over {MAX_BODY_BYTES // 1024} KiB; send a shorter one.")
    length = request.content_length
    try:
        # Werkzeug's limit is only needed for a body without a length. It makes buffers of the limit's size.
        data = request.get_data() if length is None or length > MAX_BODY_BYTES else _read(request, length)
    except RequestEntityTooLarge:
        raise too_large from None
    if len(data) > MAX_BODY_BYTES:
        raise too_large
    if len(data) < (length or 0):
        # The client has closed the connection before the end (RFC 9112, section 8: an error). gunicorn returns the
        # bytes that it has.
        raise BadRequest("The body is shorter than its Content-Length; send all of it.")
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8; encode it as UTF-8.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest(f"The body is not JSON ({error.msg}, {where}); correct it there.") from None
    except (ValueError, RecursionError):  # a number with thousands of digits, or brackets nested thousands deep
        raise BadRequest("The body's JSON is too deep or its numbers too long; send a plain object.") from None


def _read(request: BoardRequest, length: int) -> bytes:
    """Read a body of this length, or as much as the client has sent of it."""
    stream = request.environ["wsgi.input"]
    data: bytes = b""
    try:
        while len(data) < length and (more := stream.read(length - len(data))):
            data += more
    except (OSError, ValueError):  # as Werkzeug does
        raise ClientDisconnected from None
    return data


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


def _quoted(name: str) -> str:
    # The text comes from the client: shorten it, and escape what a header or a log could not carry.
    return json.dumps(name if len(name) <= 40 else name[:40] + "…", ensure_ascii=True)


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
