"""Reads the JSON in a request's body, within a limit. A fault is an HTTP error with a reason."""

from __future__ import annotations

import json

from werkzeug.exceptions import BadRequest, ClientDisconnected, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.wrappers import Request

_JSON = "application/json"

# Bytes of a body with an event: an event of the longest data in ASCII, and many usual ones.
EVENT_BODY_BYTES = 1024 * 1024 + 4096


def read_json(request: Request, limit: int) -> object:
    """Read the JSON in the body (RFC 8259).

    :param limit: the longest body that is read, in bytes; also for a body without a length.
    :raises UnsupportedMediaType: the content type is not JSON. A form of another site cannot send JSON.
    :raises RequestEntityTooLarge: the body is longer.
    :raises BadRequest: the body is not valid JSON, or not complete.
    """
    if request.environ.get("CONTENT_TYPE") != _JSON and request.mimetype != _JSON:
        raise UnsupportedMediaType("Send the body as JSON, with the header Content-Type: application/json.")
    # One byte more than is allowed. If a body has no length, Werkzeug reads this many bytes and silently ignores
    # the rest. So only the one byte too many shows that the body was too long.
    request.max_content_length = limit + 1
    too_large = RequestEntityTooLarge(f"The body is over {limit // 1024} KiB; send a shorter one.")
    length = request.content_length
    try:
        # Werkzeug's limit is only needed for a body without a length. It makes buffers of the limit's size.
        data = request.get_data() if length is None or length > limit else _read(request, length)
    except RequestEntityTooLarge:
        raise too_large from None
    if len(data) > limit:
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


def _read(request: Request, length: int) -> bytes:
    """Read a body of this length, or as much as the client has sent of it."""
    stream = request.environ["wsgi.input"]
    data: bytes = b""
    try:
        while len(data) < length and (more := stream.read(length - len(data))):
            data += more
    except (OSError, ValueError):  # as Werkzeug does
        raise ClientDisconnected from None
    return data


def quoted(name: str) -> str:
    """Return text from a client as a message can show it: shortened, and with escapes.

    A header or a log could not carry all characters.
    """
    return json.dumps(name if len(name) <= 40 else name[:40] + "…", ensure_ascii=True)


def kind_of(value: object) -> str:
    """Return the kind of a value from JSON, with its article."""
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
